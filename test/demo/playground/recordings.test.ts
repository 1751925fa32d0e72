import fs from "node:fs/promises";
import { gzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { lastData } from "../../../demo/src/lib/lesson/numbers.ts";
import type { Recording } from "../../../demo/src/lib/lesson/types.ts";
import { accuracyOf, pointsOf, seenMethods, type Versus, verdictOf } from "../../../demo/src/playground/curves.ts";
import { type Knobs, type Method, methods } from "../../../demo/src/playground/knobs.ts";
import { lesson } from "../../../demo/src/playground/lesson.ts";

const file = new URL("../../../demo/src/playground/recordings.json", import.meta.url);
const recordings: Recording[] = JSON.parse(await fs.readFile(file, "utf8"));
const named = (name: string) => recordings.find((r) => r.name.en === name) as Recording;
const knobsOf = ({ input }: Recording) => input as unknown as Knobs;
const pointsIn = (r: Recording) => pointsOf(r.events, knobsOf(r).method as Method);

describe("the playground's recorded runs", () => {
  it("are there for each question, with its very knobs, whole and small", () => {
    expect(recordings.map(({ name, input }) => ({ name, input }))).toEqual(lesson.recorded);
    for (const recording of recordings) {
      const { method, steps } = knobsOf(recording);
      expect(gzipSync(JSON.stringify(recording)).length, recording.name.en).toBeLessThan(10_000);
      expect(accuracyOf(recording.events)).toBeGreaterThan(0.5);
      const samples = recording.events.filter(({ type }) => type === "samples");
      expect(samples.length).toBeGreaterThan(1);
      expect(seenMethods(recording.events)).toEqual(method === "race" ? methods : [method]);
      if (method !== "race") expect(pointsIn(recording).at(-1)?.step).toBe(steps);
      for (const event of recording.events) {
        if (event.type === "measured") expect(event.values.prompts).toBe(128);
      }
    }
  });

  it("without a KL penalty show the judge content and the truth turned over", () => {
    const points = pointsIn(named("No KL penalty"));
    const last = points[points.length - 1];
    const best = points.reduce((most, point) => (point.truth > most.truth ? point : most));
    expect(verdictOf(last.judge, last.judge_se)).toBe("up");
    expect(best.truth - last.truth).toBeGreaterThan(2 * Math.hypot(best.truth_se, last.truth_se));
    expect(last.kl).toBeGreaterThan(best.kl);
    const ordinary = pointsIn(named("The ordinary case")).at(-1);
    expect(verdictOf(ordinary?.truth ?? 0, ordinary?.truth_se ?? 1)).toBe("up");
  });

  it("of the race have spent about the same, and tell of two methods what the numbers say", () => {
    const race = named("The race");
    const { budget, responses } = knobsOf(race);
    const ends = new Map(methods.map((method) => [method, pointsOf(race.events, method).at(-1)]));
    for (const [method, end] of ends) {
      expect(Math.abs((end?.tokens ?? 0) - budget), method).toBeLessThan(responses * 32);
    }
    const versus = lastData<Versus[]>(race.events, "versus") ?? [];
    expect(versus).toHaveLength(10);
    for (const { a, b, truth } of versus) {
      expect(truth).toBeCloseTo((ends.get(a)?.truth ?? 0) - (ends.get(b)?.truth ?? 0), 2);
    }
    // Some pairs can be told apart and some cannot.
    expect(new Set(versus.map(({ truth, truth_se }) => verdictOf(truth, truth_se) === "unknown")).size).toBe(2);
  });
});
