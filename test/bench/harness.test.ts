import { describe, expect, it } from "vitest";
import { type Arm, type Case, difference, describe as lines, measure, median } from "../../bench/harness.ts";

const effort = { samples: 3, seconds: 1e-3 };

/** An arm that pretends to take `seconds` per repetition. */
function pretend(name: string, seconds: number, result: number[], log: string[] = []): Arm {
  return {
    name,
    time: async (times) => {
      log.push(name);
      return times * seconds;
    },
    result: async () => result,
  };
}

const caseOf = (unit: string, arms: Arm[], more: Partial<Case> = {}): Case => ({
  name: "case",
  unit,
  work: 2e6,
  tolerance: 1e-3,
  arms: async () => arms,
  ...more,
});

describe("bench harness", () => {
  it("turns seconds into the case's unit", async () => {
    const rate = await measure(caseOf("GFLOP/s", [pretend("a", 1e-3, [1])]), effort);
    expect(rate.arms[0].median).toBeCloseTo(2);
    expect((await measure(caseOf("tok/s", [pretend("a", 1, [1])], { work: 64 }), effort)).arms[0].median).toBeCloseTo(
      64,
    );
    expect((await measure(caseOf("ms", [pretend("a", 0.5, [1])]), effort)).arms[0].median).toBeCloseTo(500);
  });

  it("lets the arms take turns while it samples", async () => {
    const log: string[] = [];
    await measure(caseOf("ms", [pretend("a", 1, [1], log), pretend("b", 1, [1], log)]), effort);
    expect(log.slice(-6).join("")).toBe("ababab");
  });

  it("gives no figure to an arm with a wrong result", async () => {
    const arms = [pretend("right", 1, [1, 2]), pretend("wrong", 1, [1, 2.1]), pretend("nan", 1, [1, Number.NaN])];
    const result = await measure(caseOf("ms", arms), effort);
    expect(result.arms.map((arm) => arm.failed !== undefined)).toEqual([false, true, true]);
    expect(result.arms[1].median).toBeNaN();
    expect(lines(result)[2]).toContain("wrong result");
  });

  it("says how much faster the first arm is, whichever way the unit points", async () => {
    const fasterFirst = [pretend("a", 1, [1]), pretend("b", 3, [1])];
    for (const unit of ["ms", "GFLOP/s"]) {
      expect(lines(await measure(caseOf(unit, fasterFirst), effort))[1]).toContain("a is 3.00x as fast");
    }
  });

  it("takes medians and differences", () => {
    expect(median([3, 1, 2])).toBe(2);
    expect(median([4, 1, 2, 3])).toBe(2.5);
    expect(difference([1, 2], [1, 2])).toBe(0);
    expect(difference([1, 3], [1, 2])).toBeCloseTo(0.5);
    expect(difference([1], [1, 2])).toBe(Number.POSITIVE_INFINITY);
  });
});
