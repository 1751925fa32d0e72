/**
 * The arithmetic between a rollout and the losses: KL estimates, shaped rewards, advantages, whitening. Small arrays on
 * the host, in float64; formulas as in the papers named beside them. Everything is per sequence, response tokens only:
 * index t is the t-th response token.
 */
import { freshState, type NormalizerKind, type NormalizerState, type ScoreType } from "../nn/scoring.ts";
import { UserError } from "../runtime/errors.ts";

/** Per-token KL estimators of D = log p - log p_ref, for samples from p (Schulman, "Approximating KL divergence"). */
export type KlEstimator = "k1" | "k2" | "k3";

/**
 * The estimated KL divergence at a token, in nats: k1 is d, k2 is d^2 / 2, k3 is e^-d - 1 + d.
 * @param d log p - log p_ref of the sampled token
 * @param limit clamps the estimate to [-limit, limit] (OpenRLHF: 10)
 */
export function klTerm(d: number, estimator: KlEstimator, limit = Number.POSITIVE_INFINITY): number {
  const estimate = estimator === "k1" ? d : estimator === "k2" ? 0.5 * d * d : Math.exp(-d) - 1 + d;
  return clip(estimate, -limit, limit);
}

/**
 * Ziegler et al. 2019: nudges the coefficient so that the measured KL approaches a target.
 * @param samples sequences the KL was measured on
 * @param horizon sequences over which a full correction spreads
 */
export function adaptKlCoef(coef: number, kl: number, target: number, samples: number, horizon: number): number {
  const error = Math.min(0.2, Math.max(-0.2, kl / target - 1));
  return coef * (1 + (error * samples) / horizon);
}

/** The number of [low, high] that is nearest to x. */
export const clip = (x: number, low: number, high: number): number => Math.min(high, Math.max(low, x));

/**
 * Rewards per token: -klCoef * KL everywhere, plus the score at the last token. Where the clip goes differs:
 * "score" clips the score before the KL is added (PaddleNLP, TRL), "reward" clips every token's sum (safe-rlhf).
 * The slot "after" gives the score a place of its own after the last token, without KL: the result is one longer (TRL).
 * `earlier` are parts of the score that tokens before earn (turns of an episode): they go there, each clipped by itself.
 */
export function shapeRewards(
  kl: ArrayLike<number>,
  score: number,
  options: {
    klCoef: number;
    clipRange: number;
    clipWhat: "score" | "reward";
    slot?: "last" | "after";
    earlier?: readonly { at: number; amount: number }[];
  },
): Float64Array {
  const { klCoef, clipRange, clipWhat, slot = "last", earlier = [] } = options;
  const rewards = new Float64Array(kl.length + (slot === "after" ? 1 : 0));
  for (let t = 0; t < kl.length; t++) rewards[t] = -klCoef * kl[t];
  const limited = (part: number) => (clipWhat === "score" ? clip(part, -clipRange, clipRange) : part);
  for (const { at, amount } of earlier) rewards[at] += limited(amount);
  const rest = score - earlier.reduce((sum, { amount }) => sum + amount, 0);
  if (rewards.length > 0) rewards[rewards.length - 1] += limited(rest);
  return clipWhat === "reward" ? rewards.map((r) => clip(r, -clipRange, clipRange)) : rewards;
}

/**
 * Generalised advantage estimation (Schulman et al. 2016). The value after the last token is 0, whether or not the
 * response ended by itself.
 */
export function gae(
  rewards: ArrayLike<number>,
  values: ArrayLike<number>,
  { gamma, lambda }: { gamma: number; lambda: number },
): { advantages: Float64Array; returns: Float64Array } {
  const n = rewards.length;
  const advantages = new Float64Array(n);
  const returns = new Float64Array(n);
  let next = 0;
  for (let t = n - 1; t >= 0; t--) {
    const delta = rewards[t] + (t + 1 < n ? gamma * values[t + 1] : 0) - values[t];
    next = delta + gamma * lambda * next;
    advantages[t] = next;
    returns[t] = next + values[t];
  }
  return { advantages, returns };
}

/** Mean and variance over all values of all sequences; `unbiased` divides by n - 1. */
export function moments(sequences: readonly ArrayLike<number>[], unbiased = false): { mean: number; variance: number } {
  let n = 0;
  let total = 0;
  for (const s of sequences) for (let i = 0; i < s.length; i++) total += s[i];
  for (const s of sequences) n += s.length;
  const mean = n > 0 ? total / n : 0;
  let squares = 0;
  for (const s of sequences) for (let i = 0; i < s.length; i++) squares += (s[i] - mean) ** 2;
  return { mean, variance: n > 1 || !unbiased ? squares / Math.max(1, unbiased ? n - 1 : n) : 0 };
}

