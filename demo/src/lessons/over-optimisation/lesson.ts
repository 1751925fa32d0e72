/** Lesson 9: what is optimised hard enough stops being what was meant. */
import * as v from "valibot";
import { judgeStage, judgeSteps } from "../../lib/lesson/judge-size.ts";
import { lastGain, lastMeasured, withError } from "../../lib/lesson/numbers.ts";
import { madeBy, type RecipeStage, recipeOf } from "../../lib/lesson/recipe.ts";
import { RESPONSE_LENGTH, TRAIN_PROMPTS } from "../../lib/lesson/sizes.ts";
import type { Lesson, LessonEvent, Numbers, Size } from "../../lib/lesson/types.ts";
import { bySteps, looksOf, READABLE } from "./gains.ts";

export const methods = ["ppo", "raft", "dpo", "best-of-n"] as const;
export type Method = (typeof methods)[number];

/** What a visitor may choose for the KL penalty, and for the judge's pairs. */
export const klCoefs = [0, 0.05, 0.1, 0.3, 1] as const;
export const pairCounts = [64, 512, 2048] as const;

export interface OverInput {
  method: Method;
  /** Pairs that the judge learns from. */
  pairs: number;
  /** Weight of the KL penalty, of PPO alone. */
  klCoef: number;
  size: Size;
  seed: number;
}

/** How much is done in a size: optimizer steps of DPO, rollouts of PPO, rounds of RAFT. */
export interface Plan {
  steps: number;
  /** In a rollout or a round. */
  responses: number;
  learningRate: number;
}

const responses: Record<Size, number> = { S: 32, M: 32, L: 64 };

export const planOf = ({ method, size }: Pick<OverInput, "method" | "size">): Plan =>
  ({
    ppo: { steps: 30, responses: responses[size], learningRate: 1.6e-3 },
    raft: { steps: 12, responses: 4 * responses[size], learningRate: 6e-4 },
    dpo: { steps: 64, responses: 0, learningRate: 1e-3 },
    "best-of-n": { steps: 0, responses: 0, learningRate: 0 },
  })[method];

/** The steps after which the held-out prompts are looked at, besides the last. PPO's truth turns early: there it looks closer. */
export const isLook: Record<Method, (step: number) => boolean> = {
  ppo: (step) => step % (step <= 10 ? 2 : 5) === 0,
  raft: (step) => step % 2 === 0,
  dpo: (step) => step % 8 === 0,
  "best-of-n": () => true,
};
/** Steps between two states that a run can go on from. */
export const SAVE_EVERY: Record<Method, number> = { ppo: 5, raft: 2, dpo: 8, "best-of-n": 1 };
/** Best of how many. */
export const NS = [1, 2, 4, 8, 16] as const;

/** Settings of `webrlhf ppo`. */
export const ppoSettings = (input: OverInput) => {
  const { steps, responses, learningRate } = planOf(input);
  return {
    seed: input.seed,
    klCoef: input.klCoef,
    learningRate,
    criticLearningRate: learningRate,
    rolloutBatchSize: responses,
    perDeviceTrainBatchSize: Math.ceil(responses / 4), // four optimizer steps on each rollout
    maxSteps: steps,
    responseLength: RESPONSE_LENGTH,
    showSamples: 0,
    saveSteps: SAVE_EVERY.ppo,
  };
};

/** Settings of `webrlhf raft`. */
export const raftSettings = (input: OverInput) => {
  const { steps, responses, learningRate } = planOf(input);
  return {
    seed: input.seed,
    learningRate,
    raftBatchSize: Math.max(1, Math.round(responses / 8)),
    topRewardPercentage: 1 / 8,
    perDeviceTrainBatchSize: Math.max(1, Math.ceil(responses / 16)),
    numTrainEpochs: 3,
    maxSteps: steps,
    responseLength: RESPONSE_LENGTH,
    maskPrompt: true,
    appendEos: true,
    showSamples: 0,
    saveSteps: SAVE_EVERY.raft,
  };
};

/** Settings of `webrlhf dpo`. */
export const dpoSettings = (input: OverInput) => {
  const { steps, learningRate } = planOf(input);
  return {
    seed: input.seed,
    beta: 0.1,
    learningRate,
    maxSteps: steps,
    perDeviceTrainBatchSize: 8,
    saveSteps: SAVE_EVERY.dpo,
  };
};

const rewarded = { rewardModelPath: madeBy("judge"), maxTrainSamples: TRAIN_PROMPTS };

/** The policy's training as a recipe's stage; best-of-n trains none. */
function policyStages(input: OverInput): RecipeStage[] {
  if (input.method === "ppo") {
    return [{ name: "ppo", title: "PPO", verb: "ppo", settings: { ...rewarded, ...ppoSettings(input) } }];
  }
  if (input.method === "raft") {
    return [{ name: "raft", title: "RAFT", verb: "raft", settings: { ...rewarded, ...raftSettings(input) } }];
  }
  if (input.method === "best-of-n") return [];
  const settings = { datasetName: "builtin:world", maxTrainSamples: input.pairs, ...dpoSettings(input) };
  return [{ name: "dpo", title: "DPO", verb: "dpo", settings }];
}

const schema = v.strictObject({
  method: v.picklist(methods),
  pairs: v.picklist(pairCounts),
  klCoef: v.pipe(v.number(), v.minValue(0), v.maxValue(1)),
  size: v.picklist(["S", "M", "L"]),
  seed: v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(999_999_999)),
});

const free = (asked: Partial<OverInput> = {}): OverInput => ({
  method: "ppo",
  pairs: 512,
  klCoef: 0,
  size: "S",
  seed: 42,
  ...asked,
});

/** Recorded besides, because one seed could mislead. */
const OTHER_SEEDS = [43, 44];

