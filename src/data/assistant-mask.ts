/** Which tokens of a text belong to given parts of it. */
import { UserError } from "../runtime/errors.ts";
import type { Span } from "./chat-template.ts";
import type { Tokenizer } from "./tokenizer.ts";

const SPACE = 0x20;
const encoder = new TextEncoder();

/**
 * Marks the tokens that hold at least one byte of a span; a token across the border of a span counts as inside, as in
 * transformers. The tokens' bytes are laid along those of the text, so the answer is exact. A space that the tokenizer put
 * in, or white space that it dropped, belongs to no place in the text and is passed over.
 * @param ids all tokens of the text, `tokenizer.encode(text)`
 * @param spans parts of the text, in order
 * @returns 1 for each token inside a span, else 0
 * @throws UserError when the tokens do not spell the text, as with tokenizers that change it
 */
export function spanMask(
  tokenizer: Tokenizer,
  text: string,
  ids: readonly number[],
  spans: readonly Span[],
): Uint8Array {
  const mask = new Uint8Array(ids.length);
  const bytes = encoder.encode(tokenizer.canonical(text));
  const isLost = (byte: number, next: number) => tokenizer.drops(byte) || (next !== SPACE && isSpace(byte));
  const borders = spans.map(([start, end]) => [start, end].map((at) => byteAt(tokenizer, text, at)));
  let span = 0;
  let at = 0; // in the text's bytes
  for (const [i, id] of ids.entries()) {
    for (const byte of tokenizer.spelling(id)) {
      while (at < bytes.length && bytes[at] !== byte && isLost(bytes[at], byte)) at++;
      if (bytes[at] !== byte) {
        if (byte === SPACE) continue;
        throw new UserError(
          "the assistant's tokens cannot be told from the others, because this tokenizer changes the text: " +
            `it makes other bytes of ${JSON.stringify(text.slice(0, 60))}; learn whole conversations instead`,
        );
      }
      while (span < borders.length && at >= borders[span][1]) span++;
      if (span < borders.length && at >= borders[span][0]) mask[i] = 1;
      at++;
    }
  }
  return mask;
}

/** The place of a character among the bytes of the text as the tokenizer normalizes it. */
function byteAt(tokenizer: Tokenizer, text: string, at: number): number {
  return encoder.encode(tokenizer.canonical(text.slice(0, at))).length;
}

const isSpace = (byte: number) => byte === SPACE || (byte >= 9 && byte <= 13);
