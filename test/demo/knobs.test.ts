import { describe, expect, it } from "vitest";
import {
  defaultKnobs,
  fitKnob,
  knobsFromHash,
  knobsToHash,
  numberSpecs,
  sameKnobs,
  smaller,
} from "../../demo/src/playground/knobs.ts";
import type { Knobs } from "../../demo/src/playground/protocol.ts";

describe("knobs in the address", () => {
  it("survive the way there and back", () => {
    const knobs: Knobs = {
      algorithm: "raft",
      seed: 7,
      klCoef: 0,
      learningRate: 0.0025,
      rolloutSize: 16,
      steps: 3,
      rewardPairs: 64,
    };
    expect(knobsFromHash(knobsToHash(knobs))).toEqual(knobs);
    expect(sameKnobs(knobsFromHash(knobsToHash(knobs)), knobs)).toBe(true);
    expect(knobsToHash(knobs)).toBe(
      "#algorithm=raft&kl_coef=0&learning_rate=0.0025&rollout_batch_size=16&max_steps=3&reward_pairs=64&seed=7",
    );
  });

  it("take their defaults where the address says nothing or nonsense", () => {
    expect(knobsFromHash("")).toEqual(defaultKnobs);
    expect(knobsFromHash("#algorithm=dream&seed=&kl_coef=much&max_steps=NaN&other=1")).toEqual(defaultKnobs);
  });

  it("stay within what the trainers can take", () => {
    const knobs = knobsFromHash("#rollout_batch_size=100000&max_steps=-4&kl_coef=1e9&seed=1.6");
    expect(knobs).toMatchObject({ rolloutSize: 256, steps: 1, klCoef: 1, seed: 2 });
    for (const spec of numberSpecs) {
      expect(fitKnob(spec, defaultKnobs[spec.key], -1)).toBe(defaultKnobs[spec.key]);
      expect(fitKnob(spec, Number.NaN, 5)).toBe(5);
    }
  });
});

describe("small values", () => {
  it("are the same question, at a size that a CPU can take", () => {
    const question = { algorithm: "raft", seed: 7, klCoef: 0, learningRate: 2.5e-3 } as const;
    expect(smaller({ ...question, rolloutSize: 128, steps: 40, rewardPairs: 2048 })).toEqual({
      ...question,
      rolloutSize: 16,
      steps: 12,
      rewardPairs: 256,
    });
  });

  it("make nothing larger", () => {
    const poorJudge: Knobs = { ...defaultKnobs, rolloutSize: 8, steps: 3, rewardPairs: 64 };
    expect(smaller(poorJudge)).toEqual(poorJudge);
  });

  it("leave every knob that is not a size", () => {
    const largest: Knobs = { ...defaultKnobs };
    for (const { key, max } of numberSpecs) largest[key] = max;
    const small = smaller(largest);
    for (const { key, role, max } of numberSpecs) {
      if (role === "question") expect(small[key], key).toBe(max);
      else expect(small[key], key).toBeLessThan(max);
    }
  });
});
