import { describe, expect, it } from "vitest";
import {
  normal,
  permutation,
  philox,
  RandomStream,
  randomInt,
  streamId,
  uint32,
  uniform,
} from "../../src/runtime/rng.ts";

const hex = (words: Uint32Array) => [...words].map((w) => w.toString(16).padStart(8, "0")).join(" ");

describe("philox4x32-10", () => {
  // The known answers published with the generator (Random123, kat_vectors).
  it.each([
    [[0, 0], [0, 0, 0, 0], "6627e8d5 e169c58d bc57ac4c 9b00dbd8"],
    [[0xffffffff, 0xffffffff], [0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff], "408f276d 41c83b0e a20bc7c6 6d5451fd"],
    [[0xa4093822, 0x299f31d0], [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344], "d16cfe09 94fdcceb 5001e420 24126ea1"],
  ])("matches the published vectors", (key, counter, expected) => {
    const [c0, c1, c2, c3] = counter;
    expect(hex(philox(key[0], key[1], c0, c1, c2, c3))).toBe(expected);
  });

  it("uses the seed's high word and every counter", () => {
    const base = uint32(7, 1, 2, 3, 4);
    const others = [
      uint32(7 + 2 ** 32, 1, 2, 3, 4),
      uint32(8, 1, 2, 3, 4),
      uint32(7, 0, 2, 3, 4),
      uint32(7, 1, 0, 3, 4),
      uint32(7, 1, 2, 0, 4),
      uint32(7, 1, 2, 3, 0),
    ];
    expect(new Set([base, ...others]).size).toBe(7);
  });
});

describe("distributions", () => {
  const n = 20000;

  it("uniform has the moments of [0, 1)", () => {
    let sum = 0;
    let squares = 0;
    let inside = true;
    for (let i = 0; i < n; i++) {
      const u = uniform(3, i, 9);
      inside &&= u >= 0 && u < 1;
      sum += u;
      squares += u * u;
    }
    expect(inside).toBe(true);
    expect(Math.abs(sum / n - 0.5)).toBeLessThan(0.008);
    expect(Math.abs(squares / n - 1 / 3)).toBeLessThan(0.008);
  });

  it("normal has the moments and tails of N(0, 1)", () => {
    const moments = [0, 0, 0, 0];
    let beyond2 = 0;
    for (let i = 0; i < n; i++) {
      const x = normal(11, i);
      for (let k = 0; k < 4; k++) moments[k] += x ** (k + 1) / n;
      if (Math.abs(x) > 2) beyond2++;
    }
    expect(Math.abs(moments[0])).toBeLessThan(0.03);
    expect(Math.abs(moments[1] - 1)).toBeLessThan(0.04);
    expect(Math.abs(moments[2])).toBeLessThan(0.1);
    expect(Math.abs(moments[3] - 3)).toBeLessThan(0.25);
    expect(Math.abs(beyond2 / n - 0.0455)).toBeLessThan(0.006);
  });

  it("randomInt reaches every value and stays below n, also for n beyond 2^21", () => {
    const seen = new Set<number>();
    for (let i = 0; i < 200; i++) seen.add(randomInt(7, 5, i));
    expect([...seen].sort()).toEqual([0, 1, 2, 3, 4, 5, 6]);
    for (let i = 0; i < 200; i++) expect(randomInt(2 ** 32 - 1, 5, i)).toBeLessThan(2 ** 32 - 1);
  });
});

describe("permutation", () => {
  it("is a permutation, depends on seed and stream, and repeats", () => {
    const a = permutation(500, 1);
    expect([...a].sort((x, y) => x - y)).toEqual(Array.from({ length: 500 }, (_, i) => i));
    expect(permutation(500, 1)).toEqual(a);
    expect(permutation(500, 2)).not.toEqual(a);
    expect(permutation(500, 1, 1)).not.toEqual(a);
    expect(permutation(0, 1).length).toBe(0);
    expect([...permutation(1, 1)]).toEqual([0]);
  });

  it("puts each value at each place equally often", () => {
    const counts = Array.from({ length: 4 }, () => [0, 0, 0, 0]);
    for (let s = 0; s < 4000; s++) {
      const order = permutation(4, s);
      for (let i = 0; i < 4; i++) counts[i][order[i]]++;
    }
    for (const row of counts) for (const c of row) expect(Math.abs(c - 1000)).toBeLessThan(130);
  });
});

it("RandomStream draws (seed, position, counters)", () => {
  const stream = new RandomStream(42, 1, 2);
  expect([stream.uint32(), stream.uint32()]).toEqual([uint32(42, 0, 1, 2), uint32(42, 1, 1, 2)]);
  expect(["a", "b"]).toContain(stream.pick(["a", "b"]));
  expect(stream.chance(0)).toBe(false);
  expect(stream.chance(1)).toBe(true);
});

// Recorded once; a different runtime must reproduce every bit.
it("is the same in every runtime", () => {
  expect(uint32(1234567890123, 1, 2, 3, 4)).toBe(GOLDEN.u32);
  expect(normal(0, 3)).toBe(GOLDEN.normal);
  expect(normalTail()).toBe(GOLDEN.tail);
  expect([...permutation(8, 99)]).toEqual(GOLDEN.permutation);
  expect(streamId("a")).toBe(0xe40c292c);
});

/** The most extreme of a thousand draws, which goes through the logarithm of the tails. */
function normalTail(): number {
  let most = 0;
  for (let i = 0; i < 1000; i++) most = Math.min(most, normal(5, i));
  return most;
}

const GOLDEN = {
  u32: 2979681450,
  normal: 0.7973212897105408,
  tail: -3.5247722636059504,
  permutation: [2, 7, 3, 6, 5, 4, 0, 1],
};
