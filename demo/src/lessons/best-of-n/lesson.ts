/** Lesson 6: choosing among n answers buys less with every doubling; RAFT makes the choice permanent. */
import * as v from "valibot";
import { judgeStage, judgeSteps } from "../../lib/lesson/judge-size.ts";
import { lastData, lastGain, lastMeasured, withError } from "../../lib/lesson/numbers.ts";
import { madeBy, recipeOf } from "../../lib/lesson/recipe.ts";
import { RESPONSE_LENGTH, TRAIN_PROMPTS } from "../../lib/lesson/sizes.ts";
import type { Lesson, LessonEvent, Numbers } from "../../lib/lesson/types.ts";

/** Who chooses the best answer. */
export const choosers = ["judge", "truth", "lot"] as const;
export type Chooser = (typeof choosers)[number];

/** Answers that are stored to each prompt. */
export const STORED = 32;
/** The n that are looked at. */
export const sizesOfN = [1, 2, 4, 8, 16, 32] as const;

export interface BestInput {
  by: Chooser;
  /** Pairs that the judge learns from. */
  pairs: number;
  /** Rounds of RAFT. */
  rounds: number;
  seed: number;
}

/** What the best of n has gained, over so many prompts, in standard deviations of the answers drawn. */
export interface Gains {
  prompts: number;
  rows: {
    n: number;
    /** log n - (n - 1) / n */
    kl: number;
    judge: number;
    judge_se: number;
    truth: number;
    truth_se: number;
    /** The judge's gain less the truth's, prompt by prompt. */
    ahead_se: number;
    /** What the truth would have gained by its own choice, and how much of it was missed. */
    possible: number;
    missed_se: number;
    /** What doubling to this n brought in truth, less what the first doubling did: its standard error. */
    slower_se: number;
  }[];
}

/** A prompt with all its stored answers. */
export interface Stored {
  prompt: string;
  /** `choice` is what the best is chosen by. */
  answers: { text: string; judge: number; truth: number; choice: number }[];
}

/** RAFT keeps one answer of so many, to so many prompts in a round. */
const OF = 8;
const KEPT = 8;
/** Rounds between two looks at the held-out prompts. */
export const LOOK_EVERY = 2;

/** Settings of `webrlhf raft`. */
export const settingsOf = ({ seed, rounds }: BestInput) => ({
  dialect: "corrected" as const,
  seed,
  learningRate: 5e-4,
  raftBatchSize: KEPT,
  topRewardPercentage: 1 / OF,
  perDeviceTrainBatchSize: KEPT / 2,
  numTrainEpochs: 3,
  maxSteps: rounds,
  responseLength: RESPONSE_LENGTH,
  temperature: 1, // below it, learning from any answers would make the policy better (lesson 2)
  monitor: false,
  showSamples: 0,
  showCandidates: true,
  saveSteps: LOOK_EVERY,
});

const schema = v.strictObject({
  by: v.picklist(choosers),
  pairs: v.pipe(v.number(), v.integer(), v.minValue(32), v.maxValue(2048)),
  rounds: v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(40)),
  seed: v.pipe(v.number(), v.integer(), v.minValue(0)),
});

const rounds = { S: 8, M: 8, L: 16 };
const input = (by: Chooser, pairs: number, seed = 42): BestInput => ({ by, pairs, rounds: rounds.S, seed });

const gains = (events: readonly LessonEvent[]): Gains | null => {
  const found = lastData<Gains>(events, "gains");
  // Of fewer prompts is not judged.
  return found && found.prompts >= 128 ? found : null;
};
const rowOf = ({ rows }: Gains, n: number) => rows[sizesOfN.indexOf(n as 32)];

