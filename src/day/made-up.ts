/** Made-up data: tokens by the seed, and a tokenizer for models whose vocabulary means nothing. */
import type { TextTokenizer } from "../nn/text-tokenizer.ts";
import type { DayModel } from "./models.ts";

/** Tokens of a sequence: the same for the same place in every run. */
export function tokensOf({ config }: DayModel, length: number, sequence: number): Uint32Array {
  const { vocabSize } = config;
  return Uint32Array.from({ length }, (_, i) => 1 + ((i * 7919 + sequence * 104729 + 13) % (vocabSize - 1)));
}

/** Texts are lists of ids: "17 4 9". No id ends a text, so that every response has all its tokens. */
export const idTokenizer = ({ config }: DayModel): TextTokenizer => ({
  vocabSize: config.vocabSize,
  eosId: undefined,
  bosId: undefined,
  padId: 0,
  encode: (text) => text.split(" ").filter(Boolean).map(Number),
  decode: (ids) => Array.from(ids).join(" "),
  checkFits: () => {},
});
