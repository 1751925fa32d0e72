/** PPO's two losses, of the policy and of the critic: neither gains by going far from where its rollout was measured. */
import type { Tensor } from "../../tensor/core.ts";
import { add, clamp, exp, maximum, minimum, mul, neg, scale, square, sub } from "../../tensor/ops/elementwise.ts";
import { sum } from "../../tensor/ops/reduce.ts";

const LIMIT = 20; // of exponents: e^20 is far beyond every clip

/**
 * PPO's clipped surrogate: -sum_t w_t min(rho_t A_t, clip(rho_t, 1 - e, 1 + e) A_t), with rho_t = exp(log p_t - log p_old_t).
 * @param logProbs of the current policy, [tokens]; the others are constants of the same shape
 * @param weights turn the sum into an average, see `tokenWeights`
 * @param clip `clipRangeHigh` is the bound above where it differs; `dualClip` keeps the objective, where the advantage is
 * negative, at this many times it or above (Ye et al. 2020)
 */
export function policyLoss(
  logProbs: Tensor,
  { oldLogProbs, advantages, weights }: { oldLogProbs: Tensor; advantages: Tensor; weights: Tensor },
  clip: { clipRange: number; clipRangeHigh?: number | null; dualClip?: number | null },
): Tensor {
  const { clipRange, clipRangeHigh, dualClip } = clip;
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
