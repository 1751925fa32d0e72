/**
 * SentencePiece's table of replacements for characters, as a tokenizer.json has it: a trie over UTF-8 in a double array,
 * then the replacements, each ended by a zero byte.
 */
import { fromBase64 } from "../../runtime/base64.ts";
import { utf8 } from "../../runtime/utf8.ts";

/** Longer clusters of characters are looked up character by character. */
const LONGEST_CLUSTER = 5;
/** Characters that are cut into clusters at once. */
const PIECE = 512;

export class CharsMap {
  private readonly units: Uint32Array;
  private readonly texts: Uint8Array;
  private readonly known = new Map<string, string | null>();
  private readonly clusters = new Intl.Segmenter("en", { granularity: "grapheme" });

  private constructor(units: Uint32Array, texts: Uint8Array) {
    this.units = units;
    this.texts = texts;
  }

  static from(base64: string, fail: (reason: string) => never): CharsMap {
    const bytes = fromBase64(base64);
    if (bytes === null) return fail("has a precompiled_charsmap that is not base64");
    const size = bytes.length < 4 ? 0 : new DataView(bytes.buffer).getUint32(0, true);
    if (size === 0 || size % 4 !== 0 || size > bytes.length - 4)
      return fail("has a precompiled_charsmap that is cut off");
    const texts = bytes.slice(4 + size);
    try {
      utf8(texts);
    } catch {
      return fail("has a precompiled_charsmap whose texts are not UTF-8");
    }
    return new CharsMap(new Uint32Array(bytes.slice(4, 4 + size).buffer), texts);
  }

  normalize(text: string): string {
    let out = "";
    for (let at = 0; at < text.length; ) {
      // Of two ASCII characters in a row the first is a cluster of its own, unless they end a line.
      if (isPlain(text, at) && (at + 1 === text.length || isPlain(text, at + 1))) {
        const char = text[at++];
        out += this.lookUp(char) ?? char;
        continue;
      }
      let end = at + 1;
      while (end < text.length && !(isPlain(text, end) && isPlain(text, end - 1))) end++;
      const part = text.slice(at, end);
      for (const segment of this.segments(part)) out += this.cluster(segment);
      at = end;
    }
    return out;
  }

  /** The clusters of a text, some at a time: over a long text each step of the segmenter takes longer. */
  private *segments(text: string): Generator<string> {
    for (let at = 0, size = PIECE; at < text.length; ) {
      const isCut = isHigh(text, at + size - 1); // a character is one piece
      const piece = text.slice(at, at + size + (isCut ? 1 : 0));
      const isLast = at + piece.length === text.length;
      const found = Array.from(this.clusters.segment(piece), ({ segment }) => segment);
      // What the last one goes on with is in the next piece.
      if (!isLast) found.pop();
      size = found.length > 0 ? PIECE : 2 * size;
      for (const segment of found) {
        yield segment;
        at += segment.length;
      }
    }
  }

  private cluster(segment: string): string {
    if (encoder.encode(segment).length <= LONGEST_CLUSTER) {
      const whole = this.lookUp(segment);
      if (whole !== null) return whole;
    }
    let out = "";
    for (const char of segment) out += this.lookUp(char) ?? char;
    return out;
  }

  /** The replacement of the shortest beginning that has one. */
  private lookUp(text: string): string | null {
    const known = this.known.get(text);
    if (known !== undefined) return known;
    const found = this.search(encoder.encode(text));
    if (this.known.size < 1 << 16) this.known.set(text, found);
    return found;
  }

  private search(key: Uint8Array): string | null {
    const { units } = this;
    let at = offsetOf(units[0]);
    for (const byte of key) {
      if (byte === 0) return null;
      at ^= byte;
      const unit = units[at];
      // What a damaged table points to outside of itself is not there.
      if (unit === undefined || (unit & 0x800000ff) >>> 0 !== byte) return null;
      at ^= offsetOf(unit);
      if ((unit >>> 8) & 1) {
        const start = (units[at] ?? 0) & 0x7fffffff;
        const end = this.texts.indexOf(0, start);
        return utf8(this.texts.subarray(start, end < 0 ? this.texts.length : end));
      }
    }
    return null;
  }
}

const encoder = new TextEncoder();
/** Whether there is an ASCII character that is no carriage return. */
const isPlain = (text: string, at: number): boolean => text.charCodeAt(at) < 128 && text[at] !== "\r";
const isHigh = (text: string, at: number): boolean => (text.charCodeAt(at) & 0xfc00) === 0xd800;
const offsetOf = (unit: number): number => (unit >>> 10) << ((unit & 512) >>> 6);
