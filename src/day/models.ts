/** The shapes that the day measures with: weights are random, what they weigh is not. */
import type { DecoderConfig, DecoderShape } from "../nn/config.ts";
import { decoderConfig } from "../nn/decoder-config.ts";

/** A model's shape and the sizes of what is done with it. */
export interface DayModel {
  readonly name: string;
  readonly config: DecoderConfig;
  /** Sequences and tokens of a training step. */
  readonly batch: readonly [sequences: number, tokens: number];
  /** Sequences that are generated at once. */
  readonly decode: readonly number[];
  /** Tokens of prompts and responses in rollouts. */
  readonly prompt: number;
  readonly response: number;
  /** Rows of matrix products: tokens of a step, and rows of decoding. */
  readonly rows: readonly number[];
  /** Lengths of attention. */
  readonly lengths: readonly number[];
}

const llama = (shape: Omit<DecoderShape, "family">): DecoderConfig => decoderConfig({ family: "llama", ...shape });

const gpu = {
  batch: [8, 1024],
  decode: [1, 16, 64, 256],
  prompt: 128,
  response: 64,
  rows: [1, 4, 9, 16, 32, 64, 256, 2048, 8192],
  lengths: [256, 1024, 4096],
} as const;

/** By name. "tiny" rehearses on a CPU, and says nothing of speed. */
export const dayModels: Readonly<Record<string, DayModel>> = {
  tiny: {
    name: "tiny",
    config: llama({ vocabSize: 512, hiddenSize: 64, layers: 2, heads: 4, kvHeads: 2, intermediateSize: 128 }),
    batch: [2, 64],
    decode: [1, 4],
    prompt: 16,
    response: 8,
    rows: [1, 9, 64],
    lengths: [64],
  },
  "smollm2-135m": {
    name: "smollm2-135m",
    config: llama({
      ...{ vocabSize: 49152, hiddenSize: 576, layers: 30, heads: 9, kvHeads: 3, intermediateSize: 1536 },
      ...{ maxPositions: 8192, tieEmbeddings: true },
    }),
    ...gpu,
  },
  "qwen2.5-0.5b": {
    name: "qwen2.5-0.5b",
    config: llama({
      ...{ vocabSize: 151936, hiddenSize: 896, layers: 24, heads: 14, kvHeads: 2, intermediateSize: 4864 },
      ...{ maxPositions: 32768, tieEmbeddings: true },
    }),
    ...gpu,
  },
  "llama-3.2-1b": {
    name: "llama-3.2-1b",
    config: llama({
      ...{ vocabSize: 128256, hiddenSize: 2048, layers: 16, heads: 32, kvHeads: 8, intermediateSize: 8192 },
      ...{ maxPositions: 131072, tieEmbeddings: true },
    }),
    ...gpu,
  },
  "llama-3.2-3b": {
    name: "llama-3.2-3b",
    config: llama({
      ...{ vocabSize: 128256, hiddenSize: 3072, layers: 28, heads: 24, kvHeads: 8, intermediateSize: 8192 },
      ...{ maxPositions: 131072, tieEmbeddings: true },
    }),
    ...gpu,
  },
};

/** The matrices of a layer and the head, as [outputs, inputs]. */
export function matrices({ config }: DayModel): Record<string, readonly [outputs: number, inputs: number]> {
  const { hiddenSize, heads, kvHeads, headDim, intermediateSize, gated, vocabSize } = config;
  return {
    qkv: [(heads + 2 * kvHeads) * headDim, hiddenSize],
    out: [hiddenSize, heads * headDim],
    up: [(gated ? 2 : 1) * intermediateSize, hiddenSize],
    down: [hiddenSize, intermediateSize],
    head: [vocabSize, hiddenSize],
  };
}

/** The model that the day measures with where nobody chose one: a CPU only rehearses. */
export const dayModelFor = (kind: "cpu" | "hardware"): DayModel => dayModels[kind === "cpu" ? "tiny" : "smollm2-135m"];
