/** What a family of Hugging Face models is to us: names of its files, defaults, and its config.json in both directions. */
import type { GgufArchitecture } from "../../io/gguf-architectures.ts";
import type { DecoderConfig, DecoderShape } from "../config.ts";
import type { ConfigReader } from "./reader.ts";

/** The head of a model: a language model's logits, or a scorer's numbers. */
export type HeadKind = "lm" | "score";

/**
 * A tensor of a model's file: rows [first, last) of a parameter (of all of them by default), transposed if the family stores
 * it so, or with its rows in another order.
 */
export interface FileTensor {
  name: string;
  parameter: string;
  rows?: readonly [first: number, last: number];
  transposed?: boolean;
  /** Row i of the file is row order[i] of the parameter. Never together with `rows` or `transposed`. */
  order?: readonly number[];
  /** Other names under which files carry it. */
  aliases?: readonly string[];
}

/**
 * A family of models: Hugging Face's name for it, its defaults, the names of its files' tensors, and its config.json in
 * both directions. `registerFamily` makes it known.
 */
export interface Family {
  /** `model_type` in config.json. */
  modelType: string;
  /** Class names in config.json's `architectures`. */
  classes: Record<HeadKind, string>;
  /** The submodule that is the model without its head; files of the bare model leave it away. */
  prefix: string;
  /** The LM head where it is not the embedding matrix. Default "lm_head.weight". */
  headName?: string;
  /** The heads' columns together are as wide as the hidden state. */
  squareAttention?: boolean;
  /** What a fresh model of this family has where `decoderConfig` is told nothing. */
  defaults(shape: DecoderShape & { headDim: number }): Partial<DecoderConfig>;
  /** Every tensor but the head's, in module order. */
  tensors(config: DecoderConfig): FileTensor[];
  /** config.json to config. Fields that are absent get the values that transformers gives them. */
  read(json: ConfigReader): Omit<DecoderShape, "family">;
  /** The family's own fields of config.json. */
  write(config: DecoderConfig): Record<string, unknown>;
  /** What GGUF files call it (`general.architecture`) and its parts, where they hold it. */
  gguf?: { architecture: string } & GgufArchitecture;
}
