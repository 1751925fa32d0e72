/** Kahneman-Tversky optimisation (Ethayarajh et al. 2024): single answers, each labelled good or bad. */

import { type Tensor, tensor } from "../../tensor/core.ts";
import { addScalar, clamp, mul, neg, scale, sigmoid, sub } from "../../tensor/ops/elementwise.ts";
import { mean } from "../../tensor/ops/reduce.ts";
import { detach } from "../../tensor/ops/shape.ts";

export const ktoLossNames = ["kto", "apo_zero_unpaired"] as const;

export interface KtoLossOptions {
  /** How far the policy may go from the reference. Default 0.1. */
  beta?: number;
  /** Weights of good and of bad answers, to balance their numbers. Default 1. */
  desirableWeight?: number;
  undesirableWeight?: number;
  /** apo_zero_unpaired (D'Oosterlinck et al. 2024) compares with 0 instead of the KL divergence. Default kto. */
  lossType?: (typeof ktoLossNames)[number];
}

export const ktoLossDefaults = {
  beta: 0.1,
  desirableWeight: 1,
  undesirableWeight: 1,
  lossType: "kto",
} as const satisfies KtoLossOptions;

/** z0: the mean log-ratio of answers to other prompts, at least 0; a constant. [1] */
export const ktoBaseline = (mismatched: Tensor): Tensor => detach(clamp(mean(mismatched), 0, 3e38));

/**
 * w (1 - sigmoid(beta s (u - z0))) for each answer, s = 1 for good ones and -1 for bad ones; [answers].
 * @param ratios u = log p - log p_ref of the answers
 * @param baseline z0 [1], unused by apo_zero_unpaired
 */
export function ktoLoss(
  ratios: Tensor,
  labels: readonly boolean[],
  baseline: Tensor | null,
  options: KtoLossOptions = {},
): Tensor {
  const { beta, desirableWeight, undesirableWeight, lossType } = { ...ktoLossDefaults, ...options };
  const over = lossType === "kto" && baseline ? sub(ratios, baseline) : ratios;
  const signs = tensor(labels.map((good) => (good ? 1 : -1)));
  const weights = tensor(labels.map((good) => (good ? desirableWeight : undesirableWeight)));
  return mul(weights, addScalar(neg(sigmoid(mul(signs, scale(over, beta)))), 1));
}
