/** The transformer decoder: embedding, blocks of attention and MLP around a residual stream, final norm. */
import { batchInvariant, batchInvariantly } from "../gpu/variants.ts";
import { UserError } from "../runtime/errors.ts";
import { checkpoint, scope, type Tensor, willRecord } from "../tensor/core.ts";
import { type AttentionOptions, attention } from "../tensor/ops/attention.ts";
import { decodeAttention, fusesRotation } from "../tensor/ops/decode-attention.ts";
import { add, gelu, geluErf, relu, scale, silu } from "../tensor/ops/elementwise.ts";
import { cachedAttention, kvCacheWrite } from "../tensor/ops/kvcache.ts";
import { MAX_ROPE_POSITIONS, rope, ropeIntoCache, rotatesIntoCache } from "../tensor/ops/rope.ts";
import { rotatedAttention } from "../tensor/ops/rotated-attention.ts";
import type { Packing } from "../tensor/packing.ts";
import { rerunnable } from "./ambient.ts";
import type { KvCache, KvCacheFormat } from "./cache.ts";
import type { DecoderConfig } from "./config.ts";
import { Embedding, type Ids, Norm, QkNorm } from "./layers.ts";
import { Linear } from "./linear.ts";
import { Module } from "./module.ts";
import { type Rotary, rotaryOf } from "./rotary.ts";

/** The sequences that a batch of token rows belongs to: which rows attend to which. */
export type Sequences =
  /** Whole sequences, packed one after another; their keys and values are also written to `cache` when given. */
  | { packing: Packing; cache?: KvCache; slots?: Tensor }
  /**
   * New tokens of sequences whose other tokens are in a cache: row b is at position `positions[b]` of slot b, or where
   * `shared` of slot `slots[b]`, and sees that slot's first `lengths[b]` tokens.
   */
  | { cache: KvCache; slots: Tensor; positions: Tensor; lengths: Tensor; shared?: boolean };

/** Type of what products, attention and activations inside of a block read, and of the cache; the residual stream is f32. */
type Inner = "f32" | "f16";

/** Heads whose queries and keys turn with their positions, and how. */
type Turning = Pick<AttentionOptions, "heads" | "kvHeads" | "headDim"> & Rotary;
type Heads = Omit<AttentionOptions, "variant">;

/** Where the rows stand in their sequences. */
const positionsOf = (at: Sequences): Tensor => ("packing" in at ? at.packing.positions : at.positions);

class Attention extends Module {
  /** Query, key and value projections in one matrix: [(heads + 2 kvHeads) headDim, hidden]. */
  readonly qkv: Linear;
  /** Weights of the norms of query heads and of key heads, one after the other. */
  readonly qkNorm: QkNorm | null;
  readonly out: Linear;
  private readonly layer: number;
  private readonly options: Heads;
  /** How queries and keys turn; null where they do not. */
  private readonly turning: Turning | null;
  private readonly turned: (Heads & Turning) | null;

  constructor(config: DecoderConfig, layer: number) {
    super();
    const { hiddenSize, heads, kvHeads, headDim, layers } = config;
    this.qkv = new Linear(hiddenSize, (heads + 2 * kvHeads) * headDim, { bias: config.qkvBias });
    this.qkNorm = config.qkNorm ? new QkNorm(config) : null;
    this.out = new Linear(heads * headDim, hiddenSize, { bias: config.outBias, std: 0.02 / Math.sqrt(2 * layers) });
    this.layer = layer;
    const { attentionScale: scale, attentionSoftcap: softcap, slidingLayers, slidingWindow } = config;
    const shape = { heads, kvHeads, headDim };
    this.options = { ...shape, scale, softcap, window: slidingLayers[layer] ? slidingWindow : null };
    const rotary = rotaryOf(config, layer);
    this.turning = rotary && { ...shape, ...rotary };
    this.turned = this.turning && { ...this.options, ...this.turning };
  }

  forward(x: Tensor, norm: Norm, at: Sequences, type: Inner, residual?: Tensor): Tensor {
    const { options, turning, turned } = this;
    let qkv = this.qkv.afterNorm(norm, x, type);
    if (this.qkNorm) qkv = this.qkNorm.forward(qkv);
    const positions = positionsOf(at);
    const cache = at.cache && { ...at.cache.layer(this.layer), slots: at.slots as Tensor };
    if (!("packing" in at) && !at.shared && cache && turned && fusesRotation(qkv, turned)) {
      const attended = decodeAttention(qkv, positions, at.lengths, cache, turned);
      return this.out.forward(attended, { residual });
    }
    if ("packing" in at && !cache && turned) {
      return this.out.forward(rotatedAttention(qkv, at.packing, turned), { residual });
    }
    const together = turning && cache && rotatesIntoCache(positions.size);
    if (together) qkv = ropeIntoCache(qkv, positions, turning, cache);
    else {
      if (turning) qkv = rope(qkv, positions, turning);
      if (cache) kvCacheWrite(qkv, cache.keys, cache.values, cache.slots, positions, options);
    }
    if ("packing" in at) return this.out.forward(attention(qkv, at.packing, options), { residual });
    const { keys, values } = at.cache.layer(this.layer);
    const slots = at.shared ? at.slots : undefined;
    return this.out.forward(cachedAttention(qkv, keys, values, at.lengths, { ...options, slots }), { residual });
  }
}