const LOOKED = ["gold", "gold_se", "gold_std", "gold_change", "gold_change_se", "reward", "reward_std"];
const JUDGED = ["reward_change", "reward_change_se", "kl", "peak_step", "drop", "drop_se"];

function keep(event: LessonEvent): LessonEvent | null {
  if (event.type === "measured") {
    const names = [...LOOKED, ...JUDGED].filter((name) => name in event.values);
    return { ...event, values: Object.fromEntries(names.map((name) => [name, event.values[name]])) };
  }
  if (event.type === "samples" || event.type === "data") return event;
  if (event.type !== "train") return null;
  const { event: told, stage } = event;
  // A judge of many pairs learns for long: of its later steps every fourth shows the curve.
  if (told.type === "step" && stage === "judge" && (told.step <= 64 || told.step % 4 === 0)) {
    return { type: "train", stage, event: { ...told, metrics: { loss: told.metrics.loss } } };
  }
  return told.type === "end" ? { type: "train", stage, event: { ...told, metrics: {} } } : null;
}

/** The last look that tells of a turn; null: there was none yet. */
const turn = (events: readonly LessonEvent[], names: readonly string[]): Numbers | null => {
  const values = lastMeasured(events, "look");
  const training = events.flatMap((e) => (e.type === "train" && e.stage === "policy" ? [e.event] : []));
  const untrained = training.length === 0; // it chooses, up to the most answers
  const ended = untrained ? looksOf(events).at(-1)?.step === NS.at(-1) : training.at(-1)?.type === "end";
  if (!values || !ended || values.drop === undefined) return null;
  return Object.fromEntries(names.map((name) => [name, values[name]]));
};

export const lesson: Lesson<OverInput> = {
  slug: "over-optimisation",
  number: 9,
  title: { en: "Over-optimisation", zh: "过度优化" },
  aha: {
    en: "The judge's score keeps rising; the truth turns over.",
    zh: "裁判的打分一直上升,真实质量却调头向下。",
  },
  input: (size, seed) => free({ size, seed }),
  // It pleases the judge without going where the judge is wrong.
  wrong: (size, seed) => free({ size, seed, method: "best-of-n" }),
  parse: (value) => v.parse(schema, value) as OverInput,
  steps: (input) => judgeSteps(input.pairs) + planOf(input).steps,
  recipe: (input) =>
    recipeOf({
      name: "lesson-over-optimisation",
      description: "A judge, and a policy that learns to please it, as in the lesson on over-optimisation.",
      stages: [judgeStage(input), ...policyStages(input)],
    }),
  recorded: [
    { name: { en: "PPO, no penalty", zh: "PPO,没有惩罚" }, input: free() },
    { name: { en: "PPO, penalty 1", zh: "PPO,惩罚 1" }, input: free({ klCoef: 1 }) },
    {
      name: { en: "PPO, no penalty, judge of 2048 pairs", zh: "PPO,没有惩罚,裁判学过 2048 对" },
      input: free({ pairs: 2048 }),
    },
    { name: { en: "RAFT", zh: "RAFT" }, input: free({ method: "raft" }) },
    { name: { en: "DPO", zh: "DPO" }, input: free({ method: "dpo" }) },
    { name: { en: "Best of n", zh: "n 选一" }, input: free({ method: "best-of-n" }) },
    ...OTHER_SEEDS.map((seed) => ({
      name: { en: `PPO, no penalty, seed ${seed}`, zh: `PPO,没有惩罚,种子 ${seed}` },
      input: free({ seed }),
    })),
  ],
  keep,
  predictions: [
    {
      id: "truth",
      asks: {
        en: "PPO pleases the judge for 30 steps, and nothing holds it back. Draw what becomes of the truth.",
        zh: "PPO 连续 30 步讨好裁判,没有任何东西拉住它。画出真实得分会怎样。",
      },
      xLabel: { en: "step of PPO", zh: "PPO 步数" },
      yLabel: { en: "truth, sd above the start", zh: "真实得分,高出起点多少个标准差" },
      x: [0, 30],
      y: [...READABLE],
      outcome: (events) => bySteps(looksOf(events), "gold"),
    },
  ],
  truth: (events) => lastGain(events, "look"),
  checks: [
    {
      id: "turns",
      claim: {
        en: "The truth turned over: at the end it lies below its best look",
        zh: "真实得分调头了:结束时低于它最好的时候",
      },
      measure: (events) => turn(events, ["peak_step", "drop", "drop_se", "gold_change", "gold_change_se"]),
      holds: (n) => n.drop > 2 * n.drop_se,
      says: (n, language) =>
        ({
          en: `Best at ${n.peak_step}; from there to the end the truth fell by ${withError(n.drop, n.drop_se)} on 128 held-out prompts: half of them name the best look, the other half measure the fall.`,
          zh: `最好是在 ${n.peak_step} 处;从那里到结束,真实得分在 128 个未见提示上下降 ${withError(n.drop, n.drop_se)}:一半提示指出最好的时候,另一半测量下降。`,
        })[language],
    },
    {
      id: "far",
      claim: {
        en: "The judge is more pleased than at the start, more than 10 nats away from it",
        zh: "裁判比起点时更满意,而策略离起点超过 10 nat",
      },
      measure: (events) => turn(events, ["kl", "reward_change", "reward_change_se"]),
      holds: (n) => n.kl > 10 && n.reward_change > 2 * n.reward_change_se,
      says: (n, language) =>
        ({
          en: `KL ${n.kl.toFixed(1)} nats; the judge's score moved by ${withError(n.reward_change, n.reward_change_se)}.`,
          zh: `KL ${n.kl.toFixed(1)} nat;裁判的打分变化 ${withError(n.reward_change, n.reward_change_se)}。`,
        })[language],
    },
  ],
};
