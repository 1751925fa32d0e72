import fs from "node:fs/promises";
import { describe, expect, it } from "vitest";
import { memoryFiles } from "webrlhf";
import type { Phase, RolloutRow } from "webrlhf/rlhf";
import { linesOf } from "../../../demo/src/lessons/ppo/formulas.ts";
import { lesson, type PpoInput, UPDATES } from "../../../demo/src/lessons/ppo/lesson.ts";
import { openedSteps } from "../../../demo/src/lessons/ppo/opened.ts";
import { ends, program } from "../../../demo/src/lessons/ppo/program.ts";
import { isTold, rewardSum, shownAt, stationsOf } from "../../../demo/src/lessons/ppo/stations.ts";
import type { LessonEvent, Recording } from "../../../demo/src/lib/lesson/types.ts";
import { tinyStart } from "../tiny-start.ts";

const file = new URL("../../../demo/src/lessons/ppo/recordings.json", import.meta.url);
const recordings: Recording[] = JSON.parse(await fs.readFile(file, "utf8"));
const inputOf = ({ input }: Recording) => input as unknown as PpoInput;

const rolloutsOf = (events: readonly LessonEvent[]) =>
  events.flatMap((e) => (e.type === "train" && e.event.type === "rollout" ? [e.event] : []));
const sum = (values: readonly number[]) => values.reduce((a, b) => a + b, 0);

/** From the definition: what is still to come, each surprise by lambda to the power of its distance. */
function advantagesOf({ rewards, values = [] }: RolloutRow, lam: number): number[] {
  const surprises = rewards.map((r, t) => r + (values[t + 1] ?? 0) - values[t]);
  return surprises.map((_, t) => sum(surprises.slice(t).map((surprise, k) => surprise * lam ** k)));
}

/** Everything that a rollout says of itself fits together. `places`: the decimal places to which its numbers are known. */
function expectWhole(rows: readonly RolloutRow[], klCoef: number, lam: number, places: number): void {
  expect(rows.length).toBeGreaterThan(0);
  for (const row of rows) {
    expect(sum(row.rewards)).toBeCloseTo(row.finalScore - klCoef * sum(row.kl ?? []), places);
    expect(row.updates[0].ratios.every((ratio) => ratio === 1)).toBe(true);
    expect(row.updates).toHaveLength(UPDATES + 1);
    for (const [t, advantage] of advantagesOf(row, lam).entries())
      expect(row.advantages[t]).toBeCloseTo(advantage, places);
  }
}