const plain = { gelu: geluErf, gelu_tanh: gelu, silu, relu } as const;

class Mlp extends Module {
  /** The first projection; where the MLP is gated, gate and up projections in one matrix, gate first. */
  readonly up: Linear;
  readonly down: Linear;
  private readonly gated: boolean;
  private readonly activation: DecoderConfig["activation"];

  constructor({ gated, activation, mlpBias: bias, hiddenSize, intermediateSize, layers }: DecoderConfig) {
    super();
    this.up = new Linear(hiddenSize, gated ? 2 * intermediateSize : intermediateSize, { bias });
    this.down = new Linear(intermediateSize, hiddenSize, { bias, std: 0.02 / Math.sqrt(2 * layers) });
    this.gated = gated;
    this.activation = activation;
  }

  forward(x: Tensor, norm: Norm, type: Inner, residual?: Tensor): Tensor {
    const { gated, activation } = this;
    const h = gated
      ? this.up.afterNorm(norm, x, type, activation)
      : plain[activation](this.up.afterNorm(norm, x, type));
    return this.down.forward(h, { residual });
  }
}

/** One layer of a decoder: attention and MLP around the residual stream. */
class Block extends Module {
  readonly norm1: Norm;
  readonly attention: Attention;
  /** Norms of what attention and MLP give. */
  readonly postNorm1: Norm | null;
  readonly norm2: Norm;
  readonly mlp: Mlp;
  readonly postNorm2: Norm | null;
  private readonly parallel: boolean;

  constructor(config: DecoderConfig, layer: number) {
    super();
    const norm = () => new Norm(config.hiddenSize, config);
    this.norm1 = norm();
    this.attention = new Attention(config, layer);
    this.postNorm1 = config.sandwichNorms ? norm() : null;
    this.norm2 = norm();
    this.mlp = new Mlp(config);
    this.postNorm2 = config.sandwichNorms ? norm() : null;
    this.parallel = config.parallelResidual;
  }

  forward(x: Tensor, at: Sequences, type: Inner): Tensor {
    const { norm1, norm2, attention, mlp, postNorm1, postNorm2 } = this;
    const h = postNorm1
      ? add(x, postNorm1.forward(attention.forward(x, norm1, at, type)))
      : attention.forward(x, norm1, at, type, x);
    const read = this.parallel ? x : h;
    return postNorm2 ? add(h, postNorm2.forward(mlp.forward(read, norm2, type))) : mlp.forward(read, norm2, type, h);
  }
}

/** A transformer decoder without a head: token ids to hidden states. */
export class Decoder extends Module {
  readonly config: DecoderConfig;
  readonly embed: Embedding;
  /** Learned positions; null where positions are rotary. */
  readonly positions: Embedding | null;
  /** @internal */
  readonly blocks: Block[];
  readonly norm: Norm;
  /** Gradient checkpointing: keep only each block's input for the gradient, and compute the block again then. */
  checkpointing = false;
  /**
   * What products, attention and activations inside of the blocks read is f16, copies of the weights as well. The residual
   * stream, norms, softmax and sums stay f32. Tokens that go through a cache are read as its type says instead.
   */
  half = false;
  /** How caches of keys and values are kept that are made from now on. */
  kvCache: KvCacheFormat = "auto";
  /** A row's values are the same bits whatever other sequences are computed beside it: see `batchInvariantly`. */
  batchInvariant = false;

  constructor(config: DecoderConfig) {
    super();
    this.config = config;
    this.embed = new Embedding(config.vocabSize, config.hiddenSize);
    this.positions = config.positions === "learned" ? new Embedding(config.maxPositions, config.hiddenSize) : null;
    this.blocks = Array.from({ length: config.layers }, (_, i) => new Block(config, i));
    this.norm = new Norm(config.hiddenSize, config);
  }

  /** Hidden states after the final norm, [N, hidden], for N token rows. */
  forward(ids: Ids | { gpu: Tensor; host?: undefined }, at: Sequences): Tensor {
    if (this.batchInvariant && !batchInvariant()) return batchInvariantly(() => this.forward(ids, at));
    if ("packing" in at) checkLength(at.packing.maxLength, this.config);
    let x = this.embed.forward(ids.gpu, ids.host);
    if (this.config.embedScale !== 1) x = scale(x, this.config.embedScale);
    if (this.positions) {
      const host = "packing" in at ? at.packing.hostPositions : undefined;
      x = add(x, this.positions.forward(positionsOf(at), host));
    }
    const type = at.cache ? at.cache.type : this.half ? "f16" : "f32";
    for (const block of this.blocks) {
      const run = (h: Tensor) => block.forward(h, at, type);
      // Without a tape the intermediate results of a block die with it, and the residual stream with the next one.
      x = this.checkpointing ? checkpoint(rerunnable(run), x) : willRecord([x]) ? run(x) : scope(() => run(x));
    }
    return this.norm.forward(x);
  }
}

/** Refuses sequences whose positions do not exist: not learned, scaled otherwise beyond the context, or not tabled. */
function checkLength(length: number, { positions, ropeScaling, maxPositions }: DecoderConfig): void {
  const within = positions === "learned" || ropeScaling?.type === "dynamic";
  const most = within ? maxPositions : MAX_ROPE_POSITIONS;
  if (length > most) throw new UserError(`a sequence has ${length} tokens; this model has positions for ${most}`);
}
