/** The layers decoders are made of. */

import { embedding } from "../tensor/ops/embedding.ts";
import { layerNorm, rmsNorm } from "../tensor/ops/norm.ts";
import { Parameter } from "../tensor/params.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { Module } from "./module.ts";

/** Token ids on the GPU, with the host's copy that the embedding gradient needs. */
export interface Ids {
  readonly gpu: Tensor;
  readonly host: Uint32Array;
}

/** RMSNorm, or LayerNorm where there is a bias. */
export class Norm extends Module {
  readonly weight: Parameter;
  readonly bias: Parameter | null;
  private readonly eps: number;

  constructor(size: number, eps: number, kind: "rms" | "layer") {
    super();
    this.weight = new Parameter([size], { constant: 1 });
    this.bias = kind === "layer" ? new Parameter([size], { constant: 0 }) : null;
    this.eps = eps;
  }

  forward(x: Tensor): Tensor {
    const { weight, bias, eps } = this;
    return bias ? layerNorm(x, weight.value, bias.value, eps) : rmsNorm(x, weight.value, eps);
  }
}

/** A table of vectors, one per id. */
export class Embedding extends Module {
  readonly weight: Parameter;

  constructor(count: number, size: number) {
    super();
    this.weight = new Parameter([count, size], { normal: 0.02 });
  }

  forward(ids: Tensor, host?: ArrayLike<number>): Tensor {
    return embedding(this.weight.value, ids, host);
  }
}
