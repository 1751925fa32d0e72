/** A GPU's attention to a cache, on whatever adapter there is. Only in Node: SwiftShader takes minutes. */
import fc from "fast-check";
import { beforeAll, describe, expect, it } from "vitest";
import { type Caps, caps, scope, type Tensor, tensor } from "webrlhf";
import { cacheShares } from "../../src/gpu/variants.ts";
import { decodeAttention, fusesRotation } from "../../src/tensor/ops/decode-attention.ts";
import { cachedAttention } from "../../src/tensor/ops/kvcache.ts";
import { ropeIntoCache } from "../../src/tensor/ops/rope.ts";
import { expectClose, gpuReady } from "../helpers.ts";
import { type Case, expected } from "../tensor/cache-reference.ts";
import { values } from "../tensor/check.ts";

beforeAll(gpuReady);

// Seconds of work to compile each kernel; on a busy machine that takes minutes.
const patience = 600_000;

// Most kernels are left to runs of a GPU's kernels.
const everything = globalThis.process.env.WEBRLHF_ADAPTER_KIND === "hardware";

const ids = (list: readonly number[]): Tensor => tensor(Uint32Array.from(list));

async function check(c: Case, seed: number): Promise<void> {
  const slots = Math.max(c.lengths.length, ...(c.slots ?? []).map((slot) => slot + 1));
  const shape = [slots, c.capacity, c.kvHeads * c.headDim];
  const size = shape.reduce((x, y) => x * y);
  const [keys, stored] = [values(size, seed + 1), values(size, seed + 2)];
  const width = (c.heads + 2 * c.kvHeads) * c.headDim;
  const qkv = values(c.lengths.length * width, seed, 3);
  const out = scope(() =>
    cachedAttention(
      tensor(qkv, [c.lengths.length, width]),
      tensor(keys, shape),
      tensor(stored, shape),
      ids(c.lengths),
      { ...c, slots: c.slots && ids(c.slots), variant: "workgroup" },
    ),
  );
  expectClose(await out.read(), expected(c, qkv, keys, stored), 4e-6, 1e-6, JSON.stringify(c));
  out.free("test");
}

/** Heads, KV heads, and how many on one of these a workgroup has. Each is a kernel of its own. */
const groups: [heads: number, kvHeads: number, headsTogether: number][] = [
  [2, 2, 1],
  [9, 3, 3],
  [7, 1, 7],
  [16, 2, 8],
  [10, 1, 5],
];

describe("a GPU's attention to a cache", { timeout: patience }, () => {
  const lengths = fc.array(fc.constantFrom(0, 1, 2, 63, 64, 65, 127, 129, 200, 301), { minLength: 1, maxLength: 4 });
  const some = everything ? groups : groups.slice(0, 2);

  it("equals float64 on random rows, in 1 to many parts", async () => {
    const splits = fc.constantFrom(undefined, 1, 2, 3, 7, 64);
    await fc.assert(
      fc.asyncProperty(lengths, fc.constantFrom(...some), splits, fc.nat(1000), async (list, group, parts, seed) => {
        const [heads, kvHeads, headsTogether] = group;
        await check({ lengths: list, capacity: 300, heads, kvHeads, headsTogether, headDim: 8, splits: parts }, seed);
      }),
      { numRuns: everything ? 30 : 8, seed: 1 },
    );
  });

  it("equals float64 with a window, a cap and slots of rows", async () => {
    const window = fc.constantFrom(1, 2, 64, 65, 150);
    await fc.assert(
      fc.asyncProperty(lengths, window, fc.constantFrom(1, 3), fc.nat(1000), async (list, seen, splits, seed) => {
        const limits = { window: seen, softcap: 1.5, scale: 1, splits };
        const slots = list.map((_, b) => (b * 3 + 1) % 5);
        await check(
          { lengths: list, capacity: 301, heads: 4, kvHeads: 2, headsTogether: 2, headDim: 20, slots, ...limits },
          seed,
        );
      }),
      { numRuns: everything ? 20 : 6, seed: 1 },
    );
  });
});

