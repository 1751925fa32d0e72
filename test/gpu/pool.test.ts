import { beforeEach, describe, expect, it } from "vitest";
import { finish, mul, scope, tensor } from "webrlhf";
import { acquire, poolStats, release } from "../../src/gpu/pool.ts";
import { flush, trim } from "../../src/gpu/stream.ts";
import { gpuReady } from "../helpers.ts";

const MB = 1 << 20;

beforeEach(async () => {
  await gpuReady();
  await finish();
  trim();
});

const held = () => {
  flush();
  return poolStats().poolBytes;
};

/** A step that needs three buffers at once, and one of half their size after them; `length` of 1 is the longest. */
function step(length: number): void {
  const three = [1, 1, 1].map(() => acquire(length * MB, "test"));
  tensor(Float32Array.of(1)).free("the test"); // something to submit
  for (const view of three) release(view);
  release(acquire((length * MB) / 2, "test"));
}

describe("the pool", () => {
  it("gives the free buffer with the lowest id of those that fit, whatever came later", () => {
    const views = [1, 2, 1].map((size) => acquire(size * MB, "test"));
    for (const view of views.toReversed()) release(view);
    const again = [1, 1, 1].map(() => acquire(MB, "test"));
    expect(again).toEqual(views);
    const more = acquire(MB, "test");
    for (const view of [more, ...again]) release(view);
    expect([1, 2, 1].map((size) => acquire(size * MB, "test"))).toEqual(views);
    for (const view of views) release(view);
  });

  it("lends larger buffers, but not far larger ones, and small sizes keep to themselves", () => {
    const large = acquire(4 * MB, "test");
    release(large);
    const first = acquire(MB, "test");
    expect(first).toBe(large);
    release(first);
    const second = acquire(MB / 2, "test");
    expect(second).not.toBe(large);
    const small = acquire(20_000, "test");
    release(small);
    const smaller = acquire(9_000, "test");
    expect(smaller).not.toBe(small);
    for (const view of [second, smaller]) release(view);
  });

  it("holds for batches of all lengths what the longest takes", () => {
    const before = held();
    step(1);
    const longest = held() - before;
    trim();
    for (const length of [0.3, 0.41, 0.73, 0.55, 0.97, 0.36, 1, 0.62, 0.88, 1, 0.5]) step(length);
    expect(held() - before).toBeLessThanOrEqual(1.15 * longest);
    const { buffersCreated } = poolStats();
    for (const length of [0.9, 0.44, 1, 0.71]) step(length);
    expect(poolStats().buffersCreated).toBe(buffersCreated);
  });

  it("keeps a replaced buffer until what uses it has been submitted", async () => {
    const lengths = [100_000, 130_000, 170_000, 220_000, 300_000];
    const results = lengths.map((n) =>
      scope(() => {
        const x = tensor(new Float32Array(n).fill(n));
        return mul(mul(x, x), x); // the first product's buffer is free before the next length needs a larger one
      }),
    );
    for (const [i, n] of lengths.entries()) {
      const found = (await results[i].read()) as Float32Array;
      expect(found.every((value) => value === Math.fround(Math.fround(n * n) * n))).toBe(true);
      results[i].free("the test");
    }
  });
});
