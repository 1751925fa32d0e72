/** Losses on pairs that need no reference: CPO, SimPO and the odds-ratio loss of ORPO. All tensors are [pairs]. */

import type { Tensor } from "../../tensor/core.ts";
import {
  addScalar,
  clamp,
  log,
  logSigmoid,
  neg,
  relu,
  scale,
  softCap,
  square,
  sub,
} from "../../tensor/ops/elementwise.ts";
import { smoothed } from "./preference.ts";

export const cpoLossNames = ["sigmoid", "hinge", "ipo", "simpo"] as const;
export type CpoLossName = (typeof cpoLossNames)[number];

/** ipo and simpo count an answer's mean log-probability per token, the others the sum. */
export const averages = (name: CpoLossName): boolean => name === "ipo" || name === "simpo";

export interface CpoLossOptions {
  beta: number;
  /** In sigmoid and simpo. */
  labelSmoothing: number;
  /** Margin that simpo asks for. */
  simpoGamma: number;
}

/**
 * CPO (Xu et al. 2024): DPO's losses with a uniform reference; simpo (Meng et al. 2024):
 * -log sigmoid(beta (chosen - rejected) - gamma).
 * @param chosen log p of the chosen answers: sums or means, as `averages` says
 */
export function cpoLoss(name: CpoLossName, chosen: Tensor, rejected: Tensor, options: CpoLossOptions): Tensor {
  const { beta, labelSmoothing, simpoGamma } = options;
  const delta = sub(chosen, rejected);
  if (name === "hinge") return relu(addScalar(scale(delta, -beta), 1));
  if (name === "ipo") return square(addScalar(delta, -1 / (2 * beta)));
  const x = scale(delta, beta);
  return smoothed(name === "simpo" ? addScalar(x, -simpoGamma) : x, labelSmoothing);
}

/**
 * log(1 - e^x) for x < 0, exact for small |x|: 1 - e^x is 2 t / (1 + t) with t = tanh(-x / 2). At 0, where it would be
 * -Infinity (an answer without tokens), x counts as -1e-6.
 */
function logOneMinusExp(x: Tensor): Tensor {
  const t = softCap(scale(clamp(x, -3e38, -1e-6), -0.5), 1);
  return sub(log(scale(t, 2)), log(addScalar(t, 1)));
}

/**
 * The odds-ratio part of ORPO (Hong et al. 2024), log sigmoid of the log odds ratio, and that log odds ratio.
 * @param chosen mean log-probability per token of the chosen answers
 */
export function oddsRatio(chosen: Tensor, rejected: Tensor): { ratio: Tensor; logOdds: Tensor } {
  const logOdds = sub(sub(chosen, rejected), sub(logOneMinusExp(chosen), logOneMinusExp(rejected)));
  return { ratio: logSigmoid(logOdds), logOdds };
}

/** ORPO's part of the loss besides the likelihood of the chosen answer: -beta log sigmoid(log odds ratio). */
export const orpoLoss = (ratio: Tensor, beta: number): Tensor => neg(scale(ratio, beta));
