/** Rewards: functions from responses to numbers, of which several make one. */

import type { Model, ScoreModel } from "../nn/models.ts";
import type { TextTokenizer } from "../nn/text-tokenizer.ts";
import { UserError } from "../runtime/errors.ts";
import type { Evictable } from "../tensor/residency.ts";
import type { Response } from "./sampler.ts";
import { scoreSequences } from "./scores.ts";
import { average } from "./stats.ts";

/**
 * Scores responses: a model, a rule, a service. Gives one finite number per response, at once or as a promise. It sees each
 * response as text, ids and messages, and the dataset's row with every column.
 */
export interface RewardFunction {
  (responses: readonly Response[]): ArrayLike<number> | Promise<ArrayLike<number>>;
  /** What it counts where several rewards are added. Default 1. */
  weight?: number;
  /** The reward for responses of a policy with this tokenizer, where a reward model may have another one. */
  forTokenizer?: (policyTokenizer: TextTokenizer) => RewardFunction;
  /** The memory that it needs on the GPU, where that may leave in between. */
  residents?: readonly Evictable[];
  /** Somebody elsewhere judges: a call that failed is not made again to find out what it failed for, unless settings ask for it. */
  remote?: boolean;
  /** The models that score. They compute in half precision where the policy does. */
  models?: readonly Model[];
}

/** One reward, several in a row, or several by name; their weighted sum is learned, and each is logged. */
export type Rewards = RewardFunction | readonly RewardFunction[] | Readonly<Record<string, RewardFunction>>;

/** Several rewards with their names and weights. */
export interface RewardParts {
  readonly names: readonly string[];
  readonly functions: readonly RewardFunction[];
  readonly weights: readonly number[];
}

/**
 * Rewards by name, with their weights, for a policy with this tokenizer; those without a name are called reward_1, reward_2
 * and so on.
 * @param weights one for each, in their order; null gives each its own, or 1
 * @throws UserError where there is no reward, or another number of weights
 */
export function rewardParts(
  rewards: Rewards,
  tokenizer: TextTokenizer,
  weights: readonly number[] | null = null,
): RewardParts {
  const given = typeof rewards === "function" ? [rewards] : rewards;
  const named = Array.isArray(given)
    ? given.map((f: RewardFunction, i) => [f.name || `reward_${i + 1}`, f] as const)
    : Object.entries(given as Readonly<Record<string, RewardFunction>>);
  if (named.length === 0) throw new UserError("there is no reward to learn from");
  if (weights && weights.length !== named.length) {
    throw new UserError(`there are ${weights.length} reward weights for ${named.length} rewards: give one for each`);
  }
  const names: string[] = [];
  for (const [name] of named) {
    let free = name;
    for (let n = 2; names.includes(free); n++) free = `${name}-${n}`;
    names.push(free);
  }
  return {
    names,
    functions: named.map(([, f]) => f.forTokenizer?.(tokenizer) ?? f),
    weights: weights ?? named.map(([, { weight = 1 }]) => weight),
  };
}

/** A reward that gave another number of scores than there are responses: whose they are nobody knows. */
export class WrongCount extends UserError {}

/** Calls a reward function. Throws `WrongCount` where it returns anything but one number per response. */
export async function countedScores(reward: RewardFunction, responses: readonly Response[]): Promise<number[]> {
  const scores = Array.from(await reward(responses));
  if (scores.length === responses.length) return scores;
  throw new WrongCount(`the reward function returned ${scores.length} scores for ${responses.length} responses`);
}

/** Calls a reward function. Throws `UserError` where it returns anything but one finite number per response. */
export async function rewardsOf(reward: RewardFunction, responses: readonly Response[]): Promise<number[]> {
  const scores = await countedScores(reward, responses);
  const bad = scores.findIndex((s) => !Number.isFinite(s));
  if (bad >= 0) throw unusableScore(scores[bad], responses[bad]);
  return scores;
}

/** Says of a score that it is none. */
export const unusableScore = (score: number, { text, promptText }: Response): UserError =>
  new UserError(
    `the reward function returned ${score} for the response ${JSON.stringify(text)} to the prompt ` +
      `${JSON.stringify(promptText?.slice(0, 80))}: every reward must be a finite number`,
  );

/** The models among the rewards. */
export const judgesOf = (parts?: RewardParts): Model[] => parts?.functions.flatMap((f) => f.models ?? []) ?? [];

/** The mean of each reward, where there are several. */
export const partMeans = (names: readonly string[], parts: readonly (readonly number[])[]): Record<string, number> =>
  names.length > 1 ? Object.fromEntries(names.map((name, k) => [`rewards/${name}`, average(parts[k])])) : {};

/** How a model's scores become rewards. */
export interface ModelRewardOptions {
  /** Whether scores are normalised by the statistics that the model kept of its training. Default: as the model says. */
  normalize?: boolean;
}

/** Throws `UserError` where scores are to be normalised and the model has no statistics. */
export function takeNormalization({ scoring }: ScoreModel, { normalize }: ModelRewardOptions): void {
  if (normalize === undefined) return;
  if (normalize && !scoring.normalizer) {
    throw new UserError(
      "the reward model kept no statistics of its scores to normalise them by: train it with a normalizer " +
        "(normalizer_type), or normalise by running statistics",
    );
  }
  scoring.doNormalize = normalize;
}

/** The reward of a model that shares the policy's tokenizer: read at the last token as generated. */
export function modelReward(model: ScoreModel, options: ModelRewardOptions = {}): RewardFunction {
  takeNormalization(model, options);
  const score: RewardFunction = (responses) => scoreSequences(model, responses);
  score.residents = residentsOf(model);
  score.models = [model];
  return score;
}

/** A model's memory, and that of the one it stands on. */
export const residentsOf = (model: Model): Evictable[] => [
  model.store.resident,
  ...(model.baseModel ? residentsOf(model.baseModel) : []),
];
