/** Lesson 7: one iteration of PPO, token by token. */
import * as v from "valibot";
import type { RolloutRow } from "webrlhf/rlhf";
import { judgeStage, judgeSteps } from "../../lib/lesson/judge-size.ts";
import { lastGain, lastMeasured, withError } from "../../lib/lesson/numbers.ts";
import { madeBy, recipeOf } from "../../lib/lesson/recipe.ts";
import { RESPONSE_LENGTH, TRAIN_PROMPTS } from "../../lib/lesson/sizes.ts";
import type { Lesson, LessonEvent, Numbers, Size } from "../../lib/lesson/types.ts";
import { firstRollout } from "./opened.ts";

export const critics = ["judge", "none"] as const;
export const lams = [0, 0.5, 0.95, 1] as const;

export interface PpoInput {
  /** What the critic starts as: a copy of the judge, or none: it says 0 everywhere and learns nothing. */
  critic: (typeof critics)[number];
  /** Lambda of GAE. */
  lam: number;
  /** Weight of the KL penalty. */
  klCoef: number;
  size: Size;
  seed: number;
}

/** Responses that are laid open in each step. */
export const SHOWN = 4;
/** Optimizer steps on each rollout, of the policy and of the critic. */
export const UPDATES = 4;

/** How much is done in a size. */
export const planOf = ({ size }: Pick<PpoInput, "size">) => ({
  pairs: 256,
  responses: { S: 32, M: 32, L: 64 }[size],
  steps: 12,
  learningRate: 1.2e-3,
});

/** Settings of `webrlhf ppo`. */
export const settingsOf = (input: PpoInput) => {
  const { responses, steps, learningRate } = planOf(input);
  return {
    seed: input.seed,
    klCoef: input.klCoef,
    lam: input.lam,
    learningRate,
    criticLearningRate: input.critic === "none" ? 0 : learningRate,
    rolloutBatchSize: responses,
    perDeviceTrainBatchSize: responses, // each update learns from all responses
    numPpoEpochs: UPDATES,
    maxSteps: steps,
    responseLength: RESPONSE_LENGTH,
    showSamples: 0,
    showRollouts: SHOWN,
    saveSteps: 4,
  };
};

const schema = v.strictObject({
  critic: v.picklist(critics),
  lam: v.picklist(lams),
  klCoef: v.pipe(v.number(), v.minValue(0), v.maxValue(1)),
  size: v.picklist(["S", "M", "L"]),
  seed: v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(999_999_999)),
});

const ask = (asked: Partial<PpoInput> = {}): PpoInput => ({
  critic: "judge",
  lam: 0.95,
  klCoef: 0.1,
  size: "S",
  seed: 42,
  ...asked,
});

/** In the first step nothing differs from the reference, so that the score at the end is all the reward there is. */
function spread(events: readonly LessonEvent[]): Numbers | null {
  const rows = firstRollout(events)?.rows;
  if (!rows) return null;
  const share = (values: (row: RolloutRow) => number[]) => {
    const all = rows.flatMap((row) =>
      values(row).map((x, t, { length }) => ({ size: Math.abs(x), last: t === length - 1 })),
    );
    const sum = (some: typeof all) => some.reduce((total, { size }) => total + size, 0);
    return sum(all) === 0 ? 0 : sum(all.filter(({ last }) => !last)) / sum(all);
  };
  return { rewarded: share(({ rewards }) => rewards), credited: share(({ advantages }) => advantages) };
}

/** Of the advantages within an answer: how much they differ, against their size. */
function differ(rows: readonly RolloutRow[]): number {
  const parts = rows.map(({ advantages }) => {
    const mean = advantages.reduce((a, b) => a + b, 0) / advantages.length;
    const square = (of: (x: number) => number) => advantages.reduce((sum, x) => sum + of(x) ** 2, 0);
    return { between: square((x) => x - mean), all: square((x) => x) };
  });
  const sum = (of: "between" | "all") => parts.reduce((total, part) => total + part[of], 0);
  return sum("all") > 0 ? sum("between") / sum("all") : 0;
}

const pick = (metrics: Numbers, names: readonly string[]): Numbers =>
  Object.fromEntries(names.filter((name) => name in metrics).map((name) => [name, metrics[name]]));

/** The iterations that a recording has token by token. */
const RECORDED = [1, 6];

/** A row without what its ratios and values say already. */
const slim = (row: RolloutRow): RolloutRow => ({
  ...row,
  updates: row.updates.map((update) => ({ ...update, logProbs: [] })),
  ...(row.valueUpdates && {
    valueUpdates: row.valueUpdates.map((update, i) => ({
      ...update,
      values: i === 0 ? [] : update.values,
      clipped: [],
    })),
  }),
});