export const lesson: Lesson<BestInput> = {
  slug: "best-of-n",
  number: 6,
  title: { en: "Best of n and RAFT", zh: "n 选优与 RAFT" },
  aha: {
    en: "Every doubling of n buys less, and whoever chooses by a judge gets more of what the judge likes than of what is good.",
    zh: "n 每翻一倍,收益就少一些;按评判来选,得到的更多是评判所喜欢的,而不是真正好的。",
  },
  input: (size, seed) => ({ by: "judge", pairs: 256, rounds: rounds[size], seed }),
  wrong: (size, seed) => ({ by: "lot", pairs: 256, rounds: rounds[size], seed }),
  parse: (value) => v.parse(schema, value),
  steps: ({ pairs, rounds }) => judgeSteps(pairs) + rounds,
  recipe: (input) =>
    input.by === "lot"
      ? null
      : recipeOf({
          name: "lesson-best-of-n",
          description: "A judge, and RAFT by what it or the truth chooses, as in the lesson on best of n.",
          stages: [
            judgeStage(input),
            {
              name: "raft",
              title: "RAFT",
              verb: "raft",
              settings: {
                rewardModelPath: input.by === "judge" ? madeBy("judge") : "builtin:world",
                maxTrainSamples: TRAIN_PROMPTS,
                ...settingsOf(input),
              },
            },
          ],
        }),
  noRecipe: {
    en: "a terminal chooses by a reward; the lot that chooses here is none.",
    zh: "终端里按奖励来选;这里的抽签不是奖励。",
  },
  recorded: [
    { name: { en: "The judge chooses", zh: "由评判来选" }, input: input("judge", 256) },
    { name: { en: "The truth itself chooses", zh: "由真实得分来选" }, input: input("truth", 256) },
    { name: { en: "The lot chooses", zh: "抽签来选" }, input: input("lot", 256) },
  ],
  predictions: [
    {
      id: "doubling",
      asks: {
        en: "Choosing from 2 answers instead of 1 makes stories better. Choosing from 32 instead of 16 makes them better by …",
        zh: "从 2 个里选,比只写 1 个更好。从 32 个里选,比从 16 个里选又好多少?",
      },
      options: [
        { id: "less", text: { en: "less than that", zh: "没有那么多" } },
        { id: "same", text: { en: "the same again", zh: "同样多" } },
        { id: "more", text: { en: "more: there are 16 more to choose from", zh: "更多:多了 16 个可选" } },
      ],
      outcome(events) {
        const found = gains(events);
        if (!found) return null;
        const { slower, slower_se } = slowing(found);
        return slower > 2 * slower_se ? "less" : slower < -2 * slower_se ? "more" : "same";
      },
    },
    {
      id: "truth",
      asks: {
        en: "How much truer do stories get, as n is doubled and doubled again? (1 is one standard deviation)",
        zh: "n 一次次翻倍,故事的真实得分提高多少?(1 表示一个标准差)",
      },
      xLabel: { en: "doublings of n", zh: "n 翻倍的次数" },
      yLabel: { en: "gain in truth", zh: "真实得分的提高" },
      x: [0, 5],
      y: [0, 2.5],
      outcome: (events) => (lastData<Gains>(events, "gains")?.rows ?? []).map(({ n, truth }) => [Math.log2(n), truth]),
    },
  ],
  truth: (events) => lastGain(events, "after", "truth"),
  checks: [
    {
      id: "slows",
      claim: {
        en: "The best of 32 is truly better than one answer, and the last doubling brought less than the first",
        zh: "32 选优确实更好,而最后一次翻倍带来的比第一次少",
      },
      measure(events) {
        const found = gains(events);
        if (!found) return null;
        const { truth, truth_se } = rowOf(found, 32);
        return { truth, truth_se, ...slowing(found) };
      },
      holds: (n) => n.truth > 2 * n.truth_se && n.slower > 2 * n.slower_se,
      says: (n, language) =>
        ({
          en: `Truth gained ${withError(n.truth, n.truth_se)} standard deviations; from 1 to 2 ${n.first.toFixed(2)}, from 16 to 32 ${n.last.toFixed(2)}.`,
          zh: `真实得分提高 ${withError(n.truth, n.truth_se)} 个标准差;从 1 到 2 提高 ${n.first.toFixed(2)},从 16 到 32 提高 ${n.last.toFixed(2)}。`,
        })[language],
    },
    {
      id: "ahead",
      claim: {
        en: "The judge thinks more of its choices than the truth does",
        zh: "评判对自己所选的评价高于真实得分",
      },
      measure(events) {
        const found = gains(events);
        if (!found) return null;
        const { judge, truth, ahead_se } = rowOf(found, AHEAD_AT);
        return { judge, truth, ahead_se };
      },
      holds: (n) => n.judge - n.truth > 2 * n.ahead_se,
      says: (n, language) =>
        ({
          en: `Best of ${AHEAD_AT}: ${n.judge.toFixed(2)} by the judge, ${n.truth.toFixed(2)} in truth, difference ${withError(n.judge - n.truth, n.ahead_se)}.`,
          zh: `${AHEAD_AT} 选优:按评判提高 ${n.judge.toFixed(2)},按真实得分提高 ${n.truth.toFixed(2)},相差 ${withError(n.judge - n.truth, n.ahead_se)}。`,
        })[language],
    },
    {
      id: "permanent",
      claim: {
        en: "After RAFT a single answer is better than before, to the judge and in truth",
        zh: "经过 RAFT,单独一个答案比以前好,评判这样看,真实得分也这样说",
      },
      measure(events) {
        const last = lastMeasured(events, "after");
        return last && { truth: last.truth, truth_se: last.truth_se, judge: last.judge, judge_se: last.judge_se };
      },
      holds: (n) => n.truth > 2 * n.truth_se && n.judge > 2 * n.judge_se,
      says: (n, language) =>
        ({
          en: `On 128 held-out prompts truth moved by ${withError(n.truth, n.truth_se)} standard deviations, the judge's score by ${withError(n.judge, n.judge_se)}.`,
          zh: `在 128 个未见提示上,真实得分变化 ${withError(n.truth, n.truth_se)} 个标准差,评判的打分变化 ${withError(n.judge, n.judge_se)}。`,
        })[language],
    },
  ],
  keep(event) {
    if (event.type !== "train") return event;
    const { event: inner } = event;
    if (inner.type === "rows") {
      if (inner.table !== "candidates") return null;
      return { ...event, event: { ...inner, rows: ofFirstPrompt(inner.rows) } };
    }
    if (inner.type !== "step") return null;
    const { loss } = inner.metrics;
    return { ...event, event: { ...inner, tokens: 0, seconds: 0, usage: {}, metrics: { loss } } };
  },
};

/** Where the judge's gain is held against the truth's. */
export const AHEAD_AT = 8;

/** A round's candidates to its first prompt: they compete with each other. */
export const ofFirstPrompt = <Row extends Record<string, unknown>>(rows: readonly Row[]): Row[] =>
  rows.filter(({ prompt_index }) => prompt_index === rows[0].prompt_index);

/** How much less the last doubling brought in truth than the first. */
function slowing(found: Gains): Numbers {
  const [first, last] = [rowOf(found, 2).truth, rowOf(found, 32).truth - rowOf(found, 16).truth];
  return { first, last, slower: first - last, slower_se: rowOf(found, 32).slower_se };
}
