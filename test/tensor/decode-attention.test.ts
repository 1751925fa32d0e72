import { beforeAll, describe, expect, it } from "vitest";
import { caps, scope, type Tensor, tensor } from "webrlhf";
import { decodeAttention, fusesRotation } from "../../src/tensor/ops/decode-attention.ts";
import { cachedAttention } from "../../src/tensor/ops/kvcache.ts";
import { ropeIntoCache } from "../../src/tensor/ops/rope.ts";
import { expectClose, gpuReady } from "../helpers.ts";
import { values } from "./check.ts";

beforeAll(gpuReady);

const ids = (list: number[]): Tensor => tensor(Uint32Array.from(list));

describe("decodeAttention", () => {
  it.each([
    ["heads that share keys", { heads: 4, kvHeads: 2, headDim: 16, splits: 1 }],
    ["heads that share keys, in parts", { heads: 4, kvHeads: 2, headDim: 16, splits: 3 }],
    ["one head of keys, partly rotated", { heads: 3, kvHeads: 1, headDim: 24, pairs: 8, splits: 1 }],
    ["a window and a cap", { heads: 2, kvHeads: 2, headDim: 8, window: 5, softcap: 2, splits: 2 }],
  ])("is rope into the cache and attention to it: %s", async (_, { pairs, splits, ...shape }: Shape) => {
    const frequencies = Float32Array.from({ length: pairs ?? shape.headDim / 2 }, (_, i) => 0.9 / (i + 1));
    const options = { ...shape, frequencies };
    const width = (shape.heads + 2 * shape.kvHeads) * shape.headDim;
    const kept = shape.kvHeads * shape.headDim;
    const capacity = 140;
    const found = scope(() => {
      const qkv = tensor(values(6 * width, 5, 2), [6, width]);
      // Of the last two, one has left its slot and one stands beyond the cache.
      const [positions, lengths] = [ids([0, 3, 64, 130, 2, 140]), ids([1, 4, 65, 131, 3, 141])];
      const slots = ids([0, 1, 2, 3, 9, 5]);
      const caches = [1, 2, 1, 2].map((seed) => tensor(values(6 * capacity * kept, seed), [6, capacity, kept]));
      const rotated = ropeIntoCache(qkv, positions, options, { keys: caches[0], values: caches[1], slots });
      const apart = cachedAttention(rotated, caches[0], caches[1], lengths, { ...options, variant: "workgroup" });
      const places = { keys: caches[2], values: caches[3], slots };
      const together = decodeAttention(qkv, positions, lengths, places, { ...options, splits });
      return [apart, together, ...caches];
    });
    const [apart, together, keys, stored, keysToo, storedToo] = await Promise.all(found.map((t) => t.read()));
    expectClose(together, apart, 2e-6, 1e-6);
    expectClose(keysToo, keys, 1e-6, 1e-7);
    expect(storedToo).toEqual(stored);
    for (const t of found) t.free("test");
  });

  it("is for GPUs, and refuses what does not fit", () => {
    scope(() => {
      const qkv = tensor(values(24, 1), [2, 12]);
      expect(fusesRotation(qkv, { heads: 1, kvHeads: 1, headDim: 8 })).toBe(caps().kind !== "cpu");
      expect(fusesRotation(qkv, { heads: 1, kvHeads: 1, headDim: 4 })).toBe(false);
      const cache = () => tensor(new Float32Array(16), [2, 2, 4]);
      const places = { keys: cache(), values: cache(), slots: ids([0, 1]) };
      const run = (headDim: number, lengths: number[]) => () =>
        decodeAttention(qkv, ids([0, 0]), ids(lengths), places, { heads: 1, kvHeads: 1, headDim });
      expect(run(4, [1, 1])).toThrow("2 pairs of columns are not a multiple of 4");
      expect(run(8, [1, 1])).toThrow("decodeAttention: qkv must be");
    });
  });
});

interface Shape {
  heads: number;
  kvHeads: number;
  headDim: number;
  pairs?: number;
  splits: number;
  window?: number;
  softcap?: number;
}
