// How the time to encode grows with the text, where a text is one long word or one long run.
import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { Tokenizer } from "webrlhf/data";

const folder = new URL("./fixtures/tokenizers/", import.meta.url);
const kinds = readdirSync(folder).filter((name) => name !== "strings.json");

const texts: Record<string, (length: number) => string> = {
  english: (length) => "the quick brown fox jumps over it. ".repeat(length / 35),
  "one word": (length) => "abcdefghijklmnopqrstuvwxyz".repeat(length / 26),
  spaces: (length) => `${" ".repeat(length)}x`,
  digits: (length) => "1234567890".repeat(length / 10),
  newlines: (length) => `${" \n".repeat(length / 2)}x`,
};

describe.each(kinds)("the time of %s", (name) => {
  const tokenizer = Tokenizer.fromJson(JSON.parse(readFileSync(new URL(name, folder), "utf8")).tokenizer, {}, name);
  it.each(Object.keys(texts))("grows with the text: %s", (kind) => {
    const milliseconds = (length: number) => {
      const text = texts[kind](length);
      const start = performance.now();
      tokenizer.encode(text);
      return performance.now() - start;
    };
    milliseconds(2_000);
    // 8 times the text would take 64 times as long if it were quadratic; noise of a busy machine is not that large.
    const [short, long] = [milliseconds(5_000), milliseconds(40_000)];
    expect(long).toBeLessThan(200 + 24 * short);
  });
});
