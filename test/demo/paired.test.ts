import { describe, expect, it } from "vitest";
import { changesOf, direction, pairedChange } from "../../demo/src/playground/paired.ts";

describe("the change on the same prompts", () => {
  it("has the error of the differences, not of the values", () => {
    const before = [0, 10, 20, 30];
    const { mean, error } = pairedChange(before, [1, 12, 21, 32]);
    expect(mean).toBe(1.5);
    expect(error).toBeCloseTo(Math.sqrt(1 / 3) / 2, 12); // differences 1, 2, 1, 2
    expect(pairedChange(before, before)).toEqual({ mean: 0, error: 0 });
  });

  it("is told from nothing by more than two standard errors", () => {
    expect(direction({ mean: 1, error: 0.4 })).toBe("up");
    expect(direction({ mean: -1, error: 0.4 })).toBe("down");
    expect(direction({ mean: 1, error: 0.5 })).toBe("unknown");
    expect(direction({ mean: -1, error: 0.5 })).toBe("unknown");
    expect(direction({ mean: Number.NaN, error: 0 })).toBe("unknown");
  });

  it("tells nothing from a single prompt", () => {
    expect(direction(pairedChange([0], [5]))).toBe("unknown");
  });

  it("is measured for both rewards", () => {
    const at = (reward: number, gold: number) => ({ prompt: "", response: "", reward, gold });
    expect(changesOf([at(1, 5), at(2, 5)], [at(2, 3), at(3, 5)])).toEqual({
      reward_change: 1,
      reward_change_error: 0,
      gold_change: -1,
      gold_change_error: 1,
    });
  });
});
