/** The transformer decoder: embedding, blocks of attention and MLP with pre-norm residuals, final norm. */
import { willRecord } from "../tensor/autograd.ts";
import { swiglu } from "../tensor/ops/activation.ts";
import { attention } from "../tensor/ops/attention.ts";
import { add, gelu } from "../tensor/ops/elementwise.ts";
import { cachedAttention, kvCacheWrite } from "../tensor/ops/kvcache.ts";
import { rope } from "../tensor/ops/rope.ts";
import type { Packing } from "../tensor/packing.ts";
import { scope } from "../tensor/scope.ts";
import type { Tensor } from "../tensor/tensor.ts";
import type { KvCache } from "./cache.ts";
import type { DecoderConfig } from "./config.ts";
import { Embedding, type Ids, Norm } from "./layers.ts";
import { Linear } from "./linear.ts";
import { Module } from "./module.ts";

/** Which rows attend to which. */
export type Sequences =
  /** Whole sequences, packed one after another; their keys and values are also written to `cache` when given. */
  | { packing: Packing; cache?: KvCache; slots?: Tensor }
  /** One new token for each slot of a cache: row b continues slot b at position `positions[b]`. */
  | { cache: KvCache; slots: Tensor; positions: Tensor; lengths: Tensor };

/** Where the rows stand in their sequences. */
const positionsOf = (at: Sequences): Tensor => ("packing" in at ? at.packing.positions : at.positions);

class Attention extends Module {
  /** Query, key and value projections in one matrix: [(heads + 2 kvHeads) headDim, hidden]. */
  readonly qkv: Linear;
  readonly out: Linear;
  private readonly config: DecoderConfig;
  private readonly layer: number;

  constructor(config: DecoderConfig, layer: number) {
    super();
    const { hiddenSize, heads, kvHeads, headDim, layers } = config;
    const bias = config.family === "gpt2";
    this.qkv = new Linear(hiddenSize, (heads + 2 * kvHeads) * headDim, { bias });
    this.out = new Linear(heads * headDim, hiddenSize, { bias, std: 0.02 / Math.sqrt(2 * layers) });
    this.config = config;
    this.layer = layer;
  }

  forward(x: Tensor, at: Sequences, residual: Tensor): Tensor {
    const { heads, kvHeads, headDim, family, ropeTheta } = this.config;
    const shape = { heads, kvHeads, headDim };
    let qkv = this.qkv.forward(x);
    if (family === "llama") qkv = rope(qkv, positionsOf(at), { ...shape, theta: ropeTheta });
    if (at.cache) {
      const { keys, values } = at.cache.layer(this.layer);
      kvCacheWrite(qkv, keys, values, at.slots as Tensor, positionsOf(at), shape);
    }
    const scale = 1 / Math.sqrt(headDim);
    if ("packing" in at) return this.out.forward(attention(qkv, at.packing, { ...shape, scale }), residual);
    const { keys, values } = at.cache.layer(this.layer);
    return this.out.forward(cachedAttention(qkv, keys, values, at.lengths, { ...shape, scale }), residual);
  }
}

class Mlp extends Module {
  /** GPT-2: the first projection. Llama: gate and up projections in one matrix, gate first. */
  readonly up: Linear;
  readonly down: Linear;
  private readonly family: DecoderConfig["family"];

  constructor({ family, hiddenSize, intermediateSize, layers }: DecoderConfig) {
    super();
    const bias = family === "gpt2";
    this.up = new Linear(hiddenSize, family === "llama" ? 2 * intermediateSize : intermediateSize, { bias });
    this.down = new Linear(intermediateSize, hiddenSize, { bias, std: 0.02 / Math.sqrt(2 * layers) });
    this.family = family;
  }

  forward(x: Tensor, residual: Tensor): Tensor {
    const up = this.up.forward(x);
    return this.down.forward(this.family === "llama" ? swiglu(up) : gelu(up), residual);
  }
}

class Block extends Module {
  readonly norm1: Norm;
  readonly attention: Attention;
  readonly norm2: Norm;
  readonly mlp: Mlp;

  constructor(config: DecoderConfig, layer: number) {
    super();
    const norm = () => new Norm(config.hiddenSize, config.normEps, config.family === "gpt2" ? "layer" : "rms");
    this.norm1 = norm();
    this.attention = new Attention(config, layer);
    this.norm2 = norm();
    this.mlp = new Mlp(config);
  }

  forward(x: Tensor, at: Sequences): Tensor {
    const h = this.attention.forward(this.norm1.forward(x), at, x);
    return this.mlp.forward(this.norm2.forward(h), h);
  }
}

export class Decoder extends Module {
  readonly config: DecoderConfig;
  readonly embed: Embedding;
  /** Learned positions (GPT-2 only). */
  readonly positions: Embedding | null;
  readonly blocks: Block[];
  readonly norm: Norm;

  constructor(config: DecoderConfig) {
    super();
    this.config = config;
    this.embed = new Embedding(config.vocabSize, config.hiddenSize);
    this.positions = config.family === "gpt2" ? new Embedding(config.maxPositions, config.hiddenSize) : null;
    this.blocks = Array.from({ length: config.layers }, (_, i) => new Block(config, i));
    this.norm = new Norm(config.hiddenSize, config.normEps, config.family === "gpt2" ? "layer" : "rms");
  }

  /** Hidden states after the final norm, [N, hidden], for N token rows. */
  forward(ids: Ids | { gpu: Tensor; host?: undefined }, at: Sequences): Tensor {
    let x = this.embed.forward(ids.gpu, ids.host);
    if (this.positions) {
      const host = "packing" in at ? at.packing.hostPositions : undefined;
      x = add(x, this.positions.forward(positionsOf(at), host));
    }
    for (const block of this.blocks) {
      // Without a tape the intermediate results of a block die with it, and the residual stream with the next one.
      x = willRecord([x]) ? block.forward(x, at) : scope(() => block.forward(x, at));
    }
    return this.norm.forward(x);
  }
}
