/** Damaged tokenizer.json files of every kind: each is refused with a message for the person, or it can be used. */
import { readdirSync, readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { isUserError, UserError } from "webrlhf";
import { Tokenizer } from "webrlhf/data";
import { parseJson } from "../../src/runtime/files.ts";
import { RandomStream } from "../../src/runtime/rng.ts";
import { mutate } from "../io/mutate.ts";

const folder = new URL("./fixtures/tokenizers/", import.meta.url);
const SLOW = 2000; // ms for one file, on a machine with other work; most take about one

interface Graph {
  model: { vocab: Record<string, number>; merges: unknown[] };
}

/** The same kind of tokenizer with few tokens, so that damage seldom only hits its vocabulary. */
function small(tokenizer: Graph): Uint8Array {
  const { vocab, merges, ...model } = tokenizer.model;
  const few = Object.entries(vocab).filter(([token], i) => i < 12 || /^(▁|Ġ|[ab]+|▁a)$/.test(token));
  return new TextEncoder().encode(
    JSON.stringify({ ...tokenizer, model: { ...model, vocab: Object.fromEntries(few), merges: [] } }),
  );
}

const kinds = readdirSync(folder).filter((name) => !/^(strings|words)\.json$/.test(name));

it.each(kinds)("1,000 damaged versions of %s", (name) => {
  const content = small(JSON.parse(readFileSync(new URL(name, folder), "utf8")).tokenizer);
  const random = new RandomStream(name.length);
  let refused = 0;
  for (let i = 0; i < 1000; i++) {
    const bytes = mutate(content, random);
    const start = performance.now();
    try {
      const tokenizer = Tokenizer.fromJson(parseJson(bytes, "tokenizer.json"), {}, "tokenizer.json");
      const ids = tokenizer.encode("ab <s> Déjà\n 12  🙂 </s>", { addSpecialTokens: true });
      for (const id of ids) if (!(id >= 0 && id < tokenizer.vocabSize)) throw new UserError(`id ${id}`);
      tokenizer.decode(ids);
    } catch (error) {
      if (!isUserError(error))
        throw new Error(`case ${i}: ${error}\n${new TextDecoder().decode(bytes)}`, { cause: error });
      refused += 1;
    }
    expect(performance.now() - start, `case ${i}`).toBeLessThan(SLOW);
  }
  expect(refused).toBeGreaterThan(400);
});
