/**
 * GPT-2's printable alphabet for bytes, which byte-level BPE tokenizers write into their vocabularies: printable Latin-1
 * characters stand for themselves, the other bytes for the code points from 256 on, in order.
 */
export const BYTE_TO_CHAR: readonly string[] = (() => {
  const chars: string[] = [];
  let next = 256;
  for (let byte = 0; byte < 256; byte++) {
    const printable = (byte > 32 && byte < 127) || (byte > 160 && byte !== 173);
    chars.push(String.fromCharCode(printable ? byte : next++));
  }
  return chars;
})();

const encoder = new TextEncoder();

/** The UTF-8 bytes of a text in that alphabet. " é" -> "ĠÃ©" */
export function toByteChars(text: string): string {
  let out = "";
  for (const byte of encoder.encode(text)) out += BYTE_TO_CHAR[byte];
  return out;
}
