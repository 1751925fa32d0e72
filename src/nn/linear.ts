/** The linear layer, where adapters hang. */

import { linear } from "../tensor/ops/matmul.ts";
import { Parameter } from "../tensor/params.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { Module } from "./module.ts";

/** y = x W^T + b (+ residual), W [out, in]. */
export class Linear extends Module {
  readonly weight: Parameter;
  readonly bias: Parameter | null;

  constructor(inputs: number, outputs: number, { bias = false, std = 0.02 } = {}) {
    super();
    this.weight = new Parameter([outputs, inputs], { normal: std });
    this.bias = bias ? new Parameter([outputs], { constant: 0 }) : null;
  }

  forward(x: Tensor, residual?: Tensor): Tensor {
    return linear(x, this.weight.value, { bias: this.bias?.value, residual });
  }
}
