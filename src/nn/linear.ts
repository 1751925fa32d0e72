/** The linear layer, where adapters hang. */

import type { Tensor } from "../tensor/core.ts";
import { halfOf } from "../tensor/half-copies.ts";
import { type Gate, glu } from "../tensor/ops/activation.ts";
import { cast } from "../tensor/ops/cast.ts";
import { doraFactors, doraWeight } from "../tensor/ops/dora.ts";
import { dropout } from "../tensor/ops/dropout.ts";
import { add, mul, sub } from "../tensor/ops/elementwise.ts";
import { addLora } from "../tensor/ops/lora.ts";
import { linear } from "../tensor/ops/matmul.ts";
import { fusesNorm, normedLinear } from "../tensor/ops/normed-linear.ts";
import { Parameter } from "../tensor/params.ts";
import { dropoutScope } from "./ambient.ts";
import type { Norm } from "./layers.ts";
import { Module } from "./module.ts";

/** One module's B and the rest of its part; of DoRA also the lengths of its rows. */
export interface LowRankPart {
  readonly b: Parameter;
  readonly rankOffset: number;
  readonly first: number;
  readonly scale: number;
  readonly magnitude: Parameter | null;
}

/** An adapter's part of one linear layer: what is added to its output. */
export interface LowRank {
  /** The A matrices of all parts, one below the other: [sum of ranks, in]. */
  readonly a: Parameter;
  /** For each part its B [columns, rank], its first row of A, its first output column and its factor. */
  readonly parts: readonly LowRankPart[];
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
    if (adapter?.parts[0].magnitude) return this.withLengths(x, adapter, residual, type);
    const own = x.dtype === "f16" ? halfOf(weight.stored) : weight.stored;
    const y = linear(x, own, { bias: bias?.value, residual, type, mayWait: true });
    if (!adapter) return y;
    const parts = adapter.parts.map((part) => ({ ...part, b: part.b.value }));
    const scope = dropoutScope();
    const key = scope && { ...scope, layer: adapter.layer, rate: adapter.dropout };
    return addLora(y, x, adapter.a.value, parts, key);
  }

  /** The same under DoRA: y = g (drop(x) W^T + s (drop(x) A^T) B^T) + (x - drop(x)) W^T + b (+ residual), g a factor for each column. */
  private withLengths(x: Tensor, adapter: LowRank, residual: Tensor | undefined, type: "f32" | "f16"): Tensor {
    const weight = doraWeight(this.weight.stored);
    const bias = this.bias?.value;
    const own = x.dtype === "f16" ? halfOf(weight) : weight;
    const parts = adapter.parts.map((part) => {
      return { ...part, b: part.b.value, magnitude: (part.magnitude as Parameter).value };
    });
    const scope = dropoutScope();
    const drops = scope !== null && adapter.dropout > 0;
    const seen = drops ? dropout(x, { ...scope, layer: adapter.layer, rate: adapter.dropout }) : x;
    const low = addLora(linear(seen, own, { type: "f32" }), seen, adapter.a.value, parts);
    const scaled = mul(low, doraFactors(weight, adapter.a.value, parts));
    if (drops) return cast(add(linear(sub(x, seen), own, { bias, residual, type: "f32" }), scaled), type);
    const sum = bias ? add(scaled, bias) : scaled;
    return cast(residual ? add(sum, residual) : sum, type);
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
