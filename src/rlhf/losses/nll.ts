import type { Tensor } from "../../tensor/core.ts";
import { scale } from "../../tensor/ops/elementwise.ts";
import { sum } from "../../tensor/ops/reduce.ts";

/** Weighted negative log-likelihood: -sum_t w log p_t. */
export const nllLoss = (logProbs: Tensor, weight: number): Tensor => scale(sum(logProbs), -weight);
