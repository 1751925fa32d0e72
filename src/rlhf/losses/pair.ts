/** The losses of reward models that learn from pairs. */

import type { Tensor } from "../../tensor/core.ts";
import { add, logSigmoid, mul, neg, scale, square, sub } from "../../tensor/ops/elementwise.ts";
import { mean, sum } from "../../tensor/ops/reduce.ts";

export interface PairLossOptions {
  /** c in c * mean(r^2). Default 0. */
  regularization?: number;
  /** "sum": c (mean r_w^2 + mean r_l^2), as PaddleNLP; "mean": c times the mean over both, as safe-rlhf. Default "sum". */
  regularizationOver?: "sum" | "mean";
  /** c in c * mean((r_w + r_l)^2), which centres rewards at 0 (TRL). Default 0. */
  centering?: number;
}

/** What differs from pair to pair. */
export interface PairTerms {
  /** m in -log sigmoid(r_w - r_l - m), one per pair; default 0. */
  margins?: Tensor | null;
  /** Weights that the terms are summed with; default: their mean. */
  weights?: Tensor | null;
}

/**
 * Bradley-Terry: mean of -log sigmoid(r_chosen - r_rejected - margin), with optional regularisation. Token-wise, a pair is
 * a place in both answers, and the weights give every pair of answers the same say.
 * @param chosen scores, [pairs]; `rejected` likewise
 */
export function pairLoss(
  chosen: Tensor,
  rejected: Tensor,
  options: PairLossOptions = {},
  { margins = null, weights = null }: PairTerms = {},
): Tensor {
  const average = (x: Tensor): Tensor => (weights ? sum(mul(x, weights)) : mean(x));
  const { regularization = 0, regularizationOver = "sum", centering = 0 } = options;
  const difference = sub(chosen, rejected);
  let loss = neg(average(logSigmoid(margins ? sub(difference, margins) : difference)));
  if (regularization > 0) {
    const factor = regularizationOver === "sum" ? regularization : regularization / 2;
    loss = add(loss, scale(add(average(square(chosen)), average(square(rejected))), factor));
  }
  if (centering > 0) loss = add(loss, scale(average(square(add(chosen, rejected))), centering));
  return loss;
}
