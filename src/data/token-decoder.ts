/**
 * Tokens back to text, by the "decoder" of a tokenizer.json, exactly as the Rust `tokenizers` library does it (bytes that
 * are no UTF-8, byte order marks and leading spaces included).
 */
import { fromByteChars } from "./bytes.ts";

export interface TokenDecoder {
  /** The text of a whole sequence of tokens. */
  decode(tokens: readonly string[]): string;
  /** The bytes of one token, where the text is nothing but the UTF-8 of all tokens' bytes in a row. */
  bytes?(token: string): Uint8Array;
}

type Step = (tokens: string[]) => string[];
type Part = { readonly type?: unknown; readonly [option: string]: unknown };

/** @returns null for a kind of decoder that is not known here */
export function tokenDecoder(description: unknown): TokenDecoder | null {
  if (description === null || description === undefined) return { decode: (tokens) => tokens.join(" ") };
  const parts = flatten(description as Part);
  const steps = parts.map(stepOf);
  if (steps.some((step) => step === null)) return null;
  const decode = (tokens: readonly string[]) =>
    (steps as Step[]).reduce((now, step) => step(now), [...tokens]).join("");
  const byteLevel = parts.length === 1 && parts[0].type === "ByteLevel";
  return byteLevel ? { decode, bytes: fromByteChars } : { decode };
}

function flatten(part: Part): Part[] {
  return part.type === "Sequence" && Array.isArray(part.decoders) ? part.decoders.flatMap(flatten) : [part];
}

function stepOf(part: Part): Step | null {
  switch (part.type) {
    case "ByteLevel":
      return (tokens) => [lossy(tokens.flatMap((token) => [...fromByteChars(token)]))];
    case "ByteFallback":
      return byteFallback;
    case "Fuse":
      return (tokens) => [tokens.join("")];
    case "Replace":
      return replace(part);
    case "Strip":
      return strip(String(part.content ?? ""), Number(part.start ?? 0), Number(part.stop ?? 0));
    case "Metaspace":
      return metaspace(String(part.replacement ?? "\u2581"), part.prepend_scheme !== "never");
    default:
      return null;
  }
}

/** Each maximal broken piece of UTF-8 becomes one replacement character; a byte order mark stays. */
function lossy(bytes: readonly number[]): string {
  return new TextDecoder("utf-8", { ignoreBOM: true }).decode(Uint8Array.from(bytes));
}

/** Tokens such as <0xE2> as characters; when a run of them is not UTF-8, each becomes a replacement character. */
function byteFallback(tokens: string[]): string[] {
  const out: string[] = [];
  let run: number[] = [];
  const close = () => {
    if (run.length === 0) return;
    try {
      out.push(new TextDecoder("utf-8", { ignoreBOM: true, fatal: true }).decode(Uint8Array.from(run)));
    } catch {
      for (let i = 0; i < run.length; i++) out.push("\ufffd");
    }
    run = [];
  };
  for (const token of tokens) {
    const hex = /^<0x([0-9A-Fa-f]{2})>$/.exec(token);
    if (hex) run.push(Number.parseInt(hex[1], 16));
    else {
      close();
      out.push(token);
    }
  }
  close();
  return out;
}

function replace(part: Part): Step | null {
  const { String: text } = (part.pattern ?? {}) as { String?: unknown };
  const content = String(part.content ?? "");
  if (typeof text !== "string" || text === "") return null;
  return (tokens) => tokens.map((token) => token.split(text).join(content));
}

function strip(content: string, start: number, stop: number): Step {
  return (tokens) =>
    tokens.map((token) => {
      const chars = [...token];
      let from = 0;
      while (from < Math.min(start, chars.length) && chars[from] === content) from++;
      let to = chars.length;
      while (chars.length - to < stop && to > from && chars[to - 1] === content) to--;
      return chars.slice(from, to).join("");
    });
}

/** The mark is a space, but not in the first token, where it only says that a word begins. */
function metaspace(mark: string, prepended: boolean): Step {
  return (tokens) => tokens.map((token, i) => token.split(mark).join(i === 0 && prepended ? "" : " "));
}
