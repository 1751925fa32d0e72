/**
 * Losses of Online-RLHF and LMFlow that know how much better the chosen answer is: the policy's preference q = sigmoid(x),
 * x = beta z, is drawn towards that of the reward model, p = sigmoid(m), m the difference of the rewards.
 */

import { full, type Tensor } from "../../tensor/core.ts";
import {
  abs,
  add,
  addScalar,
  log,
  logSigmoid,
  minimum,
  mul,
  neg,
  scale,
  sigmoid,
  sqrt,
  square,
  sub,
} from "../../tensor/ops/elementwise.ts";

/** @param x beta z; @param m margins; both [pairs], as is the result */
export type MarginLoss = (x: Tensor, m: Tensor) => Tensor;

const oneMinus = (x: Tensor): Tensor => addScalar(neg(x), 1);
/** q as the originals cap it, so that log(1 - q) exists. */
const capped = (x: Tensor): Tensor => minimum(sigmoid(x), full(x.shape, 0.999));

export const marginLosses = {
  /** Cross entropy between p and q, which is KL(p || q) up to a constant. */
  rev_kl: (x, m) => neg(add(mul(sigmoid(m), logSigmoid(x)), mul(sigmoid(neg(m)), logSigmoid(neg(x))))),
  /** KL(q || p), with p = e^m / (1 + e^m + 0.001), written as sigmoid(m) / (1 + 0.001 sigmoid(-m)). */
  kl: (x, m) => {
    const q = capped(x);
    const rest = addScalar(scale(sigmoid(neg(m)), 1e-3), 1);
    const logP = sub(logSigmoid(m), log(rest));
    const logNotP = sub(log(scale(sigmoid(neg(m)), 1.001)), log(rest));
    const won = mul(q, sub(log(q), logP));
    return add(won, mul(oneMinus(q), sub(log(oneMinus(q)), logNotP)));
  },
  /** Total variation. */
  tv: (x, m) => abs(sub(sigmoid(x), sigmoid(m))),
  /** The squared Hellinger distance. */
  hellinger: (x, m) => {
    const q = capped(x);
    const won = square(sub(sqrt(q), sqrt(sigmoid(m))));
    return scale(add(won, square(sub(sqrt(oneMinus(q)), sqrt(sigmoid(neg(m)))))), 0.5);
  },
} as const satisfies Record<string, MarginLoss>;
