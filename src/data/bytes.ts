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

const CHAR_TO_BYTE = new Map(BYTE_TO_CHAR.map((char, byte) => [char, byte]));

/** The bytes a token in that alphabet stands for; a token with other characters (an added one) is its own UTF-8. */
export function fromByteChars(token: string): Uint8Array {
  const bytes: number[] = [];
  for (const char of token) {
    const byte = CHAR_TO_BYTE.get(char);
    if (byte === undefined) return encoder.encode(token);
    bytes.push(byte);
  }
  return Uint8Array.from(bytes);
}
