/** A class's leaderboard: by the truth, and no further than it can be told. */
import fs from "node:fs/promises";
import { describe, expect, it } from "vitest";
import { lesson as sft } from "../../demo/src/lessons/sft/lesson.ts";
import { resultOf } from "../../demo/src/lib/lesson/result.ts";
import type { Result } from "../../demo/src/lib/lesson/result-file.ts";
import type { Lesson, LessonEvent, Recording } from "../../demo/src/lib/lesson/types.ts";
import { rankingOf } from "../../demo/src/teach/ranking.ts";
import { readResult } from "../../demo/src/teach/read.ts";

const folder = new URL("../../demo/src/lessons/", import.meta.url);
const trained = ["sft", "labeller", "best-of-n", "ppo", "dpo", "over-optimisation"];
const others = ["language-model", "sampling", "reward-model"];
const lessonOf = async (slug: string): Promise<Lesson> =>
  (await import(new URL(`${slug}/lesson.ts`, folder).pathname)).lesson;
const firstRun = async (slug: string): Promise<Recording> =>
  JSON.parse(await fs.readFile(new URL(`${slug}/recordings.json`, folder), "utf8"))[0];

const made = (student: string, gain: number, se: number, more: object = {}): Result => ({
  format: "webrlhf result 1",
  lesson: "sft",
  class: "3b",
  student,
  size: "S",
  seed: 1,
  input: { ...sft.input("S", 1), ...more } as unknown as Result["input"],
  checks: [],
  predictions: [],
  truth: { gain, se },
});

describe("the truth that a result is ranked by", () => {
  it.each(trained)("is in the result of %s, as its run measured it last", async (slug) => {
    const lesson = await lessonOf(slug);
    const { events, input } = await firstRun(slug);
    const address = { size: "S", seed: 42, asked: {} } as const;
    const { truth } = readResult(JSON.stringify(resultOf(lesson, { address, input }, events, () => null, null)));
    const name = slug === "best-of-n" ? "truth" : "gold_change";
    const told = events.filter(
      (e): e is LessonEvent & { type: "measured" } =>
        e.type === "measured" && `${name}_se` in e.values && (slug !== "dpo" || e.stage === "online"),
    );
    const last = told[told.length - 1];
    expect(truth).toEqual({ gain: last.values[name], se: last.values[`${name}_se`] });
    expect(truth?.se).toBeGreaterThan(0);
    // Before a run has come that far there is none.
    const begun = resultOf(lesson, { address, input }, events.slice(0, 2), () => null, null);
    expect(begun.truth).toBeUndefined();
  });

  it.each(others)("is not in that of %s, where no policy is trained", async (slug) => {
    expect((await lessonOf(slug)).truth).toBeUndefined();
  });

  it("is read with suspicion, and may be missing", () => {
    const { truth: _, ...without } = made("1", 1, 0.1);
    expect(readResult(JSON.stringify(without)).truth).toBeUndefined();
    for (const truth of [{ gain: "1", se: 0.1 }, { gain: 1, se: -1 }, { gain: 1 }, { gain: 1, se: 1, more: 1 }]) {
      expect(() => readResult(JSON.stringify({ ...without, truth }))).toThrow(/truth/);
    }
  });
});

describe("a leaderboard", () => {
  it("gives places that are shared where runs cannot be told apart", () => {
    const results = [made("low", 0.2, 0.1), made("high", 1.6, 0.1), made("next", 1.5, 0.1), made("mid", 1.29, 0.1)];
    const { places, ahead, spread, noise } = rankingOf(sft, results) as NonNullable<ReturnType<typeof rankingOf>>;
    expect(places.map(({ owner, first, last }) => [owner, first, last])).toEqual([
      ["3b high", 1, 2], // ahead of mid by 0.31, more than 2 · √2 · 0.1
      ["3b next", 1, 3],
      ["3b mid", 2, 3],
      ["3b low", 4, 4],
    ]);
    expect(ahead).toBe(2);
    expect(noise).toBeCloseTo(0.1, 12);
    expect(spread).toBeCloseTo(Math.sqrt((0.9475 ** 2 + 0.4525 ** 2 + 0.3525 ** 2 + 0.1425 ** 2) / 3), 12);
  });

  it("names a single best run only where it is beyond all others' errors", () => {
    expect(rankingOf(sft, [made("a", 2, 0.1), made("b", 1, 0.1)])?.ahead).toBe(1);
    expect(rankingOf(sft, [made("a", 2, 0.5), made("b", 1, 0.5)])?.ahead).toBe(2);
  });

  it("says what of the lesson's settings a student changed, and leaves out runs that say nothing", () => {
    const silent = { ...made("c", 1, 1) };
    delete silent.truth;
    const ranking = rankingOf(sft, [made("a", 2, 0.1, { diet: "best-tenth" }), made("b", 1, 0.1), silent]);
    expect(ranking?.places.map(({ asked }) => asked)).toEqual([{ diet: "best-tenth" }, {}]);
    expect(rankingOf(sft, [made("a", 2, 0.1), silent])).toBeNull();
  });
});
