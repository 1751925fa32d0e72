/** The losses, as functions of tensors, written as in the papers. */
import {
  add,
  clamp,
  exp,
  logSigmoid,
  maximum,
  minimum,
  mul,
  neg,
  scale,
  square,
  sub,
} from "../tensor/ops/elementwise.ts";
import { mean, sum } from "../tensor/ops/reduce.ts";
import type { Tensor } from "../tensor/tensor.ts";

/**
 * PPO's clipped surrogate (Schulman et al. 2017): -sum_t w_t min(rho_t A_t, clip(rho_t, 1 - e, 1 + e) A_t).
 * @param logProbs of the current policy, [tokens]; the others are constants of the same shape
 * @param weights turn the sum into an average, see `tokenWeights`
 */
export function policyLoss(
  logProbs: Tensor,
  { oldLogProbs, advantages, weights }: { oldLogProbs: Tensor; advantages: Tensor; weights: Tensor },
  clipRange: number,
): Tensor {
  const ratio = exp(clamp(sub(logProbs, oldLogProbs), -20, 20));
  const clipped = clamp(ratio, 1 - clipRange, 1 + clipRange);
  return neg(sum(mul(weights, minimum(mul(advantages, ratio), mul(advantages, clipped)))));
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

export interface PairLossOptions {
  /** c in c * mean(r^2). Default 0. */
  regularization?: number;
  /** "sum": c (mean r_w^2 + mean r_l^2), as PaddleNLP; "mean": c times the mean over both, as safe-rlhf. Default "sum". */
  regularizationOver?: "sum" | "mean";
  /** c in c * mean((r_w + r_l)^2), which centres rewards at 0 (TRL). Default 0. */
  centering?: number;
}

/** Bradley-Terry: mean of -log sigmoid(r_chosen - r_rejected), with optional regularisation. */
export function pairLoss(chosen: Tensor, rejected: Tensor, options: PairLossOptions = {}): Tensor {
  const { regularization = 0, regularizationOver = "sum", centering = 0 } = options;
  let loss = neg(mean(logSigmoid(sub(chosen, rejected))));
  if (regularization > 0) {
    const factor = regularizationOver === "sum" ? regularization : regularization / 2;
    loss = add(loss, scale(add(mean(square(chosen)), mean(square(rejected))), factor));
  }
  if (centering > 0) loss = add(loss, scale(mean(square(add(chosen, rejected))), centering));
  return loss;
}

/** Weighted negative log-likelihood: -sum_t w log p_t. */
export const nllLoss = (logProbs: Tensor, weight: number): Tensor => scale(sum(logProbs), -weight);
