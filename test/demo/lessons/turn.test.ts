import { describe, expect, it } from "vitest";
import { turnOf } from "../../../demo/src/lessons/over-optimisation/turn.ts";

/** Numbers of mean 0 and deviation 1, the same each time. */
function noise(count: number, seed: number): number[] {
  let state = seed * 7919;
  const uniform = () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return (((mixed ^ (mixed >>> 14)) >>> 0) + 0.5) / 2 ** 32;
  };
  return Array.from({ length: count }, () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform()));
}

describe("the turn of the truth", () => {
  it("is the fall from the best look, paired by prompt", () => {
    const own = noise(128, 1);
    const at = (step: number, height: number) => ({ step, gold: own.map((x) => 10 * x + height) });
    const { peakStep, drop, error } = turnOf([at(0, 0), at(3, 1.5), at(6, 0.5)]);
    expect(peakStep).toBe(3);
    expect(drop).toBeCloseTo(1, 9);
    expect(error).toBeCloseTo(0, 9); // the prompts differ ten times as much, and drop out
  });

  it("is not made by looking often: where nothing changes it is told as rarely as two standard errors say", () => {
    const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;
    const told = { halved: 0, naive: 0 };
    const trials = 1000;
    for (let trial = 0; trial < trials; trial++) {
      const looks = Array.from({ length: 11 }, (_, i) => ({ step: i, gold: noise(128, 20 * trial + i + 1) }));
      const { drop, error } = turnOf(looks);
      told.halved += Number(drop > 2 * error);
      // The best mean less the last one is mostly luck, which the halves must not see.
      const means = looks.map(({ gold }) => mean(gold));
      told.naive += Number(Math.max(...means) - means[10] > 2 * Math.sqrt(2 / 128));
    }
    expect(told.halved / trials).toBeLessThan(0.05);
    expect(told.naive).toBeGreaterThan(2 * told.halved);
  });
});
