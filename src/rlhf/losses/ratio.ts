/** The loss of GRPO and its neighbours: a clipped probability ratio times an advantage, and a KL penalty beside it. */

import { type Tensor, tensor } from "../../tensor/core.ts";
import { elements } from "../../tensor/ops/elements.ts";
import { add, addScalar, clamp, exp, minimum, mul, neg, scale, sigmoid, sub } from "../../tensor/ops/elementwise.ts";
import { sum } from "../../tensor/ops/reduce.ts";
import { type Segment, segmentSums } from "../../tensor/ops/segments.ts";
import { detach } from "../../tensor/ops/shape.ts";

/** Options of the loss of probability ratios. */
export interface RatioLossOptions {
  /**
   * What the probability ratio is of: "token"; "sequence", the geometric mean over the sequence's tokens (GSPO); or
   * "product", the whole sequence's probability (RLOO).
   */
  level: "token" | "sequence" | "product";
  /** The ratio is clipped to [1 - epsilon, 1 + epsilonHigh]. */
  epsilon: number;
  epsilonHigh: number;
  /** Upper bound of the ratio itself, which bounds the loss where the advantage is negative; null has none. */
  delta: number | null;
  /** Instead of clipping: log p times the advantage times the ratio, a constant here, at most `epsilonHigh` (CISPO). */
  cispo: boolean;
  /**
   * Instead of clipping: a gate that closes smoothly away from 1, sigmoid(tau (ratio - 1)) 4 / tau, with a tau for positive and
   * one for other advantages (SAPO); null or absent clips.
   */
  sapo?: { positive: number; negative: number } | null;
  /** Weight of the k3 estimate of the KL divergence to the reference; 0 leaves it out. */
  beta: number;
  /**
   * Multiplies the KL term by the ratio. In expectation its gradient is then that of KL(policy || reference); without, on
   * policy, it is that of KL(reference || policy), whatever the value says.
   */
  unbiasedKl: boolean;
}

/** Constants beside the policy's log-probabilities; by token, sequences one after another. */
export interface RatioLossInputs {
  oldLogProbs: Float32Array;
  /** Needed where beta is not 0. */
  refLogProbs?: Float32Array;
  advantages: Float32Array;
  /** Turn the sum over tokens into an average, see `averagingWeights`. */
  weights: Float32Array;
  /** Tokens of each sequence. */
  lengths: readonly number[];
}

const LIMIT = 20; // of exponents: e^20 is far beyond every clip

/**
 * sum_t w_t (-min(rho_t A_t, clip(rho_t, 1 - e, 1 + e_high) A_t) + beta k3_t) (Shao et al. 2024, DeepSeekMath), or with another
 * first term as the options say.
 * @param logProbs of the current policy, [tokens]
 */
export function ratioLoss(logProbs: Tensor, inputs: RatioLossInputs, options: RatioLossOptions): Tensor {
  const { level, epsilon, epsilonHigh, delta, cispo, sapo, beta, unbiasedKl } = options;
  const { lengths } = inputs;
  const advantages = tensor(inputs.advantages);
  let logRatio = sub(logProbs, tensor(inputs.oldLogProbs));
  if (level !== "token") logRatio = bySequence(logRatio, lengths, level === "sequence");
  const ratio = exp(clamp(logRatio, -LIMIT, LIMIT));
  let terms: Tensor;
  if (cispo) {
    const bounded = detach(clamp(ratio, 0, epsilonHigh));
    terms = neg(mul(mul(bounded, advantages), logProbs));
  } else if (sapo) {
    const taus = inputs.advantages.map((a) => (a > 0 ? sapo.positive : sapo.negative));
    const gate = sigmoid(mul(addScalar(ratio, -1), tensor(taus)));
    const gained = inputs.advantages.map((a, i) => (a * 4) / taus[i]);
    terms = neg(mul(gate, tensor(gained)));
  } else {
    const clipped = clamp(ratio, 1 - epsilon, 1 + epsilonHigh);
    const bounded = delta === null ? ratio : clamp(ratio, 0, delta);
    terms = neg(minimum(mul(bounded, advantages), mul(clipped, advantages)));
  }
  if (beta !== 0) {
    if (!inputs.refLogProbs) throw new Error("ratioLoss: beta needs the reference's log-probabilities");
    const d = sub(tensor(inputs.refLogProbs), logProbs);
    const k3 = addScalar(sub(exp(clamp(d, -LIMIT, LIMIT)), d), -1);
    terms = add(terms, scale(unbiasedKl ? mul(k3, ratio) : k3, beta));
  }
  return sum(mul(terms, tensor(inputs.weights)));
}

/**
 * The ratio of each token of a response, as the loss takes it: where it is the sequence's, all have the same.
 * @param changes of the tokens' log-probabilities
 */
export function ratiosOf(changes: readonly number[], { level }: Pick<RatioLossOptions, "level">): number[] {
  if (level === "token") return changes.map(Math.exp);
  const sum = changes.reduce((a, b) => a + b, 0);
  return changes.map(() => Math.exp(level === "sequence" ? sum / changes.length : sum));
}

/** Every token gets the sum, or the mean, over its sequence. */
function bySequence(tokens: Tensor, lengths: readonly number[], mean: boolean): Tensor {
  let first = 0;
  const segments = lengths.map((length): Segment => {
    first += length;
    return { first: first - length, length };
  });
  const sums = segmentSums(tokens, segments);
  const values = mean ? mul(sums, tensor(Float32Array.from(lengths, (n) => 1 / Math.max(1, n)))) : sums;
  return elements(values, Uint32Array.from(lengths.flatMap((n, i) => new Array<number>(n).fill(i))));
}