function keep(event: LessonEvent): LessonEvent | null {
  if (event.type === "measured") {
    const names = ["gold", "reward"].flatMap((name) => [name, `${name}_se`, `${name}_change`, `${name}_change_se`]);
    return { ...event, values: pick(event.values, [...names, "kl"]) };
  }
  if (event.type === "samples") return event;
  if (event.type !== "train") return null;
  const { event: told, stage } = event;
  if (told.type === "step") {
    const names = stage === "judge" ? ["loss"] : ["reward", "gold", "kl"];
    return { type: "train", stage, event: { ...told, metrics: pick(told.metrics, names) } };
  }
  if (told.type !== "rollout" || !RECORDED.includes(told.step)) return null;
  return { type: "train", stage, event: { ...told, rows: told.rows.map(slim) } };
}

const percent = (share: number): string => `${Math.round(100 * share)} %`;

export const lesson: Lesson<PpoInput> = {
  slug: "ppo",
  number: 7,
  title: { en: "PPO opened up", zh: "打开 PPO 看一看" },
  aha: {
    en: "Only the end of an answer is scored; the critic spreads the score over its tokens.",
    zh: "只有回答的结尾得到打分;评论家把这个分数分摊到每个词元上。",
  },
  input: (size, seed) => ask({ size, seed }),
  wrong: (size, seed) => ask({ size, seed, critic: "none", lam: 0 }),
  parse: (value) => v.parse(schema, value) as PpoInput,
  steps: (input) => judgeSteps(planOf(input).pairs) + planOf(input).steps,
  recipe: (input) =>
    input.critic === "none"
      ? null
      : recipeOf({
          name: "lesson-ppo",
          description: "A judge, and PPO against it, as in the lesson on PPO.",
          stages: [
            judgeStage({ pairs: planOf(input).pairs, seed: input.seed }),
            {
              name: "ppo",
              title: "PPO",
              verb: "ppo",
              settings: { rewardModelPath: madeBy("judge"), maxTrainSamples: TRAIN_PROMPTS, ...settingsOf(input) },
            },
          ],
        }),
  noRecipe: {
    en: "a terminal's critic is always a model that learns, so PPO without one runs here alone.",
    zh: "终端里的评论家总是一个会学习的模型,因此没有评论家的 PPO 只能在这里运行。",
  },
  recorded: [
    { name: { en: "PPO as it is", zh: "普通的 PPO" }, input: ask() },
    {
      name: { en: "No critic, λ = 0: only the end learns", zh: "没有评论家,λ = 0:只有结尾学习" },
      input: ask({ critic: "none", lam: 0 }),
    },
    {
      name: { en: "No critic, λ = 1: all tokens alike", zh: "没有评论家,λ = 1:所有词元一样" },
      input: ask({ critic: "none", lam: 1 }),
    },
    { name: { en: "Another seed", zh: "另一个随机种子" }, input: ask({ seed: 43 }) },
  ],
  keep,
  predictions: [
    {
      id: "where",
      asks: {
        en: "The judge scores the whole answer, once, at its end. Which tokens will be told that they did well or badly?",
        zh: "裁判只在结尾给整个回答打一次分。哪些词元会被告知自己做得好或不好?",
      },
      options: [
        { id: "last", text: { en: "The last one alone", zh: "只有最后一个" } },
        { id: "alike", text: { en: "All of an answer's, all alike", zh: "回答里的全部,都一样" } },
        { id: "each", text: { en: "All, but each differently", zh: "全部,但各不相同" } },
      ],
      outcome(events) {
        const numbers = spread(events);
        if (!numbers) return null;
        if (numbers.credited < 0.05) return "last";
        return differ(firstRollout(events)?.rows ?? []) < 0.1 ? "alike" : "each";
      },
    },
  ],
  truth: (events) => lastGain(events, "after"),
  checks: [
    {
      id: "spread",
      claim: {
        en: "In the first step the reward lies on the last token alone, yet more than half of the advantage lies before it",
        zh: "第一步中,奖励只在最后一个词元上,但超过一半的优势在它之前",
      },
      measure: spread,
      holds: (n) => n.rewarded < 0.01 && n.credited > 0.5,
      says: (n, language) =>
        ({
          en: `Before the last token lie ${percent(n.rewarded)} of the rewards and ${percent(n.credited)} of the advantages (both by size).`,
          zh: `最后一个词元之前:奖励占 ${percent(n.rewarded)},优势占 ${percent(n.credited)}(均按绝对值)。`,
        })[language],
    },
    {
      id: "rises",
      claim: { en: "The stories got truly better", zh: "故事确实变好了" },
      measure: (events) => {
        const values = lastMeasured(events, "after");
        return values && { gold_change: values.gold_change, gold_change_se: values.gold_change_se };
      },
      holds: (n) => n.gold_change > 2 * n.gold_change_se,
      says: (n, language) =>
        ({
          en: `Truth moved by ${withError(n.gold_change, n.gold_change_se)} on 128 held-out prompts.`,
          zh: `在 128 个未见提示上,真实得分变化 ${withError(n.gold_change, n.gold_change_se)}。`,
        })[language],
    },
  ],
};