/**
 * Subtracts the mean (unless `keepMean`) and divides by the standard deviation, over all tokens together.
 * `eps` is added to the variance (TRL), or with `epsBeside` to its root (PaddleNLP).
 */
export function whiten(
  sequences: readonly ArrayLike<number>[],
  { keepMean = false, unbiased = false, epsBeside = false, eps = 1e-8 } = {},
): Float64Array[] {
  const { mean, variance } = moments(sequences, unbiased);
  const factor = 1 / (epsBeside ? Math.sqrt(variance) + eps : Math.sqrt(variance + eps));
  return sequences.map((s) => Float64Array.from(s, (x) => (x - mean) * factor + (keepMean ? mean : 0)));
}

/** Weights that turn a sum over tokens into the dialect's average. */
export function tokenWeights(lengths: readonly number[], average: "token" | "sequence"): Float32Array {
  const tokens = lengths.reduce((a, b) => a + b, 0);
  const weights = new Float32Array(tokens);
  let at = 0;
  for (const n of lengths) {
    weights.fill(average === "token" ? 1 / tokens : 1 / (n * lengths.length), at, at + n);
    at += n;
  }
  return weights;
}

/** State of a running normaliser of scores. */
export type Normalizer = NormalizerState;

/** The state of a running normaliser that has seen nothing: mean 0, variance 1. */
export const freshNormalizer = freshState;

/** How statistics follow the scores: see `mergeWeights`. */
export interface MergeRule {
  kind: NormalizerKind;
  /** Of ExponentialMovingAverage: the weight of the old value, so that 0.9 is slow. */
  momentum?: number;
}

/**
 * With d = mean of the batch - mean: mean' = mean + toMean d, variance' = keep variance + take variance of the batch
 * + spread d^2. RunningMeanStd merges a batch into all scores so far (Chan et al.): the first one replaces the initial
 * variance. Throws `UserError` for a batch of one, which has no variance.
 * @param count scores so far
 * @param n scores of the batch
 */
export function mergeWeights({ kind, momentum = 0.9 }: MergeRule, count: number, n: number) {
  if (n < 2)
    throw new UserError(`the statistics of scores need batches of at least 2 scores, not ${n}: use larger batches`);
  if (kind === "ExponentialMovingAverage") {
    return { toMean: 1 - momentum, keep: momentum, take: 1 - momentum, spread: 0 };
  }
  const total = count + n;
  return { toMean: n / total, keep: count / total, take: n / total, spread: (count * n) / total ** 2 };
}

/** Statistics with one more batch in them; an empty batch changes nothing. */
export function updateRunning(
  { mean, variance, count }: Normalizer,
  batch: readonly number[],
  rule: MergeRule = { kind: "RunningMeanStd" },
): Normalizer {
  const n = batch.length;
  if (n === 0) return { mean, variance, count };
  const b = moments([batch], true);
  const d = b.mean - mean;
  const { toMean, keep, take, spread } = mergeWeights(rule, count, n);
  return { mean: mean + toMean * d, variance: keep * variance + take * b.variance + spread * d * d, count: count + n };
}

/** Keeps a standard deviation of 0 from being divided by. */
export const NORMALIZER_EPS = 1e-8;

/** A score as its type is normalised: (x - mean) / (std + 1e-8), of costs x / (std + 1e-8), of values x. */
export function normalize({ mean, variance }: Normalizer, x: number, type: ScoreType = "reward"): number {
  if (type === "critic") return x;
  return (type === "reward" ? x - mean : x) / (Math.sqrt(variance) + NORMALIZER_EPS);
}

/** The mean of each number by name, over the records that have it. */
export function meanByName(records: readonly Readonly<Record<string, number>>[]): Record<string, number> {
  const names = new Set(records.flatMap((record) => Object.keys(record)));
  return Object.fromEntries([...names].map((name) => [name, average(records.flatMap((record) => record[name] ?? []))]));
}

/** The mean of the values; 0 where there are none. */
export const average = (values: ArrayLike<number>): number => {
  let total = 0;
  for (let i = 0; i < values.length; i++) total += values[i];
  return values.length > 0 ? total / values.length : 0;
};

/** The unbiased standard deviation of the values; 0 for fewer than two. */
export const standardDeviation = (values: ArrayLike<number>): number => Math.sqrt(moments([values], true).variance);

/** The KL divergence of best-of-n sampling from its base policy, at most: log n - (n - 1) / n. */
export const bestOfKl = (n: number): number => Math.log(n) - (n - 1) / n;
