/** The loss of a gate between attributes. */

import type { Tensor } from "../../tensor/core.ts";
import { logSigmoid, mul, neg } from "../../tensor/ops/elementwise.ts";
import { mean, sum } from "../../tensor/ops/reduce.ts";
import { reshape } from "../../tensor/ops/shape.ts";

/**
 * Bradley-Terry on gated sums: score = sum_k g_k r_k, mean of -log sigmoid(score_chosen - score_rejected).
 * @param gates of the chosen answers' prompts, then of the rejected ones': [2 pairs, attributes]
 * @param rewards in the same order, a constant, those of the rejected answers negated
 * @returns the loss, and the differences of the scores, [pairs]
 */
export function gateLoss(gates: Tensor, rewards: Tensor): { loss: Tensor; margins: Tensor } {
  const pairs = gates.shape[0] / 2;
  const margins = sum(reshape(sum(mul(gates, rewards), 1), [2, pairs]), 0);
  return { loss: neg(mean(logSigmoid(margins))), margins };
}
