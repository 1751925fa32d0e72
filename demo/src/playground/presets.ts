/** The questions that the playground suggests, each with a recorded run. */
import type { Text } from "../lib/language.ts";
import type { Size } from "../lib/lesson/types.ts";
import { type Knobs, ofMethod } from "./knobs.ts";

export interface Preset {
  readonly name: Text;
  readonly question: Text;
  /** What makes it this question. */
  readonly asks: Partial<Knobs>;
  readonly size?: Size;
  readonly seed?: number;
  /** The lesson that takes the question up. */
  readonly lesson?: string;
}

export const presets: readonly Preset[] = [
  {
    name: { en: "The ordinary case", zh: "通常的情形" },
    question: { en: "Do the judge's score and the truth both rise?", zh: "评判的打分和真实得分都会上升吗?" },
    asks: {},
  },
  {
    name: { en: "No KL penalty", zh: "没有 KL 惩罚" },
    question: {
      en: "What happens to the truth when nothing holds the policy back?",
      zh: "没有任何东西拉住策略时,真实得分会怎样?",
    },
    asks: { klCoef: 0, learningRate: 1.6e-3, pairs: 512, steps: 30 },
    lesson: "over-optimisation",
  },
  {
    name: { en: "A poor judge", zh: "糟糕的评判" },
    question: { en: "What does a judge of 64 pairs teach?", zh: "只学过 64 对的评判教得出什么?" },
    asks: { pairs: 64 },
    lesson: "reward-model",
  },
  {
    name: { en: "RAFT instead", zh: "改用 RAFT" },
    question: { en: "Is it enough to imitate one's own best stories?", zh: "只模仿自己最好的故事,够吗?" },
    asks: { method: "raft", ...ofMethod.raft, responses: 128 },
    lesson: "best-of-n",
  },
  {
    name: { en: "The race", zh: "竞赛" },
    question: {
      en: "Same start, same judge, same number of generated tokens: which method gets furthest, at what distance?",
      zh: "同一起点、同一评判、同样多的生成词元:哪种方法走得最远,离起点又有多远?",
    },
    asks: { method: "race", ...ofMethod.race, pairs: 512 },
    lesson: "over-optimisation",
  },
];
