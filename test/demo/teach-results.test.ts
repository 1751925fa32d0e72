/** Results of a class: written by a lesson, read with suspicion, and their spread. */
import { describe, expect, it } from "vitest";
import { lesson } from "../../demo/src/lessons/sft/lesson.ts";
import recordings from "../../demo/src/lessons/sft/recordings.json" with { type: "json" };
import { seedOf } from "../../demo/src/lib/lesson/class-seed.ts";
import { resultOf } from "../../demo/src/lib/lesson/result.ts";
import type { Result } from "../../demo/src/lib/lesson/result-file.ts";
import type { ChoicePrediction, Json, Lesson, LessonEvent } from "../../demo/src/lib/lesson/types.ts";
import { batches, type Given, gather, readFiles, readResult } from "../../demo/src/teach/read.ts";
import { describe as described, predictionSpread, spreadOf } from "../../demo/src/teach/spread.ts";

const [own] = recordings as unknown as { input: Json; events: LessonEvent[] }[];

function made(student: string, seed = seedOf("3b", student), more: Record<string, Json> = {}): Result {
  const input = { ...(own.input as Record<string, Json>), seed, ...more };
  const address = { size: "S", seed, asked: {} } as const;
  const locked = (id: string) => (id === "reach" ? "better" : null);
  return resultOf(lesson, { address, input }, own.events, locked, { class: "3b", student });
}

const file = (name: string, content: string): Given => ({ name, size: content.length, text: async () => content });
const written = (result: unknown) => JSON.stringify(result);

describe("a student's file", () => {
  it("is read back as it was written, and says what the run's page said", () => {
    const result = readResult(written(made("7")));
    expect(result).toEqual(JSON.parse(written(made("7"))));
    expect(result.checks.map(({ id }) => id)).toEqual(lesson.checks.map(({ id }) => id));
    for (const { id, numbers } of result.checks) {
      const check = lesson.checks.find((c) => c.id === id);
      expect(numbers).toEqual(check?.measure(own.events));
    }
    expect(result.predictions).toEqual([{ id: "reach", predicted: "better", came: "same" }]);
  });

  it("holds no field that its lesson keeps private", () => {
    const secret: Lesson = { ...lesson, private: ["labels", "others"] };
    const input = { seed: 1, labels: [{ prompt: "p", chosen: "mine", rejected: "b" }], others: ["theirs"] };
    const address = { size: "S", seed: 1, asked: {} } as const;
    const text = written(resultOf(secret, { address, input }, own.events, () => null, null));
    expect(text).not.toMatch(/labels|others|mine|theirs/);
    expect(readResult(text).input).toEqual({ seed: 1 });
  });

  it("leaves out what JSON cannot say, and a check without it does not hold", () => {
    const lame: Lesson = {
      ...lesson,
      checks: [{ ...lesson.checks[0], measure: () => ({ gold_change: 1, gold_change_se: Number.POSITIVE_INFINITY }) }],
    };
    const address = { size: "S", seed: 1, asked: {} } as const;
    const result = readResult(written(resultOf(lame, { address, input: { seed: 1 } }, [], () => null, null)));
    expect(result.checks[0].numbers).toEqual({ gold_change: 1 });
    expect(spreadOf(lame, [result])[0]).toMatchObject({ told: 1, holds: 0 });
  });
});

