import { describe, expect, it } from "vitest";
import {
  accuracyIn,
  judgesIn,
  lesson,
  reliabilityIn,
  sizesOf,
  spaceIn,
  stageOf,
} from "../../../demo/src/lessons/reward-model/lesson.ts";
import recordings from "../../../demo/src/lessons/reward-model/recordings.json" with { type: "json" };
import { slopes } from "../../../demo/src/lessons/reward-model/slopes.ts";
import type { LessonEvent, Recording } from "../../../demo/src/lib/lesson/types.ts";

const runs = recordings as unknown as Recording[];
const eventsOf = (wanted: object) =>
  runs.find(({ input }) =>
    Object.entries(wanted).every(([name, value]) => (input as Record<string, unknown>)[name] === value),
  )?.events as LessonEvent[];
const own = () => eventsOf({ liking: "a bit shorter", noise: 0 });
const holding = (events: readonly LessonEvent[]) =>
  lesson.checks.map((check) => {
    const numbers = check.measure(events);
    return numbers !== null && check.holds(numbers);
  });

describe("lesson 5", () => {
  it("holds on its recorded run, not where a coin labels, and the liking only where it was planted", () => {
    expect(holding(own())).toEqual([true, true, true]);
    expect(holding(eventsOf({ noise: 0.5 }))).toEqual([false, false, false]);
    expect(lesson.predictions.map((p) => ("options" in p ? p.outcome(own()) : ""))).toEqual(["most"]);
    const perWord = (wanted: object) => judgesIn(eventsOf(wanted))[2].values.per_word;
    expect(perWord({ liking: "only shorter" })).toBeLessThan(perWord({ liking: "a bit shorter" }));
    expect(perWord({ liking: "a bit shorter", noise: 0 })).toBeLessThan(perWord({ liking: "nothing", noise: 0 }));
  });

  it("knows a lower ceiling where labels are turned round", () => {
    const ceiling = (wanted: object) => judgesIn(eventsOf(wanted))[2].values.ceiling;
    expect(ceiling({ liking: "nothing", noise: 0 })).toBeGreaterThan(0.9);
    expect(ceiling({ liking: "nothing", noise: 0.25 })).toBeLessThan(0.76);
    expect(ceiling({ noise: 0.5 })).toBeCloseTo(0.5, 6);
  });

  it("says nothing before all judges are measured", () => {
    const events = own();
    const at = events.findIndex((e) => e.type === "measured" && e.stage === stageOf(512));
    expect(lesson.checks.map((check) => check.measure(events.slice(0, at)))).toEqual([null, null, null]);
  });

  it("reads what a link may ask", () => {
    expect(lesson.parse(lesson.input("S", 7))).toEqual(lesson.input("S", 7));
    for (const hostile of [
      { pairs: 1e6 },
      { noise: 0.3 },
      { noise: "0" },
      { liking: "gold" },
      { seed: 1.5 },
      { more: 1 },
    ]) {
      expect(() => lesson.parse({ ...lesson.input("S", 7), ...hostile })).toThrow();
    }
  });

  it("draws its curves and points out of its events", () => {
    const events = own();
    for (const size of sizesOf(512)) {
      expect(accuracyIn(events, stageOf(size)).map(([step]) => step)).toEqual([8, 16, 24, 32, 40, 48, 56, 64]);
    }
    for (const { pairs, bins } of reliabilityIn(events)) {
      const accuracy = bins.reduce((sum, { right, count }) => sum + right * count, 0) / 256;
      expect(bins.reduce((sum, { count }) => sum + count, 0)).toBe(256);
      expect(accuracy).toBeCloseTo(judgesIn(events).find((judge) => judge.pairs === pairs)?.values.accuracy ?? 0, 2);
    }
    expect(spaceIn(events)?.clouds.map(({ name, points }) => [name, points.length])).toEqual([
      ["data", 128],
      ["best", 128],
    ]);
  });
});

describe("what a score rests on", () => {
  it("is told apart, although good stories are longer", () => {
    const stories = Array.from({ length: 400 }, (_, i) => {
      const truth = Math.sin(i) + 1;
      const words = 10 + 3 * truth + 2 * Math.cos(7 * i);
      return { truth, words, score: 5 + 2 * truth - 0.25 * words + 0.1 * Math.sin(13 * i) };
    });
    const { per_truth: t, per_truth_se: te, per_word: w, per_word_se: we } = slopes(stories);
    const mean = stories.reduce((sum, { score }) => sum + score, 0) / 400;
    const sd = Math.sqrt(stories.reduce((sum, { score }) => sum + (score - mean) ** 2, 0) / 400);
    expect(t * sd).toBeCloseTo(2, 1);
    expect(w * sd).toBeCloseTo(-0.25, 2);
    expect(Math.abs(t * sd - 2)).toBeLessThan(3 * te * sd);
    expect(we).toBeGreaterThan(0);
  });
});
