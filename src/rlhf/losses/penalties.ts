/** What may be added to a policy's loss: a KL penalty, an entropy bonus. */
import type { Tensor } from "../../tensor/core.ts";
import { add, addScalar, clamp, exp, mul, neg, scale, square, sub } from "../../tensor/ops/elementwise.ts";
import { sum } from "../../tensor/ops/reduce.ts";
import type { KlEstimator } from "../stats.ts";

const LIMIT = 20; // of exponents: e^20 is far beyond every clip

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