describe("hostile files", () => {
  const good = JSON.parse(written(made("7")));
  it.each([
    ["no JSON", "{", /it is no JSON/],
    ["another JSON", "[1,2]", /no result of a lesson/],
    ["another format", written({ ...good, format: "webrlhf result 99" }), /at “format”/],
    ["a lesson's name as a path", written({ ...good, lesson: "../../sft" }), /at “lesson”/],
    ["markup as a student", written({ ...good, student: "<img src=x onerror=alert(1)>" }), /student is 1 to 24/],
    ["unknown fields", written({ ...good, labels: [] }), /labels/],
    ["numbers that are texts", written({ ...good, checks: [{ id: "rises", numbers: { a: "1" } }] }), /checks/],
    ["numbers beyond numbers", written(good).replace(/"gold_change":[-\d.]+/, '"gold_change":1e999'), /checks/],
    ["too many checks", written({ ...good, checks: Array(21).fill({ id: "a", numbers: null }) }), /checks/],
    [
      "too many numbers",
      written({
        ...good,
        checks: [{ id: "a", numbers: Object.fromEntries(Array.from({ length: 31 }, (_, i) => [`n${i}`, i])) }],
      }),
      /more than 30 numbers/,
    ],
    ["a seed out of range", written({ ...good, seed: -1 }), /at “seed”/],
  ])("%s", (_, content, words) => {
    expect(() => readResult(content)).toThrow(words);
  });

  it("are refused one by one, and the others count", async () => {
    const deep = written(good).replace('"input":{', `"input":{"a":${"[".repeat(40_000)}${"]".repeat(40_000)},`);
    const { taken, refused } = await readFiles(
      [
        file("good.json", written(good)),
        file("deep.json", deep),
        { name: "huge.json", size: 1e9, text: () => Promise.reject(new Error("read in spite of its size")) },
        { name: "gone.json", size: 10, text: () => Promise.reject(new Error("the file is gone")) },
        file("good-2.json", written(made("8"))),
      ],
      readResult,
    );
    expect(taken.map(({ student }) => student)).toEqual(["7", "8"]);
    expect(refused.map(({ file }) => file)).toEqual(["deep.json", "huge.json", "gone.json"]);
    expect(refused.map(({ why }) => why)).toEqual([
      expect.stringMatching(/deep/),
      expect.stringMatching(/larger than 100 kB/),
      "the file is gone",
    ]);
  });

  it("cannot be so many that the page stands still", async () => {
    const { taken, refused } = await readFiles(Array(503).fill(file("a.json", written(good))), readResult);
    expect([taken.length, refused.length]).toEqual([500, 3]);
  });
});

describe("what counts once", () => {
  it("is a student, of whom the last run counts, and a run, whoever gives it", () => {
    const copied = { ...made("9", seedOf("3b", "1")) };
    const { results, replaced, same } = gather([made("1"), made("1"), copied, made("2", 5), made("2", 6)]);
    expect(results.map(({ seed }) => seed).sort()).toEqual([6, seedOf("3b", "1")].sort());
    expect(replaced).toEqual(["3b 2"]);
    expect(same).toBe(2);
  });

  it("is averaged only with runs of the same settings, whatever the order of fields", () => {
    const turned = made("3");
    turned.input = Object.fromEntries(Object.entries(turned.input).reverse());
    const other = made("4", undefined, { diet: "all" });
    expect(batches([other, made("1"), made("2"), turned]).map(({ results }) => results.length)).toEqual([3, 1]);
  });
});

describe("the spread", () => {
  it("is mean, sd and standard error, and how often each check holds", () => {
    const values = [0.5, 1, 1.5, -0.2];
    const results = values.map(
      (gold_change, i): Result => ({
        ...made(String(i)),
        checks: [{ id: "rises", numbers: { gold_change, gold_change_se: 0.1 } }],
      }),
    );
    const [rises, reaches] = spreadOf(lesson, results);
    expect(rises).toMatchObject({ id: "rises", told: 4, holds: 3 });
    expect(reaches).toMatchObject({ told: 0, holds: 0, numbers: [] });
    const [change] = rises.numbers;
    expect(change).toMatchObject({ name: "gold_change", count: 4, least: -0.2, most: 1.5 });
    expect(change.mean).toBeCloseTo(0.7, 12);
    expect(change.sd).toBeCloseTo(Math.sqrt((0.04 + 0.09 + 0.64 + 0.81) / 3), 12);
    expect(change.se).toBeCloseTo(change.sd / 2, 12);
    expect(change.values.map(({ owner, holds }) => [owner, holds])).toEqual([
      ["3b 3", false],
      ["3b 0", true],
      ["3b 1", true],
      ["3b 2", true],
    ]);
  });

  it("of one run has no error", () => {
    expect(described([3])).toEqual({ mean: 3, sd: Number.NaN, se: Number.NaN });
  });

  it("counts predictions by answer, and those that came", () => {
    const told = predictionSpread(lesson.predictions[0] as ChoicePrediction, [made("1"), made("2")]);
    expect(told).toMatchObject({ count: 2, right: 0 });
    expect(told.options.map(({ id, chose, came }) => [id, chose, came])).toEqual([
      ["better", 2, 0],
      ["same", 0, 2],
      ["before", 0, 0],
    ]);
  });
});
