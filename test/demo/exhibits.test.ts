import { describe, expect, it } from "vitest";
import { exhibitOf, exhibits, knobsOf } from "../../demo/src/playground/exhibits.ts";
import { defaultKnobs, knobsFromHash, knobsToHash } from "../../demo/src/playground/knobs.ts";

describe("the page's questions", () => {
  it("are known again by their knobs, in any size that does not make them another", () => {
    expect(exhibitOf(defaultKnobs)?.name).toBe("The ordinary case");
    for (const exhibit of exhibits) {
      const knobs = knobsFromHash(knobsToHash(knobsOf(exhibit)));
      expect(exhibitOf(knobs)).toBe(exhibit);
      expect(exhibitOf({ ...knobs, rolloutSize: 16, steps: 12, seed: 1 })).toBe(exhibit);
    }
  });

  it("are not those of other values", () => {
    expect(exhibitOf({ ...defaultKnobs, klCoef: 0.05 })).toBeNull();
    expect(exhibitOf({ ...defaultKnobs, learningRate: 2e-3 })).toBeNull();
    expect(exhibitOf({ ...defaultKnobs, rewardPairs: 64, klCoef: 0.05 })).toBeNull();
    expect(exhibitOf({ ...defaultKnobs, algorithm: "raft", klCoef: 0.05 })?.name).toBe("RAFT instead");
  });
});
