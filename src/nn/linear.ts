/** The linear layer, where adapters hang. */

import type { Tensor } from "../tensor/core.ts";
import { halfOf } from "../tensor/half-copies.ts";
import { type Gate, glu } from "../tensor/ops/activation.ts";
import { addLora } from "../tensor/ops/lora.ts";
import { linear } from "../tensor/ops/matmul.ts";
import { fusesNorm, normedLinear } from "../tensor/ops/normed-linear.ts";
import { Parameter } from "../tensor/params.ts";
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
 * y = x W^T + b (+ residual), W [out, in]; with an adapter also + s (drop(x) A^T) B^T. Rows in f16 meet the weights' copy in
 * f16, or quantized weights as they are; biases, residuals and an adapter's matrices stay f32.
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

  /** @param type of the result */
  forward(x: Tensor, { residual, type = "f32" }: { residual?: Tensor; type?: "f32" | "f16" } = {}): Tensor {
    const { weight, bias, adapter } = this;
    const own = x.dtype === "f16" ? halfOf(weight.stored) : weight.stored;
    const y = linear(x, own, { bias: bias?.value, residual, type, mayWait: true });
    if (!adapter) return y;
    const parts = adapter.parts.map((part) => ({ ...part, b: part.b.value }));
    const scope = dropoutScope();
    const key = scope && { ...scope, layer: adapter.layer, rate: adapter.dropout };
    return addLora(y, x, adapter.a.value, parts, key);
  }

  /**
   * What this layer makes of a norm of x, gated where an activation is named: in one step where that is faster.
   * @param type of what it reads and gives
   */
  afterNorm(norm: Norm, x: Tensor, type: "f32" | "f16", gate?: Gate): Tensor {
    const { weight, bias, adapter } = this;
    if (!adapter && !norm.bias) {
      const { eps, offset } = norm;
      const own = type === "f16" ? halfOf(weight.stored) : weight.stored;
      const parts = { norm: norm.weight.value, eps, offset, weight: own, bias: bias?.value, gate, type };
      if (fusesNorm(x, parts)) return normedLinear(x, parts);
    }
    const y = this.forward(norm.forward(x, type), { type });
    return gate ? glu(y, gate) : y;
  }
}
