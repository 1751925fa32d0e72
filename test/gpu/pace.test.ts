import { afterEach, describe, expect, it, vi } from "vitest";
import { Pace } from "../../src/gpu/pace.ts";

afterEach(() => vi.restoreAllMocks());

/** A GPU of so many operations a second, and a training loop that submits what its pace says and waits for each step. */
async function train(rate: number, steps: { work: number; compiling?: number }[], pace = new Pace()) {
  let milliseconds = 1000;
  vi.spyOn(performance, "now").mockImplementation(() => milliseconds);
  const sizes: number[][] = [];
  for (const { work, compiling = 0 } of steps) {
    const finish: { operations: number; resolve: () => void }[] = [];
    const submits: number[] = [];
    for (let left = work; left > 0; ) {
      const operations = Math.min(left, pace.budget);
      left -= operations;
      submits.push(operations);
      if (pace.curious)
        pace.submitted(operations, new Promise<void>((resolve) => finish.push({ operations, resolve })));
    }
    // JavaScript hears of all of them when it waits, in order.
    milliseconds += compiling + (work / rate) * 1000;
    for (const { resolve } of finish) resolve();
    await Promise.resolve();
    await Promise.resolve();
    sizes.push(submits);
  }
  return { pace, sizes };
}

describe("the pace of submits", () => {
  it.each([
    ["an H200", 30e12, 3e12],
    ["a laptop's GPU", 2e12, 2e11],
    ["a phone", 3e10, 3e9],
  ])("comes to about 100 ms on %s", async (_, rate, expected) => {
    const steps = Array.from({ length: 6 }, (_, i) => ({ work: rate / 4, compiling: i === 0 ? 3000 : 1 }));
    const { pace, sizes } = await train(rate, steps);
    expect(pace.budget / expected).toBeGreaterThan(0.9);
    expect(pace.budget / expected).toBeLessThan(1.01);
    expect(sizes[0][0]).toBeLessThanOrEqual(2e10); // before anything is known
  });

  it("learns from submits that say enough only, and stops asking", async () => {
    const few = Array.from({ length: 40 }, () => ({ work: 1e6, compiling: 10 })); // all wait and no work
    const { pace } = await train(1e12, few);
    expect([pace.budget, pace.curious]).toEqual([2e10, true]);
    await train(
      1e12,
      Array.from({ length: 1960 }, () => ({ work: 1e6, compiling: 10 })),
      pace,
    );
    expect(pace.curious).toBe(false);
    const { pace: other } = await train(
      1e12,
      Array.from({ length: 8 }, () => ({ work: 1e10 })),
    );
    expect(other.curious).toBe(false);
  });

  it("keeps what it knows when the device goes", async () => {
    const pace = new Pace();
    pace.submitted(1e12, Promise.reject(new Error("lost")));
    await new Promise((resolve) => setTimeout(resolve));
    expect(pace.budget).toBe(2e10);
  });
});
