import { expect, it, describe as suite } from "vitest";
import {
  type DataRecord,
  describe,
  type Entry,
  labelBalance,
  lastOfEach,
  sequenceLength,
  splitTrainTest,
  spread,
  wrongLength,
} from "webrlhf/data";
import { answersStart, parseTranscript } from "../../../src/data/transcripts.ts";
import { complaint } from "./sources.ts";

suite("de-duplication", () => {
  it("keeps the last of each key, in the order in which those stand", () => {
    const items = ["a1", "b1", "a2", "c1", "b2"];
    expect(lastOfEach(items, (item) => item[0])).toEqual(["a2", "c1", "b2"]);
    expect(lastOfEach([], String)).toEqual([]);
  });
});

suite("splits", () => {
  const items = Array.from({ length: 50 }, (_, i) => i);

  it("part the items by seed, a fifth by default", () => {
    const { train, test } = splitTrainTest(items);
    expect([train.length, test.length]).toEqual([40, 10]);
    expect([...train, ...test].sort((a, b) => a - b)).toEqual(items);
    expect(splitTrainTest(items)).toEqual(splitTrainTest(items, { ratio: 0.2, seed: 42 }));
    expect(splitTrainTest(items, { seed: 43 }).test).not.toEqual(test);
    expect(splitTrainTest(items, { shuffle: false }).test).toEqual(items.slice(40));
    expect(splitTrainTest([1, 2, 3], { ratio: 0.1 }).test).toHaveLength(1);
  });

  it("keep items of one key together", () => {
    const keyOf = (i: number) => String(i % 10);
    const { train, test } = splitTrainTest(items, { keyOf });
    expect(test).toHaveLength(10);
    const held = new Set(test.map(keyOf));
    expect(train.some((i) => held.has(keyOf(i)))).toBe(false);
  });

  it("refuse to leave a part empty", async () => {
    expect(await complaint(() => splitTrainTest([1]))).toMatch(/1 different samples are too few/);
    expect(await complaint(() => splitTrainTest(items, { ratio: 1 }))).toMatch(/above 0 and below 1, not 1/);
    expect(await complaint(() => splitTrainTest(items, { keyOf: () => "x" }))).toMatch(/too few/);
  });
});

suite("lengths", () => {
  const chars = (text: string) => text.length;
  const pair: DataRecord = { kind: "preference", prompt: "12345", chosen: "67", rejected: "6789" };

  it("are those of the longest sequence", () => {
    expect(sequenceLength(pair, chars)).toBe(9);
    expect(sequenceLength({ kind: "text", text: "abc" }, chars)).toBe(3);
    expect(sequenceLength({ kind: "prompt", prompt: "abcd" }, chars)).toBe(4);
  });

  it.each([
    [{}, null],
    [{ max: 9 }, null],
    [{ max: 8 }, "it is too long"],
    [{ min: 9 }, null],
    [{ min: 10 }, "it is too short"],
    [{ maxPrompt: 5 }, null],
    [{ maxPrompt: 4 }, "its prompt is too long"],
  ])("limits %o", (limits, reason) => {
    expect(wrongLength(pair, limits, chars)).toBe(reason);
  });
});

suite("a description", () => {
  const entry = (record: DataRecord, value: unknown = {}): Entry => ({ record, row: { value, where: "x" } });

  it("counts, measures, and finds duplicates and labels", () => {
    const pair = (prompt: string, chosen: string, rejected: string, subset: string) =>
      entry(
        { kind: "preference", prompt, chosen, rejected },
        { prompt, subset, safe: chosen === "aa", score: prompt.length },
      );
    const found = describe(
      [pair("p", "aa", "b", "x"), pair("p", "aa", "b", "x"), pair("p", "a", "bb", "x"), pair("qq", "c", "d", "y")],
      (text) => text.length * 2,
    );
    expect(found).toMatchObject({
      records: 4,
      kinds: { preference: 4 },
      duplicates: { prompts: 2, records: 1 },
      longer: { chosen: 2, rejected: 1, equal: 1 },
    });
    expect(found.characters.prompt).toEqual({ min: 1, mean: 1.25, median: 1, p95: 2, max: 2 });
    expect(found.characters.sequence).toEqual({ min: 3, mean: 3, median: 3, p95: 3, max: 3 });
    expect(found.tokens?.chosen).toEqual({ min: 2, mean: 3, median: 3, p95: 4, max: 4 });
    expect(found.columns.subset).toEqual({ x: 3, y: 1 });
    expect(found.columns.safe).toEqual({ false: 2, true: 2 });
    expect(found.longer && describe([entry({ kind: "text", text: "a" })]).longer).toBeUndefined();
  });

  it("leaves out columns that are no labels", () => {
    const rows = Array.from({ length: 100 }, (_, i) =>
      entry({ kind: "text", text: "t" }, { id: i, text: "x".repeat(50), list: [], half: i % 2 }),
    );
    expect(describe(rows).columns).toEqual({ half: { 0: 50, 1: 50 } });
  });

  it("of labels before pairs are turned round", () => {
    expect(labelBalance([{ better: true, is_safe: true }, { better: false, is_safe: true }, { better: true }])).toEqual(
      {
        better: { false: 1, true: 2 },
        is_safe: { true: 2 },
      },
    );
  });

  it("spreads", () => {
    const hundred = Array.from({ length: 100 }, (_, i) => 100 - i);
    expect(spread(hundred)).toEqual({ min: 1, mean: 50.5, median: 50.5, p95: 95, max: 100 });
    expect(spread([7])).toEqual({ min: 7, mean: 7, median: 7, p95: 7, max: 7 });
  });
});

suite("transcripts", () => {
  it("become messages", () => {
    expect(parseTranscript("\n\nHuman: a\n\nAssistant: b\n\nHuman:c")).toEqual([
      { role: "user", content: "a" },
      { role: "assistant", content: "b" },
      { role: "user", content: "c" },
    ]);
    expect(parseTranscript("Rules.\n\nHuman: a")[0]).toEqual({ role: "system", content: "Rules." });
    expect(parseTranscript("")).toEqual([]);
  });

  it("part behind the last mark that they have in common", () => {
    expect(answersStart("\n\nHuman: a\n\nAssistant: xy", "\n\nHuman: a\n\nAssistant: xz")).toBe(22);
    expect(answersStart("\n\nHuman: a\n\nAssistant: x", "\n\nHuman: b\n\nAssistant: x")).toBe(-1);
    expect(answersStart("###A:x", "###A:y", "###A:")).toBe(5);
  });
});
