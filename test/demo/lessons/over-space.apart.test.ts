/** Lesson 9's view of the judge's space: what it shows, and that reading it changes nothing of what is trained. */
import fs from "node:fs/promises";
import { gzipSync } from "node:zlib";
import { describe, expect, it, vi } from "vitest";
import { memoryFiles } from "webrlhf";
import { lesson, methods, type OverInput } from "../../../demo/src/lessons/over-optimisation/lesson.ts";
import { program } from "../../../demo/src/lessons/over-optimisation/program.ts";
import { beside, cloudsIn, groundIn } from "../../../demo/src/lessons/over-optimisation/space.ts";
import type { SpacePoint } from "../../../demo/src/lib/figures/space.ts";
import type { LessonEvent, Program, ProgramContext, Recording } from "../../../demo/src/lib/lesson/types.ts";
import { tinyStart } from "../tiny-start.ts";

/** Whether the program reads the judge's space at all. */
const reading = vi.hoisted(() => ({ on: true }));
vi.mock("../../../demo/src/lessons/over-optimisation/clouds.ts", async (original) => {
  const real = await original<typeof import("../../../demo/src/lessons/over-optimisation/clouds.ts")>();
  const blind = async () => ({ ground: { explained: [], points: [] }, cloudOf: async () => [] });
  const judgeSpace: typeof real.judgeSpace = (...given) => (reading.on ? real.judgeSpace(...given) : blind());
  return { judgeSpace };
});

const context = async (): Promise<ProgramContext> => ({
  start: await tinyStart(),
  files: memoryFiles(),
  folder: "run",
  signal: new AbortController().signal,
});

/** The events until so many looks were told whole. */
async function told(run: Program<OverInput>, input: OverInput, looks: number): Promise<LessonEvent[]> {
  const events: LessonEvent[] = [];
  for await (const event of run(input, await context())) {
    events.push(event);
    const begun = events.filter((e) => e.type === "enter" && e.stage === "policy").length;
    if (cloudsIn(events).length === looks || begun > looks) break;
  }
  return events;
}

describe("the judge's space in lesson 9", () => {
  it.each(methods)("is told at every look, few and short, by %s", async (method) => {
    const events = await told(program, { ...lesson.input("S", 3), method, pairs: 64 }, 2);
    const ground = groundIn(events);
    const clouds = cloudsIn(events);
    const looks = events.flatMap((e) => (e.type === "measured" && e.stage === "look" ? [e] : []));
    expect(clouds.map(({ step }) => step)).toEqual(looks.map(({ step }) => step));
    expect(ground?.explained).toHaveLength(2);
    for (const points of [ground?.points ?? [], ...clouds.map(({ points }) => points)]) {
      expect(points.length).toBeGreaterThanOrEqual(32);
      expect(points.length).toBeLessThanOrEqual(64);
      for (const number of points.flat())
        expect(String(number).replace(/^-?0?\.?0*/, "").length).toBeLessThanOrEqual(8);
      expect(points.flat().every(Number.isFinite)).toBe(true);
    }
    // What is told of the answers is what the look measured of them: of its first stories the truth, to three digits.
    const samples = events.flatMap((e) => (e.type === "samples" && e.stage === "look" ? [e] : []));
    for (const [i, { samples: shown }] of samples.entries()) {
      for (const k of [0, 1, 2]) {
        const [, , score, truth] = clouds[i].points[k];
        expect(score).toBe(Number((shown[k].reward as number).toPrecision(3)));
        expect(truth).toBe(Number((shown[k].gold as number).toPrecision(3)));
      }
    }
    for (const event of events) {
      const kept = lesson.keep?.(event);
      if (event.type === "data") expect(kept).toEqual(event);
    }
  });

  it("takes nothing from what is trained: without it the numbers are the same", async () => {
    const input = { ...lesson.input("S", 3), pairs: 64 };
    const numbers = (events: readonly LessonEvent[]) =>
      events.flatMap((e): unknown[] => {
        if (e.type === "measured" || e.type === "samples") return [e];
        return e.type === "train" && e.event.type === "step" ? [[e.stage, e.event.step, e.event.metrics]] : [];
      });
    const seeing = await told(program, input, 3);
    reading.on = false;
    try {
      const blind = await told(program, input, 3);
      expect(cloudsIn(blind).every(({ points }) => points.length === 0)).toBe(true);
      expect(numbers(blind).length).toBeGreaterThan(12);
      expect(numbers(blind)).toEqual(numbers(seeing));
    } finally {
      reading.on = true;
    }
  });

  it("is in every recorded run, which stays small, and shows there what the text says", async () => {
    const file = new URL("../../../demo/src/lessons/over-optimisation/recordings.json", import.meta.url);
    const recordings: Recording[] = JSON.parse(await fs.readFile(file, "utf8"));
    const all = recordings.map((recording) => {
      expect(gzipSync(JSON.stringify(recording)).length, recording.name.en).toBeLessThan(8500);
      const { input, events } = recording;
      const ground = groundIn(events)?.points ?? [];
      const clouds = cloudsIn(events).map(({ points }) => ({ points, ...beside(ground, points) }));
      expect(ground.length).toBeGreaterThan(32);
      expect(clouds.length).toBeGreaterThan(3);
      const { method, klCoef, pairs } = input as unknown as OverInput;
      return { question: `${method} ${klCoef} ${pairs}`, first: clouds[0], last: clouds[clouds.length - 1] };
    });
    const of = (question: string) => all.filter((run) => run.question === question);
    const score = ({ points }: (typeof all)[number]["last"]) =>
      points.reduce((sum, point) => sum + point[2], 0) / points.length;
    // Free, the answers gather where the score is highest; held by the penalty they stay wide.
    for (const { first, last } of of("ppo 0 512")) {
      expect(last.width).toBeLessThan(first.width / 2);
      expect(last.above).toBeGreaterThan(first.above);
    }
    expect(of("ppo 1 512")[0].last.width).toBeGreaterThan(0.4);
    // In the same corner, with the same score: what best of n chose is good, and what the shown free run came to is not.
    const [near, free] = [of("best-of-n 0 512")[0].last, of("ppo 0 512")[0].last];
    expect(Math.abs(score(near) - score(free))).toBeLessThan(0.3);
    expect(near.truth - free.truth).toBeGreaterThan(1.5);
  });

  it("is told in numbers beside the ground", () => {
    const ground: SpacePoint[] = [
      [-1, -2, 0, 0],
      [1, 2, 1, 2],
    ];
    expect(beside(ground, ground)).toEqual({ width: 1, above: 0, truth: 1 });
    const moved: SpacePoint[] = [
      [7, 9, 2, 3],
      [7, 9, 1, 4],
    ];
    expect(beside(ground, moved)).toEqual({ width: 0, above: 0.5, truth: 3.5 });
    expect(beside([ground[0]], moved).width).toBe(0);
  });
});
