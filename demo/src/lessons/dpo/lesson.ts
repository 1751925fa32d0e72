/** Lesson 8: DPO moves both answers of a pair, mostly down; fresh pairs teach more than stale ones. */
import * as v from "valibot";
import { judgeSteps } from "../../lib/lesson/judge-size.ts";
import { lastData, lastGain, lastMeasured, withError } from "../../lib/lesson/numbers.ts";
import type { Lesson, LessonEvent } from "../../lib/lesson/types.ts";

/** Who says which answer of a pair is better. */
export const labellers = ["person", "judge", "lot"] as const;
export type Labeller = (typeof labellers)[number];

export interface DpoInput {
  labels: Labeller;
  /** How closely the policy is held to the reference. */
  beta: number;
  /** Pairs that are made in each of three rounds. */
  pairs: number;
  seed: number;
}

/** Rounds of making pairs and training on them; the first is common to both ways. */
export const ROUNDS = 3;
export const BATCH = 8;
/** Held-out prompts: the two ways lie close, so that more are asked than elsewhere. */
export const PROMPTS = 256;
/** Pairs that the judge learns from. */
export const JUDGE_PAIRS = 256;

export const stepsOfRound = ({ pairs }: DpoInput): number => Math.ceil(pairs / BATCH);

/** A way of getting pairs. */
export type Way = "offline" | "online";

/** The pairs that are followed. */
export interface Followed {
  prompt: string;
  chosen: string;
  rejected: string;
  /** Log-probabilities under the reference, in nats. */
  refChosen: number;
  refRejected: number;
}

/** Log-probabilities of the followed pairs under the policy after so many steps; "both" in the round that is common. */
export interface Moved {
  way: Way | "both";
  step: number;
  chosen: number[];
  rejected: number[];
}

const schema = v.strictObject({
  labels: v.picklist(labellers),
  beta: v.pipe(v.number(), v.minValue(0.01), v.maxValue(1)),
  pairs: v.pipe(v.number(), v.integer(), v.minValue(BATCH), v.maxValue(1024)),
  seed: v.pipe(v.number(), v.integer(), v.minValue(0)),
});

const pairs = { S: 128, M: 128, L: 256 };
const input = (beta: number, labels: Labeller = "person", seed = 42): DpoInput => ({
  labels,
  beta,
  pairs: pairs.S,
  seed,
});

/** What the last look at a way's held-out pairs and answers found. */
const end = (events: readonly LessonEvent[]) => lastMeasured(events, "versus");

