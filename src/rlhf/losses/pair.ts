/** The losses of reward models and cost models that learn from pairs. */
import { type Tensor, tensor } from "../../tensor/core.ts";
import { elements, range } from "../../tensor/ops/elements.ts";
import {
  abs,
  add,
  addScalar,
  div,
  logSigmoid,
  mul,
  neg,
  scale,
  sqrt,
  square,
  sub,
} from "../../tensor/ops/elementwise.ts";
import { mean, sum } from "../../tensor/ops/reduce.ts";

/** Options of the loss of pairs of scores: terms that are added to the comparison. */
export interface PairLossOptions {
  /** c in c * mean(r^2). Default 0. */
  regularization?: number;
  /** "sum": c (mean r_w^2 + mean r_l^2), as PaddleNLP; "mean": c times the mean over both, as safe-rlhf. Default "sum". */
  regularizationOver?: "sum" | "mean";
  /** c in c * mean((r_w + r_l)^2), which centres rewards at 0 (TRL). Default 0. */
  centering?: number;
}

/** Margins and weights of the pairs in a loss, [pairs]. */
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

/** Whether each answer of a pair is safe by itself. */
export interface PairSafety {
  chosen: boolean;
  rejected: boolean;
}

/**
 * The loss of cost models (safe-rlhf, Dai et al. 2023): the safer answer costs less, and a cost above 0 means unsafe:
 * mean[-log sigmoid(c_rejected - c_chosen) - log sigmoid(-s_chosen c_chosen) - log sigmoid(-s_rejected c_rejected)] with
 * s = +1 for safe answers and -1 for unsafe ones.
 * @param chosen costs of the safer answers, [pairs]; `rejected` those of the others
 */
export function costLoss(
  chosen: Tensor,
  rejected: Tensor,
  safety: readonly PairSafety[],
  options: PairLossOptions = {},
  margins: Tensor | null = null,
): Tensor {
  const signed = (cost: Tensor, side: "chosen" | "rejected"): Tensor => {
    const signs = tensor(Float32Array.from(safety, (pair) => (pair[side] ? -1 : 1)));
    return neg(mean(logSigmoid(mul(cost, signs))));
  };
  return add(
    pairLoss(rejected, chosen, options, { margins }),
    add(signed(chosen, "chosen"), signed(rejected, "rejected")),
  );
}

/** Options of the loss of ODIN, rewards disentangled from length (Chen et al. 2024). */
export interface OdinOptions {
  /** Weight of the correlation terms. Default 1. */
  lengthCoef?: number;
  /**
   * What is ranked: "pair" compares the summed heads pair by pair, as the paper; "micro-batch" compares their sums over all
   * pairs at once, as the released code does. Default "pair".
   */
  ranking?: "pair" | "micro-batch";
}

/**
 * Ranking by the sum of both heads + lengthCoef [(1 - corr(length, head 0)) + |corr(length, head 1)|], the correlations
 * (Pearson's) over all answers of the batch. Only head 1 is the reward later.
 * @param outputs [2 pairs, 2]: all chosen answers, then all rejected ones
 * @param lengths tokens of the answers in the same order
 */
export function odinLoss(
  outputs: Tensor,
  lengths: readonly number[],
  { lengthCoef = 1, ranking = "pair", ...options }: OdinOptions & PairLossOptions = {},
  margins: Tensor | null = null,
): Tensor {
  const n = lengths.length;
  const both = sum(outputs, 1);
  const sides = [range(both, 0, n / 2), range(both, n / 2, n / 2)] as const;
  const [chosen, rejected] = ranking === "pair" ? sides : [sum(sides[0]), sum(sides[1])];
  const ranked = pairLoss(chosen, rejected, options, {
    margins: margins && ranking === "micro-batch" ? sum(margins) : margins,
  });
  const head = (k: number): Tensor =>
    elements(
      outputs,
      Uint32Array.from(lengths, (_, i) => 2 * i + k),
    );
  const byLength = correlation(lengths, head(0));
  const byQuality = abs(correlation(lengths, head(1)));
  return add(ranked, scale(add(addScalar(neg(byLength), 1), byQuality), lengthCoef));
}

/** Pearson's correlation of constants with a vector, differentiable in the vector; 0 where either side is constant. */
export function correlation(constants: readonly number[], x: Tensor): Tensor {
  const middle = constants.reduce((a, b) => a + b, 0) / constants.length;
  const norm = Math.sqrt(constants.reduce((total, c) => total + (c - middle) ** 2, 0));
  const z = tensor(Float32Array.from(constants, (c) => (norm > 0 ? (c - middle) / norm : 0)));
  const centred = sub(x, mean(x));
  return div(sum(mul(centred, z)), sqrt(addScalar(sum(square(centred)), 1e-12)));
}
