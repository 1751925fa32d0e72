/**
 * The arithmetic between a rollout and the losses: KL estimates, shaped rewards, advantages, whitening. Small arrays on
 * the host, in float64; formulas as in the papers named beside them. Everything is per sequence, response tokens only:
 * index t is the t-th response token.
 */

/** Per-token KL estimators of D = log p - log p_ref, for samples from p (Schulman, "Approximating KL divergence"). */
export type KlEstimator = "k1" | "k2" | "k3";

export function klTerm(d: number, estimator: KlEstimator): number {
  if (estimator === "k1") return d;
  if (estimator === "k2") return 0.5 * d * d;
  return Math.exp(-d) - 1 + d;
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

export const clip = (x: number, low: number, high: number): number => Math.min(high, Math.max(low, x));

/**
 * Rewards per token: -klCoef * KL everywhere, plus the score at the last token. Where the clip goes differs:
 * "score" clips the score before the KL is added (PaddleNLP, TRL), "reward" clips every token's sum (safe-rlhf).
 */
export function shapeRewards(
  kl: ArrayLike<number>,
  score: number,
  options: { klCoef: number; clipRange: number; clipWhat: "score" | "reward" },
): Float64Array {
  const { klCoef, clipRange, clipWhat } = options;
  const rewards = Float64Array.from(kl, (d) => -klCoef * d);
  if (rewards.length > 0)
    rewards[rewards.length - 1] += clipWhat === "score" ? clip(score, -clipRange, clipRange) : score;
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

/** Subtracts the mean (unless `keepMean`) and divides by the standard deviation, over all tokens together. */
export function whiten(
  sequences: readonly ArrayLike<number>[],
  { keepMean = false, unbiased = false, eps = 1e-8 } = {},
): Float64Array[] {
  const { mean, variance } = moments(sequences, unbiased);
  const factor = 1 / Math.sqrt(variance + eps);
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
export interface Normalizer {
  mean: number;
  variance: number;
  count: number;
}

export const freshNormalizer = (): Normalizer => ({ mean: 0, variance: 1, count: 0 });

/** Merges a batch into a running mean and variance (Chan et al.); the first batch replaces the initial variance. */
export function updateRunning({ mean, variance, count }: Normalizer, batch: readonly number[]): Normalizer {
  const n = batch.length;
  if (n === 0) return { mean, variance, count };
  const b = moments([batch], true);
  const d = b.mean - mean;
  const total = count + n;
  return {
    mean: mean + (d * n) / total,
    variance: (variance * count + b.variance * n + (d * d * count * n) / total) / total,
    count: total,
  };
}

/** (x - mean) / (std + 1e-8) */
export const normalize = ({ mean, variance }: Normalizer, x: number): number =>
  (x - mean) / (Math.sqrt(variance) + 1e-8);

/** distinct-n (Li et al. 2016): different n-grams over all n-grams of the texts, by white-space words. */
export function distinctN(texts: readonly string[], n: number): number {
  const seen = new Set<string>();
  let total = 0;
  for (const text of texts) {
    const words = text.split(/\s+/).filter(Boolean);
    for (let i = 0; i + n <= words.length; i++) {
      seen.add(words.slice(i, i + n).join(" "));
      total += 1;
    }
  }
  return total > 0 ? seen.size / total : 0;
}

export const average = (values: ArrayLike<number>): number => {
  let total = 0;
  for (let i = 0; i < values.length; i++) total += values[i];
  return values.length > 0 ? total / values.length : 0;
};

export const standardDeviation = (values: ArrayLike<number>): number => Math.sqrt(moments([values], true).variance);

/** The KL divergence of best-of-n sampling from its base policy, at most: log n - (n - 1) / n. */
export const bestOfKl = (n: number): number => Math.log(n) - (n - 1) / n;
