import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { countsOf, histogram, worldTokenizer } from "webrlhf/data";
import { openDataset } from "webrlhf/open";

const tokenizer = worldTokenizer();
let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "counts-"));
});
afterAll(() => rm(folder, { recursive: true }));

async function file(name: string, rows: readonly object[]): Promise<string> {
  await writeFile(join(folder, name), rows.map((row) => JSON.stringify(row)).join("\n"));
  return join(folder, name);
}
const long = "one two three four five six seven eight nine ten ".repeat(4);

describe("the counts of a dataset", () => {
  it("say what was read, left out and cut: pairs", async () => {
    const path = await file("pairs.jsonl", [
      { prompt: "a", chosen: "b", rejected: "c" },
      { prompt: "a", chosen: "b", rejected: "b" },
      { prompt: "a", chosen: long, rejected: "b" },
      { prompt: "a", chosen: "b", rejected: long },
      { prompt: long, chosen: "b", rejected: "c" },
    ]);
    const dataset = openDataset(path, { longPrompts: "skip" });
    const { train } = await dataset.pairs(tokenizer, { maxLength: 12 });
    const dropped = { "both answers are the same": 1, "its prompt is too long": 1 };
    expect(train).toHaveLength(3);
    expect(countsOf(train)).toEqual({ rows: 5, dropped, truncated: 2, limit: 12 });
    for (const truncationSide of ["left", "right"] as const) {
      const cut = await dataset.pairs(tokenizer, { maxLength: 12, maxPromptLength: 6, truncationSide });
      expect(countsOf(cut.train)).toMatchObject({ rows: 5, truncated: 3, limit: 12 });
    }
  });

  it("say it of answers, labelled ones and prompts", async () => {
    const path = await file("answers.jsonl", [
      { prompt: "a", completion: "b" },
      { prompt: "a", completion: long },
    ]);
    const { train } = await openDataset(path).sequences(tokenizer, { maxLength: 12 });
    expect(countsOf(train)).toEqual({ rows: 2, dropped: {}, truncated: 1, limit: 12 });
    const prompts = (await openDataset(path).prompts(tokenizer, { context: 64, response: 4 })).train;
    const dropped = { "another row has the same prompt": 1 };
    expect(countsOf(prompts)).toEqual({ rows: 2, dropped, truncated: 0, limit: null });
    const pairs = await file("two.jsonl", [{ prompt: "a", chosen: long, rejected: "c" }]);
    const labelled = (await openDataset(pairs).labelled(tokenizer, { maxLength: 12 })).train;
    expect(countsOf(labelled)).toEqual({ rows: 1, dropped: {}, truncated: 1, limit: 12 });
  });

  it("add up over a mixture, and are of one part where another is held out", async () => {
    const row = (i: number) => ({ prompt: `a ${i}`, completion: i === 0 ? "" : "b" });
    const [a, b] = [await file("a.jsonl", [0, 1, 2].map(row)), await file("b.jsonl", [3, 4].map(row))];
    const { train } = await openDataset(`x:1:${a},y:1:${b}`).sequences(tokenizer, { maxLength: 12 });
    expect(countsOf(train).rows).toBe(5);
    const parts = await openDataset(a, { testSize: 0.4 }).sequences(tokenizer, { maxLength: 12 });
    expect([parts.train, parts.eval].map((list) => [list.length, countsOf(list).rows])).toEqual([
      [2, 3],
      [1, 1],
    ]);
  });

  it("are drawn as a histogram", () => {
    expect(histogram([])).toBeNull();
    expect(histogram([3, 3])).toEqual({ min: 3, median: 3, p95: 3, max: 3, bars: [2, 0, 0, 0, 0, 0, 0, 0] });
    expect(histogram([0, 1, 2, 8])!.bars).toEqual([1, 1, 1, 0, 0, 0, 0, 1]);
  });
});
