/** What a model needs to know of the tokenizer that its ids come from; `Tokenizer` in data is one. */

/** A tokenizer as models carry it along: text to ids and back, and the ids with a meaning of their own. */
export interface TextTokenizer {
  /** One more than the largest id. */
  readonly vocabSize: number;
  /** The token that ends a text; undefined where the tokenizer has none. */
  readonly eosId: number | undefined;
  /** The token that begins a text; undefined where the tokenizer has none. */
  readonly bosId: number | undefined;
  /** The token that fills rows up; undefined where the tokenizer has none. */
  readonly padId: number | undefined;
  /** Tokens that a text begins with, unless a chat template wrote it. Default: none. */
  readonly prefixIds?: readonly number[];
  /** How the model writes conversations, where known. */
  readonly chatTemplate?: {
    render(
      messages: readonly { role: string; content?: unknown }[],
      options?: { addGenerationPrompt?: boolean; tools?: readonly unknown[] | null },
    ): string;
  } | null;
  /** The ids of a text; by default without tokens of the tokenizer's own, and as the beginning of a text. */
  encode(text: string, options?: { addSpecialTokens?: boolean; continued?: boolean }): number[];
  /** The text of ids; by default without special tokens, and as the beginning of a text. */
  decode(ids: ArrayLike<number>, options?: { skipSpecialTokens?: boolean; continued?: boolean }): string;
  /** Throws `UserError` when some id has no row in an embedding table of `modelVocabSize` rows. */
  checkFits(modelVocabSize: number): void;
}