export const lesson: Lesson<DpoInput> = {
  slug: "dpo",
  number: 8,
  title: { en: "DPO, offline and online", zh: "DPO:离线与在线" },
  aha: {
    en: "DPO widens the gap between two answers, and even the chosen one gets less likely; fresh pairs teach more than stale ones.",
    zh: "DPO 拉开两个答案之间的距离,连被选中的答案也变得更不可能;新鲜的偏好对比陈旧的教得更多。",
  },
  input: (size, seed) => ({ labels: "person", beta: 0.1, pairs: pairs[size], seed }),
  wrong: (size, seed) => ({ labels: "lot", beta: 0.1, pairs: pairs[size], seed }),
  parse: (value) => v.parse(schema, value),
  noRecipe: {
    en: "the pairs of this run are the model's own, labelled here; “webrlhf iterate” does the like, with other prompts in each round.",
    zh: "这次运行的样本对由模型自己写出、在这里标注;“webrlhf iterate”做同类的事,但每轮的提示不同。",
  },
  steps: (asked) => (asked.labels === "judge" ? judgeSteps(JUDGE_PAIRS) : 0) + stepsOfRound(asked) * (2 * ROUNDS - 1),
  recorded: [
    { name: { en: "A person labels", zh: "由人来标注" }, input: input(0.1) },
    { name: { en: "Labels by lot", zh: "抽签决定标签" }, input: input(0.1, "lot") },
    { name: { en: "A reward model labels", zh: "由奖励模型标注" }, input: input(0.1, "judge") },
  ],
  predictions: [
    {
      id: "chosen",
      asks: {
        en: "DPO trains on pairs: this answer rather than that one. What becomes of the probability of the chosen answers?",
        zh: "DPO 用偏好对训练:要这个答案,不要那个。被选中的答案的概率会怎样?",
      },
      options: [
        { id: "up", text: { en: "It rises: they were preferred", zh: "上升:毕竟它们被选中了" } },
        { id: "same", text: { en: "It stays, the other one's falls", zh: "不变,另一个的下降" } },
        { id: "down", text: { en: "It falls, only less than the other one's", zh: "也下降,只是比另一个少" } },
      ],
      outcome(events) {
        const found = end(events);
        if (!found) return null;
        const { chosen, chosen_se: error } = found;
        return chosen > 2 * error ? "up" : chosen < -2 * error ? "down" : "same";
      },
    },
    {
      id: "fresh",
      asks: {
        en: "Equal prompts, equal labeller, equal number of pairs and steps. Which pairs teach more?",
        zh: "提示、标注者、对数和步数都相同。哪一种偏好对教得更多?",
      },
      options: [
        { id: "stale", text: { en: "Those written before training", zh: "训练前写好的" } },
        { id: "fresh", text: { en: "Those that the model writes as it learns", zh: "模型边学边写的" } },
        { id: "same", text: { en: "No difference that can be told", zh: "看不出差别" } },
      ],
      outcome(events) {
        const found = end(events);
        if (!found) return null;
        const { fresh, fresh_se: error } = found;
        return fresh > 2 * error ? "fresh" : fresh < -2 * error ? "stale" : "same";
      },
    },
  ],
  truth: (events) => lastGain(events, "online"),
  checks: [
    {
      id: "apart",
      claim: {
        en: "It learned to tell answers apart that it never saw",
        zh: "它学会了区分没见过的答案",
      },
      measure: (events) => {
        const found = end(events);
        return found && { margin: found.margin, margin_se: found.margin_se };
      },
      holds: (n) => n.margin > 2 * n.margin_se,
      says: (n, language) =>
        ({
          en: `On 128 held-out pairs the chosen answer gained ${withError(n.margin, n.margin_se)} nats on the rejected one.`,
          zh: `在 128 个未见的偏好对上,被选中的比被拒绝的多得 ${withError(n.margin, n.margin_se)} 奈特。`,
        })[language],
    },
    {
      id: "falls",
      claim: {
        en: "And yet the chosen answers themselves became less likely",
        zh: "然而被选中的答案本身也变得更不可能",
      },
      measure: (events) => {
        const found = end(events);
        return (
          found && {
            chosen: found.chosen,
            chosen_se: found.chosen_se,
            rejected: found.rejected,
            margin: found.margin,
            margin_se: found.margin_se,
          }
        );
      },
      holds: (n) => n.chosen < -2 * n.chosen_se && n.margin > 2 * n.margin_se,
      says: (n, language) =>
        ({
          en: `Chosen: ${withError(n.chosen, n.chosen_se)} nats. Rejected: ${n.rejected.toFixed(2)}.`,
          zh: `被选中的:${withError(n.chosen, n.chosen_se)} 奈特;被拒绝的:${n.rejected.toFixed(2)}。`,
        })[language],
    },
    {
      id: "fresh",
      claim: { en: "Fresh pairs beat stale ones", zh: "新鲜的偏好对胜过陈旧的" },
      measure: (events) => {
        const found = end(events);
        return found && { fresh: found.fresh, fresh_se: found.fresh_se };
      },
      holds: (n) => n.fresh > 2 * n.fresh_se,
      says: (n, language) =>
        ({
          en: `Truth, online less offline, on the same ${PROMPTS} held-out prompts: ${withError(n.fresh, n.fresh_se)}.`,
          zh: `同样的 ${PROMPTS} 个未见提示上,在线减离线的真实得分:${withError(n.fresh, n.fresh_se)}。`,
        })[language],
    },
  ],
  keep(event) {
    if (event.type !== "train") return event;
    const { event: inner } = event;
    if (inner.type === "rows" && inner.step % 2 === 0) {
      const rows = inner.rows.map((row) => ({ pair: row.pair, [MARGIN]: row[MARGIN] }));
      return { ...event, event: { ...inner, rows } };
    }
    if (inner.type !== "step") return null;
    return { ...event, event: { ...inner, tokens: 0, seconds: 0, usage: {}, metrics: { loss: inner.metrics.loss } } };
  },
};

/** The column of a pair's margin. */
export const MARGIN = "rewards/margins";

/** The followed pairs; null while there are none. */
export const followed = (events: readonly LessonEvent[]): Followed[] | null => lastData(events, "followed");

/** How the followed pairs moved on one way, from the first step on. */
export const moves = (events: readonly LessonEvent[], way: Way): Moved[] =>
  events.flatMap((e): Moved[] => {
    if (e.type !== "data" || e.name !== "moved") return [];
    const moved = e.data as unknown as Moved;
    return moved.way === "both" || moved.way === way ? [moved] : [];
  });
