/**
 * Tokens back to text, by the "decoder" of a tokenizer.json, exactly as the Rust `tokenizers` library does it (bytes that
 * are no UTF-8, byte order marks and leading spaces included).
 */
import { fromByteChars } from "./bytes.ts";
import { Part } from "./tokenizer/description.ts";
import { finder } from "./tokenizer/patterns.ts";

export interface TokenDecoder {
  /** The text of a whole sequence of tokens. */
  decode(tokens: readonly string[]): string;
  /** The bytes of one token, where the text is nothing but the UTF-8 of all tokens' bytes in a row. */
  bytes?(token: string): Uint8Array;
}

type Step = (tokens: string[]) => string[];

/** @throws UserError for a kind of decoder that is not known here */
export function tokenDecoder(description: unknown, file: string): TokenDecoder {
  if (description === null || description === undefined) return { decode: (tokens) => tokens.join(" ") };
  const parts = flatten(new Part(description, "decoder", file));
  const steps = parts.map(stepOf);
  const decode = (tokens: readonly string[]) => steps.reduce((now, step) => step(now), [...tokens]).join("");
  const byteLevel = parts.length === 1 && parts[0].type === "ByteLevel";
  return byteLevel ? { decode, bytes: fromByteChars } : { decode };
}

const flatten = (part: Part): Part[] => (part.type === "Sequence" ? part.parts("decoders").flatMap(flatten) : [part]);

function stepOf(part: Part): Step {
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
      return strip(part.char("content"), part.count("start"), part.count("stop"));
    case "Metaspace":
      return metaspace(part.char("replacement", "\u2581"), part.text("prepend_scheme", "always") !== "never");
    case "WordPiece":
      return wordPiece(part.text("prefix"), part.flag("cleanup"));
    case "BPEDecoder":
      return endings(part.text("suffix"));
    default:
      return part.unknown();
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

function replace(part: Part): Step {
  const content = part.text("content");
  const pattern = part.pattern();
  if ("text" in pattern) return (tokens) => tokens.map((token) => token.split(pattern.text).join(content));
  const find = finder(pattern.regex, (reason) => part.fail(reason));
  return (tokens) =>
    tokens.map((token) => {
      let out = "";
      let done = 0;
      for (const [start, end] of find(token)) {
        out += token.slice(done, start) + content;
        done = end;
      }
      return out + token.slice(done);
    });
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

/** A space before each token that begins a word. */
function wordPiece(prefix: string, cleanup: boolean): Step {
  const joined = (token: string) => (token.startsWith(prefix) ? token.slice(prefix.length) : ` ${token}`);
  const tidy = (token: string) => TIDY.reduce((now, [from, to]) => now.split(from).join(to), token);
  return (tokens) =>
    tokens.map((token, i) => {
      const text = i === 0 ? token : joined(token);
      return cleanup ? tidy(text) : text;
    });
}

/** Spaces that no writer would put before signs and endings. */
const TIDY = [
  [" .", "."],
  [" ?", "?"],
  [" !", "!"],
  [" ,", ","],
  [" ' ", "'"],
  [" n't", "n't"],
  [" 'm", "'m"],
  [" do not", " don't"],
  [" 's", "'s"],
  [" 've", "'ve"],
  [" 're", "'re"],
] as const;

/** What ends a word is a space, but not at the end of the text. */
const endings =
  (suffix: string): Step =>
  (tokens) =>
    tokens.map((token, i) => token.split(suffix).join(i === tokens.length - 1 ? "" : " "));
