/** The layers decoders are made of. */

import type { Tensor } from "../tensor/core.ts";
import { embedding } from "../tensor/ops/embedding.ts";
import { layerNorm, rmsNorm } from "../tensor/ops/norm.ts";
import { type QkNormOptions, qkNorm } from "../tensor/ops/qk-norm.ts";
import { Parameter } from "../tensor/params.ts";
import type { DecoderConfig } from "./config.ts";
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
  readonly eps: number;
  /** The weights are stored less 1. */
  readonly offset: boolean;

  constructor(size: number, { norm, normEps, normOffset }: Pick<DecoderConfig, "norm" | "normEps" | "normOffset">) {
    super();
    this.weight = new Parameter([size], { constant: normOffset ? 0 : 1 });
    this.bias = norm === "layer" ? new Parameter([size], { constant: 0 }) : null;
    this.eps = normEps;
    this.offset = normOffset;
  }

  /** @param type of the result; the statistics are f32 */
  forward(x: Tensor, type = x.dtype): Tensor {
    const { weight, bias, eps, offset } = this;
    if (bias) return layerNorm(x, weight.value, bias.value, eps, { type });
    return rmsNorm(x, weight.value, eps, { offset, type });
  }
}

/** RMSNorm of every query and key head. */
export class QkNorm extends Module {
  /** Of the queries, then of the keys: [2 headDim]. */
  readonly weight: Parameter;
  private readonly options: QkNormOptions;

  constructor({ heads, kvHeads, headDim, normEps: eps, normOffset: offset }: DecoderConfig) {
    super();
    this.weight = new Parameter([2 * headDim], { constant: offset ? 0 : 1 });
    this.options = { heads, kvHeads, headDim, eps, offset };
  }

  forward(qkv: Tensor): Tensor {
    return qkNorm(qkv, this.weight.value, this.options);
  }
}

/** A table of vectors, one per id. */
export class Embedding extends Module {
  readonly weight: Parameter;

  constructor(count: number, size: number) {
    super();
    this.weight = new Parameter([count, size], { normal: 0.02 });
    this.weight.isTable = true;
  }

  forward(ids: Tensor, host?: ArrayLike<number>): Tensor {
    return embedding(this.weight.stored, ids, host);
  }
}
