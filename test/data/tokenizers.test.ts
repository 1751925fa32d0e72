// Every kind of tokenizer against the Rust library, by hashes of what it makes of 3,000 strings (make_tokenizers.py).
import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { StreamDecoder, Tokenizer } from "webrlhf/data";

interface Fixture {
  tokenizer: object;
  /** Pieces of the strings that only this kind has. */
  own: string[];
  /** Ids of "a" with what the tokenizer puts around a text. */
  a: number[];
  rows: { index: number; text: string; ids: number[]; decoded: string }[];
  /** Per string three characters each: ids, decoded with special tokens, decoded without. */
  hashes: string;
}

const folder = new URL("./fixtures/tokenizers/", import.meta.url);
const read = <T>(name: string) => JSON.parse(readFileSync(new URL(name, folder), "utf8")) as T;
const { count, pieces, ranges } = read<{ count: number; pieces: string[]; ranges: [number, number][] }>("strings.json");
const kinds = readdirSync(folder)
  .filter((name) => name !== "strings.json")
  .map((name) => name.replace(".json", ""));

function string(index: number, own: readonly string[]): string {
  let x = Number((BigInt(index + 1) * 2654435761n) % 4294967296n);
  const below = (n: number) => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    return (x >>> 0) % n;
  };
  for (let i = 0; i < 4; i++) below(1);
  const out: string[] = [];
  const n = 1 + below(12);
  for (let i = 0; i < n; i++) {
    const kind = below(8);
    if (kind < 4) out.push(pieces[below(pieces.length)]);
    else if (kind === 4) out.push(own[below(own.length)]);
    else if (kind === 5) out.push(pieces[below(pieces.length)].repeat(1 + below(6)));
    else {
      const [first, last] = ranges[below(ranges.length)];
      const length = 1 + below(4);
      for (let k = 0; k < length; k++) out.push(String.fromCodePoint(first + below(last - first + 1)));
    }
  }
  return out.join("");
}

const BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
function hash(values: ArrayLike<number>): string {
  let h = 0x811c9dc5;
  for (let i = 0; i < values.length; i++) h = Math.imul(h ^ values[i], 0x01000193);
  h ^= h >>> 16;
  return BASE64[h & 63] + BASE64[(h >> 6) & 63] + BASE64[(h >> 12) & 63];
}
const bytes = (text: string) => new TextEncoder().encode(text);

describe.each(kinds)("the tokenizer kind %s", (kind) => {
  const fixture = read<Fixture>(`${kind}.json`);
  const tokenizer = Tokenizer.fromJson(fixture.tokenizer, {}, `${kind}.json`);
  const strings = Array.from({ length: count }, (_, i) => string(i, fixture.own));
  const expected = (i: number) => [0, 3, 6].map((at) => fixture.hashes.slice(9 * i + at, 9 * i + at + 3));

  it("makes the same of whole strings", () => {
    for (const { index, text, ids, decoded } of fixture.rows) {
      expect(strings[index]).toBe(text);
      expect(tokenizer.encode(text)).toEqual(ids);
      expect(tokenizer.decode(ids, { skipSpecialTokens: false })).toBe(decoded);
    }
    expect(tokenizer.encode("a", { addSpecialTokens: true })).toEqual(fixture.a);
  });

  it("encodes and decodes 3,000 strings as the Rust library does", () => {
    const differ: string[] = [];
    for (const [i, text] of strings.entries()) {
      const ids = tokenizer.encode(text);
      const ours = [
        hash(ids),
        hash(bytes(tokenizer.decode(ids, { skipSpecialTokens: false }))),
        hash(bytes(tokenizer.decode(ids))),
      ];
      const theirs = expected(i);
      const wrong = ["ids", "text", "plain text"].filter((_, k) => ours[k] !== theirs[k] && theirs[k] !== "...");
      if (wrong.length > 0) differ.push(`${i} (${wrong.join(", ")}): ${JSON.stringify(text)}`);
    }
    expect(differ.slice(0, 20)).toEqual([]);
  });

  it("decodes a stream to the same text", () => {
    for (const text of strings.slice(0, 300)) {
      const ids = tokenizer.encode(text);
      const stream = new StreamDecoder(tokenizer, { skipSpecialTokens: false });
      const streamed = ids.map((id) => stream.push(id)).join("") + stream.end();
      expect(streamed).toBe(tokenizer.decode(ids, { skipSpecialTokens: false }));
    }
  });

  // These drop spaces, or put one before every text.
  const losing = ["words", "whitespace", "bert", "bert-cased", "t5", "albert"];
  it.skipIf(losing.includes(kind))("puts nothing between a text and its continuation", () => {
    const [start, rest] = ["the ranks", " went  on it"];
    const ids = [...tokenizer.encode(start), ...tokenizer.encode(rest, { continued: true })];
    const text = tokenizer.decode(ids);
    expect(text.trimStart()).toBe(start + rest);
    const stream = new StreamDecoder(tokenizer, { context: tokenizer.encode(start) });
    const tail = tokenizer.encode(rest, { continued: true });
    expect(tail.map((id) => stream.push(id)).join("") + stream.end()).toBe(text.slice(text.length - rest.length));
    expect(tokenizer.decode(tail, { continued: true })).toBe(text.slice(text.length - rest.length));
  });

  it("takes half a surrogate pair for the replacement character", () => {
    const broken = strings.filter((text) => text.includes("\ufffd")).slice(0, 40);
    for (const text of broken) {
      expect(tokenizer.encode(text.replaceAll("\ufffd", "\ud83d"))).toEqual(tokenizer.encode(text));
    }
  });
});

describe("added tokens that the normalizer writes alike", () => {
  it("are refused: the Rust library finds one of them by chance", () => {
    const { tokenizer } = read<Fixture>("neox.json");
    const normalizer = { type: "Replace", pattern: { Regex: "\\s+" }, content: " " };
    expect(() => Tokenizer.fromJson({ ...tokenizer, normalizer }, {}, "t.json")).toThrow(
      /^t\.json: the added tokens " +" and " +" are one and the same to its normalizer$/,
    );
  });
});
