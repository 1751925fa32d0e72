import { describe, expect, it } from "vitest";
import type { Point } from "../../../demo/src/playground/curves.ts";
import { type Knobs, ofMethod } from "../../../demo/src/playground/knobs.ts";
import { lesson } from "../../../demo/src/playground/lesson.ts";
import { MOST_PINS, namesOf, type Pin, pinnable, pinsOf } from "../../../demo/src/playground/pins.ts";
import { words } from "../../../demo/src/playground/words.ts";

const knobs = lesson.input("S", 42) as Pin["knobs"];
const point: Point = {
  step: 4,
  tokens: 900,
  kl: 2,
  length: 15,
  judge: 1,
  judge_se: 0.1,
  truth: 0.5,
  truth_se: 0.1,
};
const pin: Pin = { knobs, points: [point], name: "mine" };

describe("pins that were saved", () => {
  it("come back as they were", () => {
    const all = [pin, { ...pin, knobs: { ...knobs, ...ofMethod.dpo, method: "dpo" as const }, name: "" }];
    expect(pinsOf(JSON.stringify(all))).toEqual(all);
    expect(pinsOf(null)).toEqual([]);
    expect(JSON.stringify(Array(MOST_PINS).fill({ ...pin, points: Array(15).fill(point) })).length).toBeLessThan(
      10_000,
    );
  });

  it("are not believed where they are none", () => {
    for (const bad of [
      "no JSON",
      "{}",
      JSON.stringify([{ ...pin, more: 1 }]),
      JSON.stringify([{ ...pin, knobs: { ...knobs, steps: 1e9 } }]),
      JSON.stringify([{ ...pin, knobs: { ...knobs, method: "race" } }]),
      JSON.stringify([{ ...pin, points: [] }]),
      JSON.stringify([{ ...pin, points: [{ ...point, truth: null }] }]),
      JSON.stringify([{ ...pin, points: Array(101).fill(point) }]),
      JSON.stringify([{ ...pin, name: "x".repeat(41) }]),
      JSON.stringify(Array(MOST_PINS + 1).fill(pin)),
    ]) {
      expect(pinsOf(bad), bad.slice(0, 80)).toEqual([]);
    }
  });

  it("hold no number that cannot be saved", () => {
    const all = pinnable([point, { ...point, truth: Number.NaN }, { ...point, kl: Number.POSITIVE_INFINITY }]);
    expect(all).toEqual([point]);
    expect(pinsOf(JSON.stringify([{ ...pin, points: all }]))).toHaveLength(1);
  });
});

describe("the names of runs", () => {
  const named = (...all: Partial<Knobs>[]) =>
    namesOf(
      all.map((asked) => ({ ...knobs, ...asked })),
      words.en,
    );

  it("say what differs between them, and nothing else", () => {
    expect(named({})).toEqual(["PPO"]);
    expect(named({}, { klCoef: 0 })).toEqual(["PPO, KL 0.1", "PPO, KL 0"]);
    expect(named({}, { seed: 43, pairs: 64 })).toEqual(["PPO, pairs 256, seed 42", "PPO, pairs 64, seed 43"]);
  });

  it("speak of no knob that the method does not have", () => {
    expect(named({}, { method: "raft", klCoef: 0 })).toEqual(["PPO", "RAFT"]);
    expect(named({ klCoef: 0.3 }, { klCoef: 0 }, { method: "raft" })).toEqual(["PPO, KL 0.3", "PPO, KL 0", "RAFT"]);
  });

  it("are told apart where nothing differs", () => {
    expect(named({}, {}, {})).toEqual(["PPO", "PPO (2)", "PPO (3)"]);
  });
});
