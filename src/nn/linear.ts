/** The linear layer, where adapters hang. */

import type { Tensor } from "../tensor/core.ts";
import { type Gate, glu } from "../tensor/ops/activation.ts";
import { cast } from "../tensor/ops/cast.ts";
import { addLora } from "../tensor/ops/lora.ts";
import { linear } from "../tensor/ops/matmul.ts";
import { fusesNorm, normedLinear } from "../tensor/ops/normed-linear.ts";
import { Parameter } from "../tensor/params.ts";
import { QuantizedWeight } from "../tensor/quantized.ts";
import { dropoutScope } from "./ambient.ts";
import type { Norm } from "./layers.ts";
import { Module } from "./module.ts";

/** An adapter's part of one linear layer: what is added to its output. */
export interface LowRank {
  /** The A matrices of all parts, one below the other: [sum of ranks, in]. */
  readonly a: Parameter;
  /** For each part its B [columns, rank], its first row of A, its first output column and its factor. */
  readonly parts: readonly { b: Parameter; rankOffset: number; first: number; scale: number }[];
  /** Number of the layer in its adapter, and how much of the input drops out in training. */
  readonly layer: number;
  readonly dropout: number;
}

/**
 * y = x W^T + b (+ residual), W [out, in]; with an adapter also + s (drop(x) A^T) B^T. Rows in f16 meet a copy of the
 * weights in f16, made for each pass, or quantized weights as they are.
 */
export class Linear extends Module {
  readonly weight: Parameter;
  readonly bias: Parameter | null;
  /** Set by an adapter for as long as it is applied. */
  adapter: LowRank | null = null;

  constructor(inputs: number, outputs: number, { bias = false, std = 0.02 } = {}) {
    super();
    this.weight = new Parameter([outputs, inputs], { normal: std });
    this.bias = bias ? new Parameter([outputs], { constant: 0 }) : null;
  }

  forward(x: Tensor, residual?: Tensor): Tensor {
    const { weight, bias, adapter } = this;
    const like = ({ value }: Parameter) => (x.dtype === "f16" ? cast(value, "f16") : value);
    const y = linear(x, weight.stored instanceof QuantizedWeight ? weight.stored : like(weight), {
      bias: bias ? like(bias) : undefined,
      residual,
      mayWait: true,
    });
    if (!adapter) return y;
    const parts = adapter.parts.map((part) => ({ ...part, b: like(part.b) }));
    const scope = dropoutScope();
    const key = scope && { ...scope, layer: adapter.layer, rate: adapter.dropout };
    return addLora(y, x, like(adapter.a), parts, key);
  }

  /** What this layer makes of a norm of x, gated where an activation is named: in one step where that is faster. */
  afterNorm(norm: Norm, x: Tensor, gate?: Gate): Tensor {
    const { weight, bias, adapter } = this;
    if (!adapter && !norm.bias) {
      const { eps, offset } = norm;
      const parts = { norm: norm.weight.value, eps, offset, weight: weight.stored, bias: bias?.value, gate };
      if (fusesNorm(x, parts)) return normedLinear(x, parts);
    }
    const y = this.forward(norm.forward(x));
    return gate ? glu(y, gate) : y;
  }
}
