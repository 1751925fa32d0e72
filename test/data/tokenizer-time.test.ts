// The time to encode grows with the text alone, also where a text is one long word or one long run.
import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { isUserError } from "webrlhf";
import { Tokenizer } from "webrlhf/data";
import { CharsMap } from "../../src/data/tokenizer/chars-map.ts";

const folder = new URL("./fixtures/tokenizers/", import.meta.url);
const kinds = readdirSync(folder).filter((name) => name !== "strings.json");
const read = (name: string) => JSON.parse(readFileSync(new URL(name, folder), "utf8")).tokenizer;

const LENGTH = 60_000;
const texts = {
  english: "the quick brown fox jumps over it. ".repeat(LENGTH / 35),
  "one word": "abcdefghijklmnopqrstuvwxyz".repeat(LENGTH / 26),
  spaces: `${" ".repeat(LENGTH)}x`,
  digits: "1234567890".repeat(LENGTH / 10),
  newlines: `${" \n".repeat(LENGTH / 2)}x`,
  chinese: "日本語中文".repeat(LENGTH / 2.5),
};
/** Milliseconds for all of them on a very busy machine: most take a fiftieth, and quadratic time takes minutes. */
const LIMIT = 30_000;

const milliseconds = (tokenizer: Tokenizer, all: Iterable<string>) => {
  const start = performance.now();
  for (const text of all) tokenizer.encode(text);
  return performance.now() - start;
};

describe("the time to encode", () => {
  it.each(kinds)("grows with the text: %s", (name) => {
    expect(milliseconds(Tokenizer.fromJson(read(name), {}, name), Object.values(texts))).toBeLessThan(LIMIT);
  });

  const gpt2 = read("gpt2.json");
  const splitBy = (Regex: string) => {
    const split = { type: "Split", pattern: { Regex }, behavior: "Isolated", invert: false };
    const words = { type: "Sequence", pretokenizers: [split, { ...gpt2.pre_tokenizer, use_regex: false }] };
    return Tokenizer.fromJson({ ...gpt2, pre_tokenizer: words });
  };
  const letters = ["a".repeat(LENGTH), `${"a".repeat(LENGTH)}!`];

  it.each(["(a+)+$", "(a|aa)+$", "a*a*a*b", "(?=(a+)+b)a", "(?<=(a|a)*)b", "a(?=a*$)", "(.*)(.*)(.*)[x-z]!"])(
    "does not explode for the pattern %s",
    (pattern) => {
      expect(milliseconds(splitBy(pattern), letters)).toBeLessThan(LIMIT);
    },
  );

  it.each(["(a)\\1", "(?>a+)b", "a++b", "(a*)*b", "((a{9}){9}){99}", "(".repeat(900) + ")".repeat(900)])(
    "refuses the pattern %s",
    (pattern) => expect(() => splitBy(pattern)).toThrow(/pattern/),
  );

  it("says that a text is too long for a large pattern", () => {
    try {
      splitBy("(?:ab?c?d?e?f?){400}").encode("a".repeat(4_000_000));
      expect.unreachable();
    } catch (error) {
      expect(error).toSatisfy(isUserError);
    }
  });
});

it("a table of characters finds the same clusters in a long text as in a short one", () => {
  const { precompiled_charsmap: table } = read("albert.json").normalizer.normalizers.at(-1);
  const map = CharsMap.from(table, (reason) => {
    throw new Error(reason);
  });
  for (const part of ["👩‍👩‍👧é🇩🇪क्षिﬁ", "e\u0301\u0302", "a\u{1d165}", `x${"\u0301".repeat(700)}`]) {
    expect(map.normalize(part.repeat(300)) === map.normalize(part).repeat(300)).toBe(true);
  }
});
