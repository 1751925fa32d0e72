/** What a model of a tokenizer.json is to the rest of it. */

/** A vocabulary and the way to write a word with it. */
export interface TokenModel {
  readonly ids: ReadonlyMap<string, number>;
  /** How many tokens it has; more than texts of tokens where one is there twice. */
  readonly size: number;
  /** Adds the ids of a word. */
  encode(word: string, ids: number[]): void;
}

/** A token may be so long: texts are looked through from each of their letters for as long as the longest one. */
export const LONGEST_TOKEN = 4096;
