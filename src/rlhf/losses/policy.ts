/** The clipped losses of PPO, and what may be added to them. */

import type { Tensor } from "../../tensor/core.ts";
import {
  add,
  addScalar,
  clamp,
  exp,
  maximum,
  minimum,
  mul,
  neg,
  scale,
  square,
  sub,
} from "../../tensor/ops/elementwise.ts";
import { sum } from "../../tensor/ops/reduce.ts";
import type { KlEstimator } from "../stats.ts";

const LIMIT = 20; // of exponents: e^20 is far beyond every clip

/** How the probability ratio is clipped. */
export interface PolicyClip {
  /** Below, and above unless `clipRangeHigh` says otherwise: the ratio stays in [1 - e, 1 + e]. */
  clipRange: number;
  /** Default: `clipRange`. */
  clipRangeHigh?: number | null;
  /** Where the advantage is negative, the objective is at least this many times it (Ye et al. 2020); above 1. Default: off. */
  dualClip?: number | null;
}

/**
 * PPO's clipped surrogate (Schulman et al. 2017): -sum_t w_t min(rho_t A_t, clip(rho_t, 1 - e, 1 + e) A_t).
 * @param logProbs of the current policy, [tokens]; the others are constants of the same shape
 * @param weights turn the sum into an average, see `tokenWeights`
 */
export function policyLoss(
  logProbs: Tensor,
  { oldLogProbs, advantages, weights }: { oldLogProbs: Tensor; advantages: Tensor; weights: Tensor },
  clip: number | PolicyClip,
): Tensor {
  const { clipRange, clipRangeHigh, dualClip }: PolicyClip = typeof clip === "number" ? { clipRange: clip } : clip;
  const ratio = exp(clamp(sub(logProbs, oldLogProbs), -LIMIT, LIMIT));
  const clipped = clamp(ratio, 1 - clipRange, 1 + (clipRangeHigh ?? clipRange));
  let objective = minimum(mul(advantages, ratio), mul(advantages, clipped));
  // Positive advantages have positive objectives, so that the bound 0 is none for them.
  if (dualClip) objective = maximum(objective, scale(clamp(advantages, -3.4e38, 0), dualClip));
  return neg(sum(mul(weights, objective)));
}

/** PPO's clipped value loss: 0.5 sum_t w_t max((V - R)^2, (clip(V, V_old - c, V_old + c) - R)^2). */
export function valueLoss(
  values: Tensor,
  { oldValues, returns, weights }: { oldValues: Tensor; returns: Tensor; weights: Tensor },
  clipRange: number,
): Tensor {
  const clipped = add(oldValues, clamp(sub(values, oldValues), -clipRange, clipRange));
  const error = maximum(square(sub(values, returns)), square(sub(clipped, returns)));
  return scale(sum(mul(weights, error)), 0.5);
}

/**
 * KL penalty as a loss: sum_t w_t clamp(k(log p_t - log p_ref_t), -limit, limit), differentiated through the estimate k
 * (`klTerm`). Through k2 that is the gradient of KL(policy || reference); through k1 it is zero in expectation.
 */
export function klLoss(
  logProbs: Tensor,
  { refLogProbs, weights }: { refLogProbs: Tensor; weights: Tensor },
  estimator: KlEstimator,
  limit = Number.POSITIVE_INFINITY,
): Tensor {
  const d = sub(logProbs, refLogProbs);
  const estimates = { k1: () => d, k2: () => scale(square(d), 0.5), k3: () => add(expm1Of(neg(d)), d) };
  const terms = estimates[estimator]();
  return sum(mul(weights, Number.isFinite(limit) ? clamp(terms, -limit, limit) : terms));
}

const expm1Of = (x: Tensor): Tensor => addScalar(exp(clamp(x, -LIMIT, LIMIT)), -1);

/** Minus the average entropy: what is subtracted from a loss to keep the policy from settling. */
export const entropyLoss = (entropy: Tensor, weights: Tensor): Tensor => neg(sum(mul(weights, entropy)));
