/** What a decoder is made of, as a record, and what such a record may hold. */
import { UserError } from "../runtime/errors.ts";

/** Layers that a decoder may have: more than any model has, and few enough to list. */
export const MAX_LAYERS = 10_000;

/** The function between the two projections of the MLP; "gelu" is exact, "gelu_tanh" its usual approximation. */
export type Activation = "gelu" | "gelu_tanh" | "silu" | "relu";

/** How rotary frequencies are stretched beyond the context that a model was first trained with. */
export type RopeScaling =
  | { type: "linear"; factor: number }
  /** Frequencies grow only beyond `maxPositions`, where models here do not go: within the context nothing is scaled. */
  | { type: "dynamic"; factor: number }
  | {
      type: "llama3";
      factor: number;
      lowFreqFactor: number;
      highFreqFactor: number;
      originalMaxPositions: number;
    }
  | {
      type: "yarn";
      factor: number;
      originalMaxPositions: number;
      betaFast: number;
      betaSlow: number;
      /** Factor on the rotated queries and keys. */
      attentionFactor: number;
      /** The range of interpolated dimensions is rounded outwards to whole ones. */
      truncate: boolean;
    };

/** A decoder, described by a record: every field but `family` says what is computed. */
export interface DecoderConfig {
  /** Hugging Face's `model_type`: names and layout of files, and the defaults of this record. */
  family: string;
  vocabSize: number;
  hiddenSize: number;
  layers: number;
  heads: number;
  /** Key/value heads; fewer than `heads` is grouped-query attention. */
  kvHeads: number;
  headDim: number;
  /** Width of the MLP. */
  intermediateSize: number;
  /** Longest sequence, in tokens. */
  maxPositions: number;

  /** LayerNorm (with biases) or RMSNorm (without). */
  norm: "layer" | "rms";
  normEps: number;
  /** Norm weights are stored less 1, as Gemma does. */
  normOffset: boolean;
  /** Attention and MLP are followed by a norm of their own, too, before they join the residual stream. */
  sandwichNorms: boolean;
  /** Attention and MLP read the same residual stream instead of one after the other. */
  parallelResidual: boolean;

  activation: Activation;
  /** The MLP multiplies activation(gate) with a second projection. */
  gated: boolean;
  mlpBias: boolean;

  /** Biases of the query, key and value projections, and of the projection after attention. */
  qkvBias: boolean;
  outBias: boolean;
  /** RMSNorm of each query and key head before rotation. */
  qkNorm: boolean;
  /** Factor on the attention scores. */
  attentionScale: number;
  /** Scores s become cap * tanh(s / cap). */
  attentionSoftcap: number | null;
  /** In sliding layers a token sees this many tokens, itself included. */
  slidingWindow: number | null;
  /** Which layers slide, one entry per layer. */
  slidingLayers: readonly boolean[];

  positions: "learned" | "rotary";
  ropeTheta: number;
  ropeScaling: RopeScaling | null;
  /** Part of each head's columns that is rotated. */
  ropeFraction: number;
  /** Base of the sliding layers where it differs; they are not scaled then. */
  localRopeTheta: number | null;
  /** Which layers rotate, one entry per layer; the others have no positions. */
  ropeLayers: readonly boolean[];

  /** Factor on the embeddings. */
  embedScale: number;
  /** The LM head shares the embedding matrix. */
  tieEmbeddings: boolean;
  /** Logits z become cap * tanh(z / cap). */
  logitSoftcap: number | null;
  bosId: number | null;
  /** The token that ends a text; the first of `eosIds`. */
  eosId: number | null;
  /** Every token that ends a text. */
  eosIds: readonly number[];
  padId: number | null;
}

/** The part of a `DecoderConfig` that one must choose; the rest follows by the family's conventions. */
export type DecoderShape = Pick<DecoderConfig, "family" | "vocabSize" | "hiddenSize" | "layers" | "heads"> &
  Partial<DecoderConfig>;

const counts = ["vocabSize", "hiddenSize", "heads", "kvHeads", "headDim", "intermediateSize", "maxPositions"] as const;

/**
 * Throws `UserError` naming the field that no decoder here can have.
 * @param where what messages start with
 * @param squareAttention the heads' columns together must be as wide as the hidden state
 */
export function checkConfig(c: DecoderConfig, where: string, squareAttention: boolean): void {
  const wrong = (what: string): never => {
    throw new UserError(`${where}: ${what}`);
  };
  if (c.headDim === c.hiddenSize / c.heads && !Number.isInteger(c.headDim)) {
    wrong(`hiddenSize (${c.hiddenSize}) must be a multiple of heads (${c.heads})`);
  }
  for (const key of counts) {
    if (!Number.isInteger(c[key]) || c[key] < 1) wrong(`${key} must be a positive whole number, not ${c[key]}`);
  }
  if (c.heads % c.kvHeads !== 0) wrong(`heads (${c.heads}) must be a multiple of kvHeads (${c.kvHeads})`);
  if (squareAttention && c.headDim * c.heads !== c.hiddenSize) {
    wrong(`hiddenSize (${c.hiddenSize}) must be heads (${c.heads}) x headDim (${c.headDim})`);
  }
  if (c.headDim % 4 !== 0 || c.headDim > 256) wrong(`headDim must be a multiple of 4 up to 256, not ${c.headDim}`);
  const window = c.slidingWindow;
  if (window !== null && (!Number.isInteger(window) || window < 1)) {
    wrong(`slidingWindow must be a positive whole number, not ${window}`);
  }
  for (const key of ["slidingLayers", "ropeLayers"] as const) {
    if (c[key].length !== c.layers) wrong(`${key} has ${c[key].length} entries for ${c.layers} layers`);
  }
  const rotated = rotaryDim(c);
  if (c.positions === "rotary" && (rotated < 2 || rotated > c.headDim || rotated % 2 !== 0)) {
    wrong(`ropeFraction ${c.ropeFraction} of headDim ${c.headDim} is ${rotated} columns, which must be even`);
  }
  const positive = { ...c, ropeScaling: c.ropeScaling?.factor ?? null };
  for (const key of [
    "attentionSoftcap",
    "logitSoftcap",
    "ropeTheta",
    "localRopeTheta",
    "ropeScaling",
    "normEps",
    "attentionScale",
    "embedScale",
  ] as const) {
    const value = positive[key];
    if (value !== null && !(value > 0)) wrong(`${key} must be positive, not ${value}`);
  }
}

/** Columns of each query and key head that are rotated. */
export const rotaryDim = ({ headDim, ropeFraction }: Pick<DecoderConfig, "headDim" | "ropeFraction">): number =>
  Math.floor(headDim * ropeFraction);

/** Columns of the widest matrix between a block's layers: a row per token. The output head is not among them. */
export function widestActivation(config: DecoderConfig): number {
  const { hiddenSize, heads, kvHeads, headDim, gated, intermediateSize } = config;
  return Math.max(hiddenSize, (heads + 2 * kvHeads) * headDim, gated ? 2 * intermediateSize : intermediateSize);
}