describe("lesson 7, PPO opened up", () => {
  it.each(recordings.map((r) => [r.name.en, r] as const))("shows numbers that fit together: %s", (_, recording) => {
    const { lam, klCoef } = inputOf(recording);
    const rollouts = rolloutsOf(recording.events);
    expect(rollouts.length).toBeGreaterThan(1);
    for (const rollout of rollouts) {
      expect(rollout.klCoef).toBe(klCoef);
      expectWhole(rollout.rows, klCoef, lam, 1.8); // four digits of each number are recorded
    }
    for (const { rows } of openedSteps(recording.events)) {
      const [row] = rows;
      const shown = rewardSum(row, klCoef);
      expect(shown?.sum).toBeCloseTo(shown?.penalised ?? Number.NaN, 2);
    }
  });

  it("trains what it shows: a tiny model's numbers fit to float32, and KL is 0 at first", async () => {
    const context = {
      start: await tinyStart(),
      files: memoryFiles(),
      folder: "run",
      signal: new AbortController().signal,
    };
    const events: LessonEvent[] = [];
    for await (const event of program(lesson.input("S", 3), context)) {
      events.push(event);
      if (rolloutsOf([event]).some(({ step }) => step === 2)) break;
    }
    const [first, second] = rolloutsOf(events);
    for (const { rows, klCoef } of [first, second]) expectWhole(rows, klCoef, 0.95, 4);
    expect(first.rows.every(({ kl }) => kl?.every((k) => k === 0))).toBe(true);
    expect(second.rows.some(({ kl }) => kl?.some((k) => k !== 0))).toBe(true);
    // While a step is made its parts tell the same as its end.
    const parts = openedSteps(events.filter((e) => rolloutsOf([e]).length === 0));
    const whole = openedSteps(events);
    expect(parts.map(({ rows }) => rows)).toEqual(whole.map(({ rows }) => rows));
  });

  it("fills each formula with the numbers that make its value", () => {
    for (const recording of recordings) {
      const knobs = inputOf(recording);
      for (const { rows } of openedSteps(recording.events)) {
        for (const row of rows) {
          for (const t of [0, 1, row.ids.length - 1]) {
            const lines = new Map(linesOf(row, t, knobs).map((line) => [line.id, line]));
            const value = (id: string) => lines.get(id)?.value as number;
            const last = t === row.ids.length - 1;
            expect(value("sample")).toBeCloseTo(Math.exp(row.logProbs[t]), 6);
            expect(value("kl")).toBeCloseTo(Math.log(value("sample")) - Math.log(value("reference")), 2);
            expect(value("reward")).toBeCloseTo((last ? (row.finalScore ?? 0) : 0) - knobs.klCoef * value("kl"), 2);
            const next = last ? 0 : (row.advantages?.[t + 1] ?? 0);
            expect(value("advantage")).toBeCloseTo(value("surprise") + knobs.lam * next, 1.8);
            expect(value("return")).toBeCloseTo(value("advantage") + value("value"), 1.8);
            expect(lines.get("reward")?.formula.includes("score")).toBe(last);
          }
        }
      }
    }
  });

  it("marks a token as clipped where it went beyond the clip the way it was asked to go, and nowhere else", () => {
    let clipped = 0;
    for (const { events } of recordings) {
      for (const { rows } of openedSteps(events)) {
        for (const row of rows) {
          for (const [u, update] of row.updates.entries()) {
            for (const [t, ratio] of update.ratios.entries()) {
              const asked = row.advantages?.[t] ?? 0;
              if (asked === 0) continue; // nothing is asked of it
              const up = asked > 0;
              const beyond = up ? ratio > 1.2 : ratio < 0.8;
              const shown = shownAt(row, t, { part: "policy", update: u + 1 });
              if (Math.abs(ratio - (up ? 1.2 : 0.8)) > 1e-3) expect(shown.clipped).toBe(beyond);
              clipped += Number(shown.clipped);
            }
          }
        }
      }
    }
    expect(clipped).toBeGreaterThan(0);
  });

  it("tells of a part only when the step has come so far", () => {
    const phase = (told: Phase): LessonEvent => ({
      type: "train",
      stage: "ppo",
      event: { type: "phase", step: 1, ...told },
    });
    const row = rolloutsOf(recordings[0].events)[0].rows[0];
    const { prompt, response, ended, ids, texts, logProbs } = row;
    const events = [phase({ phase: "sample", rows: [{ prompt, response, ended, ids, texts, logProbs }] })];
    const told = () =>
      stationsOf(UPDATES)
        .filter((station) => isTold(openedSteps(events)[0], station))
        .map((station) => ("update" in station ? `${station.part} ${station.update}` : station.part));
    expect(told()).toEqual(["sample"]);
    const { score, finalScore, refLogProbs, kl, rewards, values, advantages, returns } = row;
    events.push(phase({ phase: "score", klCoef: 0.1, rows: [{ score, finalScore, refLogProbs, kl } as RolloutRow] }));
    expect(told()).toEqual(["sample", "score", "kl"]);
    const estimate = { rewards, advantages, values, returns } as RolloutRow;
    events.push(phase({ phase: "advantage", rows: [estimate] }));
    expect(told()).toEqual(["sample", "score", "kl", "reward", "value", "advantage"]);
    events.push(phase({ phase: "update", model: "policy", update: 1, updates: 4, loss: 0.5, rows: [row.updates[1]] }));
    expect(told().slice(6)).toEqual(["policy 1"]);
  });

  it("steps through the parts of PPO, and through the judge's training at once", () => {
    const step = { type: "step", step: 1, maxSteps: 2, epoch: 0, metrics: {}, tokens: 1, seconds: 1 } as const;
    expect(ends({ type: "train", stage: "judge", event: step })).toBeUndefined();
    expect(ends({ type: "train", stage: "ppo", event: step })).toBe("step");
    const row = rolloutsOf(recordings[0].events)[0].rows[0];
    const sampled: LessonEvent = {
      type: "train",
      stage: "ppo",
      event: { type: "phase", step: 1, phase: "sample", rows: [row] },
    };
    expect(ends(sampled)).toBe("phase");
  });

  it("holds its checks on PPO's recordings, and fails them where only the end learns", () => {
    for (const recording of recordings) {
      const { critic, lam } = inputOf(recording);
      for (const check of lesson.checks) {
        const numbers = check.measure(recording.events);
        expect(numbers).not.toBeNull();
        if (!numbers) continue;
        if (critic === "judge") expect(check.holds(numbers)).toBe(true);
        if (critic === "none" && lam === 0) expect(check.holds(numbers)).toBe(false);
        for (const language of ["en", "zh"] as const) expect(check.says(numbers, language)).toMatch(/\d/);
      }
    }
    expect(recordings.map((r) => lesson.predictions[0].outcome(r.events))).toEqual(["each", "last", "alike", "each"]);
    expect(lesson.checks.map((check) => check.measure([]))).toEqual([null, null]);
  });

  it("refuses what a link must not ask for", () => {
    const good = lesson.input("S", 1);
    expect(lesson.parse(good)).toEqual(good);
    const bad = [{ lam: 0.3 }, { lam: "1" }, { klCoef: -1 }, { klCoef: Number.NaN }, { seed: 1.5 }, { seed: 1e12 }];
    const worse = [{ critic: "god" }, { size: "XL" }, { steps: 1e9 }];
    for (const change of [...bad, ...worse]) expect(() => lesson.parse({ ...good, ...change })).toThrow();
    expect(() => lesson.parse(null)).toThrow();
  });
});
