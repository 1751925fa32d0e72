import fs from "node:fs/promises";
import { describe, expect, it } from "vitest";
import { memoryFiles } from "webrlhf";
import { bandOf, byDistance, looksOf, ofOtherSeeds } from "../../../demo/src/lessons/over-optimisation/gains.ts";
import { lesson, methods, type OverInput } from "../../../demo/src/lessons/over-optimisation/lesson.ts";
import { program } from "../../../demo/src/lessons/over-optimisation/program.ts";
import type { LessonEvent, ProgramContext, Recording } from "../../../demo/src/lib/lesson/types.ts";
import { tinyStart } from "../tiny-start.ts";

const file = new URL("../../../demo/src/lessons/over-optimisation/recordings.json", import.meta.url);
const recordings: Recording[] = JSON.parse(await fs.readFile(file, "utf8"));
const inputOf = ({ input }: Recording) => input as unknown as OverInput;
const free = recordings.filter(
  (r) => JSON.stringify({ ...inputOf(r), seed: 0 }) === JSON.stringify(lesson.input("S", 0)),
);
const near = recordings.find((r) => inputOf(r).method === "best-of-n") as Recording;

const tinyContext = async (): Promise<ProgramContext> => ({
  start: await tinyStart(),
  files: memoryFiles(),
  folder: "run",
  signal: new AbortController().signal,
});

describe("lesson 9, over-optimisation", () => {
  it("holds its checks on the free run that is shown first and on most of its seeds, and fails them where the policy stays near", () => {
    expect(free.length).toBeGreaterThanOrEqual(3);
    const verdicts = (r: Recording) => lesson.checks.map((check) => check.holds(check.measure(r.events) ?? {}));
    expect(verdicts(recordings[0])).toEqual([true, true]);
    // Of ten seeds one or the other does not turn: see docs/results/lessons/over-optimisation.md.
    expect(free.filter((r) => verdicts(r).every(Boolean)).length).toBeGreaterThan(free.length / 2);
    expect(verdicts(near)).toEqual([false, false]);
    expect(lesson.checks.map((check) => check.measure([]))).toEqual([null, null]);
    for (const check of lesson.checks) {
      const numbers = check.measure(free[0].events);
      for (const language of ["en", "zh"] as const) expect(check.says(numbers ?? {}, language)).toMatch(/\d/);
    }
  });

  it("draws both rewards in deviations of the start, and the distance as the root of KL", () => {
    for (const { events } of recordings) {
      const told = events.flatMap((e) => (e.type === "measured" ? [e] : []));
      const looks = looksOf(events);
      expect(looks).toHaveLength(told.length);
      for (const [i, { values }] of told.entries()) {
        // The change on the same prompts is the change of the means.
        expect(looks[i].gold * told[0].values.gold_std).toBeCloseTo(values.gold_change, 2);
        expect(looks[i].reward * told[0].values.reward_std).toBeCloseTo(values.reward_change, 2);
        const [distance, reward] = byDistance(looks, "gold")[i];
        expect(distance ** 2).toBeCloseTo(Math.max(0, values.kl), 6);
        expect(reward).toBe(looks[i].gold);
      }
    }
  });

  it("knows what best of n costs in closed form, and sees the judge's gain run ahead of the truth's", () => {
    const [{ events }] = recordings.filter((r) => inputOf(r).method === "best-of-n");
    const looks = looksOf(events);
    for (const { step: n, kl } of looks) expect(kl).toBeCloseTo(Math.log(n) - (n - 1) / n, 3);
    const most = looks[looks.length - 1];
    expect(most.reward).toBeGreaterThan(most.gold);
  });

  it("bands what the seeds of one question did", () => {
    const same = ofOtherSeeds(recordings, free[0].input);
    expect(same.map((r) => r.name.en)).toEqual(free.map((r) => r.name.en));
    for (const [step, low, high] of bandOf(
      same.map(({ events }) => events),
      "gold",
    )) {
      for (const { events } of same) {
        const gold = looksOf(events).find((look) => look.step === step)?.gold as number;
        expect(gold).toBeGreaterThanOrEqual(low);
        expect(gold).toBeLessThanOrEqual(high);
      }
    }
  });

  it.each(methods)("looks at the same prompts again and again, by %s", async (method) => {
    const context = await tinyContext();
    const input = { ...lesson.input("S", 3), method, pairs: 64 };
    const told: LessonEvent[] = [];
    for await (const event of program(input, context)) {
      told.push(event);
      if (looksOf(told).length === 2 && event.type === "samples") break;
    }
    const [first, second] = told.flatMap((e) => (e.type === "measured" ? [e] : []));
    expect(second.step).toBeGreaterThan(first.step);
    for (const name of ["gold", "gold_se", "reward", "kl", "gold_change", "gold_change_se", "reward_change"]) {
      expect(second.values[name], name).toSatisfy(Number.isFinite);
    }
    expect(first.values.gold + second.values.gold_change).toBeCloseTo(second.values.gold, 6);
    expect(told.filter((e) => e.type === "samples")).toHaveLength(2);
  });

  it("goes on where it was broken off, and still knows its earlier looks", async () => {
    const context = await tinyContext();
    const input = { ...lesson.input("S", 3), pairs: 64 };
    const until = async (step: number): Promise<LessonEvent[]> => {
      const told: LessonEvent[] = [];
      for await (const event of program(input, context)) {
        told.push(event);
        if (
          event.type === "train" &&
          event.stage === "policy" &&
          event.event.type === "step" &&
          event.event.step === step
        )
          break;
      }
      return told;
    };
    await until(7);
    const again = await until(11);
    const started = again.find((e) => e.type === "train" && e.stage === "policy" && e.event.type === "start");
    expect(started?.type === "train" && started.event.type === "start" && started.event.step).toBe(5);
    const kept = JSON.parse(new TextDecoder().decode((await context.files.read("run/looks.json")) ?? undefined));
    expect(kept.map(({ step }: { step: number }) => step)).toEqual([0, 2, 4, 6, 8, 10]);
  });

  it("refuses what a link must not ask for", () => {
    const good = lesson.input("S", 1);
    expect(lesson.parse(good)).toEqual(good);
    const bad = [
      { method: "sft" },
      { pairs: 100_000 },
      { klCoef: -0.1 },
      { klCoef: Number.NaN },
      { seed: -1 },
      { size: "" },
    ];
    for (const change of [...bad, { steps: 9 }]) expect(() => lesson.parse({ ...good, ...change })).toThrow();
    expect(() => lesson.parse([])).toThrow();
  });
});
