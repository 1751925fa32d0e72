import { UserError } from "../runtime/errors.ts";

/** One decoder, described by a record. The two families differ in norm, positions, activation and biases. */
export interface DecoderConfig {
  /** "gpt2": LayerNorm, learned positions, GELU, biases. "llama": RMSNorm, rotary positions, SwiGLU, no biases. */
  family: "gpt2" | "llama";
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
  ropeTheta: number;
  normEps: number;
  /** The LM head shares the embedding matrix. */
  tieEmbeddings: boolean;
  bosId: number | null;
  eosId: number | null;
  padId: number | null;
}

/** The part of a config one must choose; the rest follows by the family's conventions. */
export type DecoderShape = Pick<DecoderConfig, "family" | "vocabSize" | "hiddenSize" | "layers" | "heads"> &
  Partial<DecoderConfig>;

/** Completes a config with the family's defaults. Throws `UserError` naming the field that does not fit. */
export function decoderConfig(shape: DecoderShape): DecoderConfig {
  const llama = shape.family === "llama";
  const config: DecoderConfig = {
    kvHeads: shape.heads,
    headDim: shape.hiddenSize / shape.heads,
    intermediateSize: llama ? Math.ceil((shape.hiddenSize * 8) / 3 / 32) * 32 : 4 * shape.hiddenSize,
    maxPositions: 1024,
    ropeTheta: 10000,
    normEps: llama ? 1e-6 : 1e-5,
    tieEmbeddings: true,
    bosId: null,
    eosId: null,
    padId: null,
    ...shape,
  };
  checkConfig(config);
  return config;
}

function checkConfig(c: DecoderConfig): void {
  if (c.headDim === c.hiddenSize / c.heads && !Number.isInteger(c.headDim)) {
    throw new UserError(`model config: hiddenSize (${c.hiddenSize}) must be a multiple of heads (${c.heads})`);
  }
  const counts = [
    "vocabSize",
    "hiddenSize",
    "layers",
    "heads",
    "kvHeads",
    "headDim",
    "intermediateSize",
    "maxPositions",
  ];
  for (const key of counts as (keyof DecoderConfig)[]) {
    const value = c[key];
    if (!Number.isInteger(value) || (value as number) < 1) {
      throw new UserError(`model config: ${key} must be a positive whole number, not ${value}`);
    }
  }
  if (c.heads % c.kvHeads !== 0) {
    throw new UserError(`model config: heads (${c.heads}) must be a multiple of kvHeads (${c.kvHeads})`);
  }
  if (c.family === "gpt2" && c.headDim * c.heads !== c.hiddenSize) {
    throw new UserError(
      `model config: hiddenSize (${c.hiddenSize}) must be heads (${c.heads}) x headDim (${c.headDim})`,
    );
  }
  if (c.headDim % 4 !== 0 || c.headDim > 128) {
    throw new UserError(`model config: headDim must be a multiple of 4 up to 128, not ${c.headDim}`);
  }
}
