import { beforeAll, describe, expect, it } from "vitest";
import { caps, scope, type Tensor, tensor } from "webrlhf";
import { decodeAttention, fusesRotation } from "../../src/tensor/ops/decode-attention.ts";
import { cachedAttention } from "../../src/tensor/ops/kvcache.ts";
import { ropeIntoCache } from "../../src/tensor/ops/rope.ts";
import { expectClose, gpuReady } from "../helpers.ts";
import { decodingRows, decodingShapes } from "./cache-reference.ts";
import { values } from "./check.ts";

beforeAll(gpuReady);

const ids = (list: number[]): Tensor => tensor(Uint32Array.from(list));

describe("decodeAttention", () => {
  it.each(decodingShapes)("is rope into the cache and attention to it: %s", async (_, given) => {
    const { splits, kvHeads, headDim } = given;
    const kept = kvHeads * headDim;
    const found = scope(() => {
      const { options, capacity, qkv, positions, lengths, slots } = decodingRows(given);
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