describe("the shares of attention to a cache", () => {
  const gpu = (saturating?: number): Caps => ({ ...caps(), kind: "hardware", saturating });

  it("split keys to keep a GPU busy, where that pays for joining the parts", () => {
    expect(cacheShares(gpu(256), 9, 3, 193)).toEqual({ heads: 3, parts: 4 });
    expect(cacheShares(gpu(256), 9, 3, 100_000)).toEqual({ heads: 3, parts: 64 });
    expect(cacheShares(gpu(), 9, 3, 2048)).toEqual({ heads: 3, parts: 32 });
    expect(cacheShares(gpu(24), 9, 3, 2048)).toEqual({ heads: 3, parts: 16 });
    expect(cacheShares(gpu(24), 16 * 9, 3, 2048)).toEqual({ heads: 3, parts: 1 });
  });

  it("have as few heads as keep a GPU busy with whole rows", () => {
    expect(cacheShares(gpu(256), 9, 3, 192)).toEqual({ heads: 1, parts: 1 }); // three tiles
    expect(cacheShares(gpu(256), 64 * 16, 4, 128)).toEqual({ heads: 4, parts: 1 });
    expect(cacheShares(gpu(256), 32 * 16, 4, 128)).toEqual({ heads: 2, parts: 1 });
    expect(cacheShares(gpu(256), 100 * 20, 10, 128)).toEqual({ heads: 5, parts: 1 });
  });
});

describe.runIf(everything)("a GPU's attention to a cache at the widths of real heads", { timeout: patience }, () => {
  it.each([32, 64, 96, 128, 256])("equals float64 at head dimension %d", async (headDim) => {
    for (const splits of [1, 4]) {
      await check(
        { lengths: [0, 1, 77, 230], capacity: 230, heads: 6, kvHeads: 2, headsTogether: 3, headDim, splits },
        headDim,
      );
    }
  });

  it.each([64, 128])("turns and keeps its own key at head dimension %d as rope does", async (headDim) => {
    const shape = { heads: 6, kvHeads: 2, headsTogether: 3, headDim };
    const [rows, capacity] = [3, 210];
    const width = 10 * headDim;
    const size = rows * capacity * 2 * headDim;
    for (const splits of [1, 3]) {
      const found = scope(() => {
        const qkv = tensor(values(rows * width, 1, 2), [rows, width]);
        const caches = [2, 3, 2, 3].map((seed) => tensor(values(size, seed), [rows, capacity, 2 * headDim]));
        const [positions, lengths, slots] = [ids([0, 64, 209]), ids([1, 65, 210]), ids([0, 1, 2])];
        const places = { keys: caches[0], values: caches[1], slots };
        const together = decodeAttention(qkv, positions, lengths, places, { ...shape, splits });
        const turned = ropeIntoCache(qkv, positions, shape, { keys: caches[2], values: caches[3], slots });
        const like = { ...shape, variant: "workgroup", splits: 1 } as const;
        return [together, cachedAttention(turned, caches[2], caches[3], lengths, like), caches[0], caches[2]];
      });
      const [together, apart, keys, keysToo] = await Promise.all(found.map((t) => t.read()));
      expectClose(together, apart, 4e-6, 1e-6);
      expectClose(keys, keysToo, 1e-6, 1e-7);
      for (const t of found) t.free("test");
    }
  });

  it("gives way where the adapter computes it wrong", () => {
    const before = caps().unsound;
    try {
      scope(() => {
        const qkv = tensor(values(24, 1), [1, 24]);
        expect(fusesRotation(qkv, { heads: 1, kvHeads: 1, headDim: 8 })).toBe(true);
        caps().unsound = ["cached attention"];
        expect(fusesRotation(qkv, { heads: 1, kvHeads: 1, headDim: 8 })).toBe(false);
      });
    } finally {
      caps().unsound = before;
    }
  });
});
