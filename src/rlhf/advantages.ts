/**
 * From rewards to advantages. With a critic: generalised advantage estimation. Without one: a response is compared with the other responses to its prompt. Responses come prompt by
 * prompt, `group` of each. Host arithmetic in float64.
 */
import { weighted } from "./off-policy.ts";
import type { Rollout } from "./rollout.ts";
import type { Response } from "./sampler.ts";
import { average, gae, moments, standardDeviation, whiten } from "./stats.ts";

/**
 * The divisor of a group's rewards after its mean is taken off: the standard deviation of the group or of the whole batch,
 * or nothing.
 */
export type ScaleRewards = "group" | "batch" | "none";

/** How the terms of the tokens become one loss, by TRL's names. */
export type LossAveraging = "grpo" | "bnpo" | "dapo" | "dr_grpo";

const EPS = 1e-4; // added to standard deviations, as TRL does

const groups = (rewards: readonly number[], group: number): number[][] => {
  if (rewards.length % group !== 0) throw new Error(`${rewards.length} rewards are no whole groups of ${group}`);
  return Array.from({ length: rewards.length / group }, (_, g) => rewards.slice(g * group, (g + 1) * group));
};

/** GRPO: (r - mean of its group) / (standard deviation + 1e-4); the deviation is unbiased, of the group or of all rewards. */
export function groupAdvantages(rewards: readonly number[], group: number, scale: ScaleRewards): number[] {
  const whole = standardDeviation(rewards);
  return groups(rewards, group).flatMap((part) => {
    const mean = average(part);
    const deviation = scale === "group" ? standardDeviation(part) : whole;
    return part.map((r) => (scale === "none" ? r - mean : (r - mean) / (deviation + EPS)));
  });
}

/**
 * Several rewards, each normalised in its group before they are weighed and added; the sums are then normalised over all
 * responses (GDPO).
 * @param rewards one list per reward function
 */
export function normalizeThenSum(
  rewards: readonly (readonly number[])[],
  weights: readonly number[],
  group: number,
): number[] {
  const normalized = rewards.map((own) => groupAdvantages(own, group, "group"));
  const sums = normalized[0].map((_, i) => normalized.reduce((sum, own, k) => sum + weights[k] * own[i], 0));
  return standardize(sums);
}

/** RLOO: r minus the mean of the other rewards of its group. */
export function leaveOneOut(rewards: readonly number[], group: number): number[] {
  if (group < 2) throw new Error("leaving one out needs at least two responses per prompt");
  return groups(rewards, group).flatMap((part) => {
    const total = part.reduce((a, b) => a + b, 0);
    return part.map((r) => r - (total - r) / (group - 1));
  });
}

/** (x - mean) / (standard deviation + 1e-4) over all values, the deviation unbiased. */
export function standardize(values: readonly number[]): number[] {
  const [mean, deviation] = [average(values), standardDeviation(values)];
  return values.map((x) => (x - mean) / (deviation + EPS));
}

/** For each group: all its rewards are the same, so nothing can be learned from it. */
export const withoutSpread = (rewards: readonly number[], group: number): boolean[] =>
  groups(rewards, group).map((part) => Math.sqrt(moments([part], true).variance) <= 1e-8);

/**
 * Weights by which the sum over all tokens of an optimizer step's micro-batches is their average:
 * "grpo" means over each sequence's tokens, then over the step's sequences; "bnpo" over a micro-batch's tokens, then over
 * micro-batches; "dapo" over the tokens of the rollout (`rolloutTokens`), of which each of its `windows` steps counts as
 * an equal part; "dr_grpo" divides by `maxLength` instead of each sequence's own length.
 * @param parts lengths of the responses of each micro-batch
 * @returns for each micro-batch, one weight per token
 */
export function averagingWeights(
  parts: readonly (readonly number[])[],
  averaging: LossAveraging,
  { maxLength, rolloutTokens, windows }: { maxLength: number; rolloutTokens: number; windows: number },
): Float32Array[] {
  const sequences = parts.reduce((n, part) => n + part.length, 0);
  return parts.map((lengths) => {
    const tokens = lengths.reduce((a, b) => a + b, 0);
    const weight = (length: number): number => {
      if (averaging === "grpo") return 1 / (length * sequences);
      if (averaging === "bnpo") return 1 / (tokens * parts.length);
      if (averaging === "dapo") return windows / rolloutTokens;
      return 1 / (maxLength * sequences);
    };
    return Float32Array.from(lengths.flatMap((length) => new Array<number>(length).fill(weight(length))));
  });
}

/** One response with everything the update needs; arrays by response token. */
export interface Experience {
  response: Response;
  /** What ratios are measured from. */
  logProbs: Float32Array;
  refLogProbs: Float32Array;
  /** One longer than the response where its score has a slot of its own; likewise the returns. */
  values: Float32Array;
  advantages: ArrayLike<number>;
  returns: ArrayLike<number>;
}

/**
 * Advantages and returns by generalised advantage estimation (Schulman et al. 2016).
 * @param values as long as the rewards
 */
export function gaeExperience(
  rollout: Pick<Rollout, "responses" | "logProbs" | "refLogProbs" | "rewards"> &
    Partial<Pick<Rollout, "oldLogProbs" | "importance">>,
  values: readonly Float32Array[],
  { gamma, lam: lambda, whitenAdvantages }: { gamma: number; lam: number; whitenAdvantages: boolean },
): { experience: Experience[]; metrics: Record<string, number> } {
  const { responses, oldLogProbs = rollout.logProbs, importance, refLogProbs, rewards } = rollout;
  const estimates = rewards.map((r, i) => gae(r, values[i], { gamma, lambda }));
  const own: ArrayLike<number>[] = estimates.map((e, i) => e.advantages.subarray(0, oldLogProbs[i].length));
  const advantages = whitenAdvantages ? whiten(own, { unbiased: true }) : own;
  const experience = responses.map((response, i) => ({
    response,
    logProbs: oldLogProbs[i],
    refLogProbs: refLogProbs[i],
    values: values[i],
    advantages: weighted(advantages[i], importance?.[i]),
    returns: estimates[i].returns,
  }));
  const metrics = {
    value: average(values.map(average)),
    return: average(estimates.map((e) => average(e.returns))),
    advantage: average(own.map(average)),
  };
  return { experience, metrics };
}
