/**
 * f-DPO (Wang et al. 2023): what a log-ratio u = log p / p_ref is worth when another divergence than the reverse KL keeps
 * the policy near the reference: f'(p / p_ref), up to a constant that cancels in a pair.
 */

import type { Tensor } from "../../tensor/core.ts";
import { addScalar, clamp, exp, logSigmoid, neg, scale } from "../../tensor/ops/elementwise.ts";

export const divergences = ["reverse_kl", "forward_kl", "js_divergence", "alpha_divergence"] as const;
export type Divergence = (typeof divergences)[number];

/**
 * reverse_kl: u; forward_kl: 1 - e^-u; js_divergence: log 2 + log sigmoid(u); alpha_divergence:
 * (e^((alpha - 1) u) - 1) / (alpha - 1), which is u for alpha = 1. Exponents end at 80.
 * @param alpha as TRL 1.x has it; the c of TRL 0.8 and Online-RLHF is 1 - alpha
 */
export function divergenceScore(ratio: Tensor, divergence: Divergence, alpha = 0.5): Tensor {
  const grown = (x: Tensor) => exp(clamp(x, -3e38, 80));
  if (divergence === "forward_kl") return addScalar(neg(grown(neg(ratio))), 1);
  if (divergence === "js_divergence") return addScalar(logSigmoid(ratio), Math.LN2);
  if (divergence === "reverse_kl" || Math.abs(alpha - 1) < 1e-6) return ratio;
  return scale(addScalar(grown(scale(ratio, alpha - 1)), -1), 1 / (alpha - 1));
}
