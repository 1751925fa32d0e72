/** The loss of ODIN (Chen et al. 2024): rewards disentangled from length. */

import { type Tensor, tensor } from "../../tensor/core.ts";
import { elements, range } from "../../tensor/ops/elements.ts";
import { abs, add, addScalar, div, mul, neg, scale, sqrt, square, sub } from "../../tensor/ops/elementwise.ts";
import { mean, sum } from "../../tensor/ops/reduce.ts";
import { type PairLossOptions, pairLoss } from "./pair.ts";

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
