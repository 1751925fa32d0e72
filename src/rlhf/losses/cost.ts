/** The loss of cost models (safe-rlhf, Dai et al. 2023). */

import { type Tensor, tensor } from "../../tensor/core.ts";
import { add, logSigmoid, mul, neg } from "../../tensor/ops/elementwise.ts";
import { mean } from "../../tensor/ops/reduce.ts";
import { type PairLossOptions, pairLoss } from "./pair.ts";

/** Whether each answer of a pair is safe by itself. */
export interface PairSafety {
  chosen: boolean;
  rejected: boolean;
}

/**
 * The safer answer costs less, and a cost above 0 means unsafe:
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
