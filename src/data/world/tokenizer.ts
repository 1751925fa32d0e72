import { trainBpe } from "../bpe.ts";
import { Tokenizer } from "../tokenizer.ts";
import { vocabulary } from "./words.ts";

let made: Tokenizer | undefined;

/**
 * The world's tokenizer: every word is one token (with the space before it), so is the full stop. Trained from the
 * vocabulary alone, so it is the same wherever it is made. `<|endoftext|>` has id 0, `<|pad|>` id 1.
 */
export function worldTokenizer(): Tokenizer {
  if (made) return made;
  const { first, later } = vocabulary();
  const texts = [...first, ...later.map((word) => ` ${word}`), "."];
  made = Tokenizer.fromTrained(trainBpe(texts, { vocabSize: 1024, minFrequency: 1, alphabet: "seen" }));
  return made;
}
