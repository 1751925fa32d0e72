/** What a server, or anybody who wants text, needs to know of a model. */
import type { ChatMessage } from "../io/openai-types.ts";
import type { Engine } from "../nn/engine.ts";
import type { SamplingParams } from "../nn/sampling.ts";

/** Text from ids as they come. */
export interface IncrementalDecoder {
  push(id: number): string;
  end(): string;
}

/** A tokenizer, and how conversations are written. */
export interface TextCodec {
  readonly vocabSize: number;
  /** Tokens that end a response. */
  readonly endIds: readonly number[];
  /** Token ids of a prompt, with the tokens that the tokenizer puts before a text unless `raw`. */
  encode(text: string, raw?: boolean): number[];
  decode(ids: readonly number[]): string;
  /** A decoder of what follows the given ids. */
  decoder(context: ArrayLike<number>): IncrementalDecoder;
  /** One token's text and bytes, special tokens as they are written. */
  token(id: number): { text: string; bytes: number[] };
  /** A conversation as the model wants it, up to where the assistant speaks. Throws `UserError` where it cannot be. */
  chat(messages: readonly ChatMessage[]): { ids: number[]; stop: readonly string[] };
}

/** Opens a model anew after a failure of its device, and says what happened; throws other errors again. */
export type Revive = (error: unknown) => Promise<string>;

export interface TextModel extends TextCodec {
  /** The name that clients ask for. */
  readonly name: string;
  readonly engine: Engine;
  /** Options of requests that do not name them: the model's generation_config.json. */
  readonly defaults: Partial<SamplingParams>;
}
