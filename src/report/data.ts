/** What a report is made of. All numbers are as measured; nothing here is formatted. */
import type { PositionBias } from "../rlhf/llm-judge/compare.ts";
import type { RunRecord } from "../rlhf/record.ts";
import type { WinRates } from "../rlhf/win-rate.ts";

/** Numbers of a line of metrics.jsonl by name; null where one is missing. */
export type Metrics = Readonly<Record<string, number | null>>;

/** One training run: what it was, so far as that is recorded, and its logged lines. */
export interface RunData {
  readonly name: string;
  readonly title: string;
  /** Null for a run that has no record: its numbers do not say what made them. */
  readonly verb: string | null;
  readonly record: RunRecord | null;
  /** Step events; each has `step`. */
  readonly steps: readonly Metrics[];
  /** Evaluation events; each has `step`, other keys begin with `eval_`. */
  readonly evals: readonly Metrics[];
  /** Wall seconds, where known. */
  readonly seconds?: number;
  /** What the clock and the GPU's memory said of steps, evaluations and saves. */
  readonly usage?: readonly Metrics[];
}

/** A policy's held-out samples, in numbers. */
export interface PolicyResult {
  readonly label: string;
  /** Prompts (one kept response each). */
  readonly n: number;
  /** Mean and standard deviation of the reward model's score. */
  readonly reward: number | null;
  readonly reward_std: number | null;
  /** Mean and standard deviation of the true reward, where the task has one. */
  readonly gold: number | null;
  readonly gold_std: number | null;
  /** Nats per response against the reference. */
  readonly kl: number | null;
  readonly mean_length: number | null;
  /** Of episodes in an environment: the 95 % interval of the mean reward, and the part that reached what counts as a success. */
  readonly reward_low?: number | null;
  readonly reward_high?: number | null;
  readonly success_rate?: number | null;
  readonly success_low?: number | null;
  readonly success_high?: number | null;
  /** Of episodes: turns, tokens behind what the policy saw first, and the part that was over before it was cut off. */
  readonly mean_turns?: number | null;
  readonly mean_episode_length?: number | null;
  readonly eos_rate?: number | null;
  readonly distinct_1: number | null;
  readonly distinct_2: number | null;
  /** N-grams that occur once in all the responses. */
  readonly unique_1?: number | null;
  readonly unique_2?: number | null;
  /** Mean share of different words in windows of 100. */
  readonly msttr_100?: number | null;
  /** On held-out answers, and on held-out data as running text: by token, and as LMFlow averages windows. */
  readonly perplexity?: number | null;
  readonly text_perplexity?: number | null;
  readonly text_perplexity_by_window?: number | null;
}

/** A reward model on held-out pairs. */
export interface RewardResult {
  readonly label: string;
  readonly pairs: number;
  readonly accuracy: number;
  /** Accuracy of the true reward on the same noisy pairs: nobody can be better for long. */
  readonly noise_ceiling: number | null;
  /** Expected accuracy of the best score of single responses, where the judge's preferences have no order. */
  readonly order_ceiling?: number;
  /** Accuracy of always preferring the longer response. */
  readonly length_baseline: number | null;
}

/** A policy's answers against others to the same prompts, as a judge sees them. */
export interface WinRateResult extends WinRates {
  readonly label: string;
  /** Whose answers the others are. */
  readonly against: string;
  readonly position_bias: PositionBias;
}

/** What the verb evaluate writes to evaluation.json. */
export interface Evaluation {
  readonly adapter?: string;
  readonly policy?: PolicyResult & {
    readonly samples: readonly ({ readonly prompt: string } & Omit<SampleResponse, "label">)[];
  };
  readonly reward_model?: RewardResult;
  readonly win_rate?: WinRateResult;
}

/** One prompt with the responses of several policies. */
export interface SampleGroup {
  readonly prompt: string;
  readonly responses: readonly SampleResponse[];
}

export interface SampleResponse {
  readonly label: string;
  readonly text: string;
  readonly reward: number | null;
  readonly gold: number | null;
}

/** What the `stage.json` (begun) and `done.json` (finished) of a recipe's stage hold. */
export interface StageRecord {
  readonly name: string;
  readonly verb: string;
  readonly title: string;
  /** Of the options, the input stages and the input files: equal hash, equal result. */
  readonly hash: string;
  readonly options: Record<string, unknown>;
  readonly inputs: readonly string[];
  /** Place in the recipe, from 0. */
  readonly order: number;
  /** Wall seconds, all attempts of this process; only in done.json. */
  readonly seconds?: number;
}

export interface ReportData {
  readonly title: string;
  readonly description?: string;
  /** Name and value: adapter, seed, wall time, ... */
  readonly facts: readonly (readonly [name: string, value: string])[];
  readonly rewardModels: readonly RewardResult[];
  readonly runs: readonly RunData[];
  /** The first row is the model that the others started from. */
  readonly policies: readonly PolicyResult[];
  readonly samples: readonly SampleGroup[];
}

/** Names under which trainers log the same thing; the first one present counts. */
export const synonyms = {
  reward: ["objective/scores", "reward", "mean_reward"],
  gold: ["objective/gold", "gold", "gold_reward"],
  kl: ["objective/kl", "kl", "kl_divergence"],
  length: ["completions/mean_length", "mean_generated_length", "mean_length"],
  distinct1: ["distinct_1"],
  distinct2: ["distinct_2"],
  entropy: ["objective/entropy", "policy/entropy_avg", "entropy"],
  loss: ["loss", "loss/policy_avg", "actor_loss"],
  valueLoss: ["loss/value_avg", "reward_critic_loss", "critic_loss"],
  accuracy: ["accuracy", "rewards/accuracies", "mean_token_accuracy"],
  margin: ["rewards/margins"],
  chosenReward: ["rewards/chosen"],
  rejectedReward: ["rewards/rejected"],
  learningRate: ["learning_rate", "lr", "actor_lr"],
} as const;

export type Quantity = keyof typeof synonyms;

/** The value of a quantity in a logged line, or null. Evaluations' names count with and without `eval_`. */
export function quantity(row: Metrics, name: Quantity): number | null {
  for (const key of synonyms[name]) {
    const value = row[key] ?? row[`eval_${key}`];
    if (typeof value === "number" && Number.isFinite(value)) return value;
  }
  return null;
}

/** (step, value) of every line that has the quantity. */
export function curve(rows: readonly Metrics[], name: Quantity): [number, number][] {
  const points: [number, number][] = [];
  for (const row of rows) {
    const value = quantity(row, name);
    if (value !== null && typeof row.step === "number") points.push([row.step, value]);
  }
  return points;
}
