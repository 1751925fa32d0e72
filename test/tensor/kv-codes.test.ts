/** Caches of keys and values in 8 bits: what is kept of them, and that all kernels read the same. */
import fc from "fast-check";
import { beforeAll, describe, expect, it } from "vitest";
import { caps, rope, scope, type Tensor, tensor } from "webrlhf";
import { empty } from "../../src/tensor/core.ts";
import { decodeAttention } from "../../src/tensor/ops/decode-attention.ts";
import { cachedAttention, cacheWidth, kvCacheFork, kvCacheWrite } from "../../src/tensor/ops/kvcache.ts";
import { ropeIntoCache } from "../../src/tensor/ops/rope.ts";
import { expectClose, gpuReady } from "../helpers.ts";
import { type Case, decodingRows, decodingShapes, expected } from "./cache-reference.ts";
import { halves, values } from "./check.ts";

beforeAll(gpuReady);

const ids = (list: readonly number[]): Tensor => tensor(Uint32Array.from(list));
type Heads = { kvHeads: number; headDim: number };

/** A cache in codes that holds rubbish. */
const coded = (slots: number, capacity: number, heads: Heads): Tensor => {
  const width = cacheWidth("u32", heads);
  return tensor(
    Uint32Array.from({ length: slots * capacity * width }, (_, i) => (i * 2654435761) >>> 0),
    [slots, capacity, width],
  );
};

/** The numbers that words stand for, in float64, and the scales of the heads. */
function decoded(words: Uint32Array, { headDim }: Heads): { numbers: Float64Array; scales: Float32Array } {
  const each = headDim / 4 + 1;
  const heads = words.length / each;
  const floats = new Float32Array(words.buffer, words.byteOffset, words.length);
  const codes = new Int8Array(words.buffer, words.byteOffset, 4 * words.length);
  const scales = Float32Array.from({ length: heads }, (_, h) => floats[(h + 1) * each - 1]);
  const numbers = Float64Array.from({ length: heads * headDim }, (_, i) => {
    const head = Math.floor(i / headDim);
    return codes[4 * head * each + (i % headDim)] * scales[head];
  });
  return { numbers, scales };
}

/** Writes random keys and values for every position of every slot; gives them, and what is kept of them. */
async function filled(slots: number, capacity: number, heads: Heads, seed: number) {
  const rows = slots * capacity;
  const { kvHeads, headDim } = heads;
  const width = 3 * kvHeads * headDim;
  const x = values(rows * width, seed, 2);
  const [keys, stored] = scope(() => {
    const caches = [coded(slots, capacity, heads), coded(slots, capacity, heads)];
    const every = Array.from({ length: rows }, (_, i) => i);
    const [slotOf, place] = [ids(every.map((i) => Math.floor(i / capacity))), ids(every.map((i) => i % capacity))];
    kvCacheWrite(tensor(x, [rows, width]), caches[0], caches[1], slotOf, place, { ...heads, heads: kvHeads });
    return caches;
  });
  const part = (n: number) =>
    Float32Array.from({ length: (rows * width) / 3 }, (_, i) => {
      const row = Math.floor((3 * i) / width);
      return x[row * width + (n * width) / 3 + (i % (width / 3))];
    });
  const kept = await Promise.all([keys, stored].map(async (t) => decoded(await t.readIds(), heads)));
  return { tensors: [keys, stored] as const, given: [part(1), part(2)] as const, kept };
}

/** The kernel for CPUs, and that for GPUs with whole rows and with rows in parts. */
const kernels = [
  { variant: "serial" },
  { variant: "workgroup", splits: 1 },
  { variant: "workgroup", splits: 3 },
] as const;

/** How far attention to what is kept may be from attention to what was given, of a row whose scores are not capped. */
function bound(c: Case, qkv: Float32Array, scales: readonly Float32Array[], largest: number): number {
  const width = (c.heads + 2 * c.kvHeads) * c.headDim;
  const most = (all: ArrayLike<number>) => Array.from(all).reduce((a, b) => Math.max(a, Math.abs(b)), 0);
  let sizes = 0;
  for (let i = 0; i < qkv.length; i += c.headDim) {
    if (i % width < c.heads * c.headDim) {
      sizes = Math.max(
        sizes,
        qkv.subarray(i, i + c.headDim).reduce((a, b) => a + Math.abs(b), 0),
      );
    }
  }
  // A score is off by so much, a weight by its exponential, a value by half a step.
  const score = ((sizes * most(scales[0])) / 2) * (c.scale ?? 1 / Math.sqrt(c.headDim));
  return Math.expm1(2 * score) * largest + most(scales[1]) / 2;
}

async function check(c: Case, kernel: (typeof kernels)[number], seed: number): Promise<void> {
  const slots = Math.max(c.lengths.length, ...(c.slots ?? []).map((slot) => slot + 1));
  const { tensors, given, kept } = await filled(slots, c.capacity, c, seed);
  const width = (c.heads + 2 * c.kvHeads) * c.headDim;
  const qkv = values(c.lengths.length * width, seed + 1, 0.5);
  const out = scope(() =>
    cachedAttention(tensor(qkv, [c.lengths.length, width]), ...tensors, ids(c.lengths), {
      ...c,
      ...kernel,
      slots: c.slots && ids(c.slots),
    }),
  );
  const got = await out.read();
  const label = JSON.stringify({ ...c, ...kernel });
  expectClose(got, expected(c, qkv, kept[0].numbers, kept[1].numbers), 4e-6, 1e-6, label);
  const plain = expected(c, qkv, given[0], given[1]);
  const most = bound(c, qkv, [kept[0].scales, kept[1].scales], 2);
  plain.forEach((x, i) => {
    expect(Math.abs(x - got[i]), label).toBeLessThanOrEqual(most + 1e-5);
  });
  for (const t of [out, ...tensors]) t.free("test");
}

describe("a cache in 8 bits", () => {
  it("keeps every number within half a step of its head, and the largest as it is", async () => {
    const shape = fc.record({ kvHeads: fc.integer({ min: 1, max: 3 }), headDim: fc.constantFrom(4, 12, 20, 64) });
    await fc.assert(
      fc.asyncProperty(shape, fc.nat(99), async (heads, seed) => {
        const { tensors, given, kept } = await filled(2, 3, heads, seed);
        for (const [i, { numbers, scales }] of kept.entries()) {
          scales.forEach((scale, h) => {
            const own = given[i].subarray(h * heads.headDim, (h + 1) * heads.headDim);
            const largest = own.reduce((a, b) => Math.max(a, Math.abs(b)), 0);
            expect(Math.abs(scale - largest / 127)).toBeLessThanOrEqual(2e-7 * scale);
            own.forEach((x, d) => {
              const off = Math.abs(numbers[h * heads.headDim + d] - x);
              expect(off).toBeLessThanOrEqual((Math.abs(x) === largest ? 1e-4 : 0.5001) * scale);
            });
          });
        }
        for (const t of tensors) t.free("test");
      }),
      { numRuns: 12, seed: 1 },
    );
  });

  it("takes a seventeenth more than a byte for a number at heads of 64", () => {
    expect(4 * cacheWidth("u32", { kvHeads: 3, headDim: 64 })).toBe(3 * 68);
    expect(4 * cacheWidth("f32", { kvHeads: 3, headDim: 64 })).toBe(3 * 256);
  });

  it("is read as it is written, by all kernels: random lengths, heads that share keys, odd widths", async () => {
    const lengths = fc.array(fc.constantFrom(0, 1, 2, 3, 8, 31, 63, 64, 65, 130), { minLength: 1, maxLength: 4 });
    const shape = fc.constantFrom(
      { heads: 2, kvHeads: 2, headDim: 8 },
      { heads: 4, kvHeads: 2, headDim: 20 },
      { heads: 3, kvHeads: 1, headDim: 8 },
    );
    await fc.assert(
      fc.asyncProperty(lengths, shape, fc.nat(99), async (list, heads, seed) => {
        for (const kernel of kernels) await check({ lengths: list, capacity: 131, ...heads }, kernel, seed);
      }),
      { numRuns: 6, seed: 1 },
    );
  });

  it("slides, caps, and lets rows share a slot", async () => {
    for (const kernel of kernels) {
      for (const window of [5, 66]) {
        const lengths = [1, 5, 6, 66, 67, 130];
        const more = { window, softcap: 2, slots: [0, 1, 1, 3, 2, 2] };
        await check({ lengths, capacity: 130, heads: 4, kvHeads: 2, headDim: 8, ...more }, kernel, 7);
      }
    }
  });

  it.each([24, 128, 256])("has heads of dimension %d", async (headDim) => {
    await check({ lengths: [5, 70], capacity: 70, heads: 2, kvHeads: 1, headDim }, kernels[0], headDim);
  });

  it("drops rows outside, and copies the first tokens of a slot to others", async () => {
    const heads = { kvHeads: 1, headDim: 4 };
    const found = scope(() => {
      const x = tensor(values(5 * 12, 1), [5, 12]);
      const caches = [coded(3, 2, heads), coded(3, 2, heads)] as const;
      const before = coded(3, 2, heads);
      kvCacheWrite(x, ...caches, ids([1, 0, 3, 0, 1]), ids([0, 0, 0, 2, 1]), { heads: 1, ...heads });
      const forked = [coded(3, 2, heads), coded(3, 2, heads)] as const;
      kvCacheWrite(x, ...forked, ids([1, 0, 3, 0, 1]), ids([0, 0, 0, 2, 1]), { heads: 1, ...heads });
      kvCacheFork(...forked, ids([1, 1]), ids([0, 2]), ids([2, 1]));
      return [before, ...caches, ...forked];
    });
    const [before, ...rest] = await Promise.all(found.map((t) => t.readIds()));
    const place = (words: Uint32Array, slot: number, position: number) => [
      ...words.subarray((slot * 2 + position) * 2, (slot * 2 + position + 1) * 2),
    ];
    for (const [i, words] of rest.slice(0, 2).entries()) {
      for (const [slot, position] of [
        [0, 1],
        [2, 0],
        [2, 1],
      ]) {
        expect(place(words, slot, position)).toEqual(place(before, slot, position));
      }
      expect(place(words, 1, 0)).not.toEqual(place(before, 1, 0));
      const copy = rest[2 + i];
      expect([0, 1].map((p) => place(copy, 0, p))).toEqual([0, 1].map((p) => place(words, 1, p)));
      expect(place(copy, 2, 0)).toEqual(place(words, 1, 0));
      expect(place(copy, 2, 1)).toEqual(place(before, 2, 1));
    }
    for (const t of found) t.free("test");
  });

  it("holds zeros, tiny numbers, and heads that are not finite", async () => {
    const { NaN: nan, POSITIVE_INFINITY: inf } = Number;
    // Keys of the five positions; all values are 2, and so are queries.
    const keys = [
      [0, 0, 0, 0],
      [1e-39, -1e-40, 0, 0],
      [1e-30, 2e-30, 0, 0],
      [nan, 1, 0, 0],
      [inf, 1, 0, 0],
    ];
    const two = [2, 2, 2, 2];
    const x = Float32Array.from(keys.flatMap((key) => [...two, ...key, ...two]));
    for (const kernel of kernels) {
      const out = scope(() => {
        const heads = { heads: 1, kvHeads: 1, headDim: 4 };
        const caches = [coded(5, 1, heads), coded(5, 1, heads)] as const;
        const rows = tensor(x, [5, 12]);
        kvCacheWrite(rows, ...caches, ids([0, 1, 2, 3, 4]), ids([0, 0, 0, 0, 0]), heads);
        return cachedAttention(rows, ...caches, ids([1, 1, 1, 1, 1]), { ...heads, ...kernel });
      });
      const first = (await out.read()).filter((_, i) => i % 4 === 0);
      expect([...first].slice(0, 3).map((v) => Math.abs(v - 2) < 1e-6)).toEqual([true, true, true]);
      expect([...first].slice(3)).toEqual([nan, nan]);
      out.free("test");
    }
  });

  it.each([
    ["whole heads", 32, 16, 5],
    ["a part of each head", 32, 8, 5],
    ["a part of each head, column by column", 20, 5, 5],
    ["many rows", 32, 16, 9],
  ])("is written with the rotation as after it, bit for bit: %s", async (_, headDim, half, rows) => {
    const heads = { heads: 3, kvHeads: 1, headDim };
    const frequencies = Float32Array.from({ length: half }, (_, i) => 0.9 / (i + 1));
    const found = scope(() => {
      const x = tensor(values(rows * 5 * headDim, 7), [rows, 5 * headDim]);
      const positions = ids([0, 3, 2, 4, 1, 0, 1, 2, 3].slice(0, rows)); // the fourth lies beyond the cache
      const slots = ids([0, 2, 1, 1, 7, 1, 1, 0, 0].slice(0, rows)); // and the fifth one's slot
      const caches = [0, 1, 2, 3].map(() => coded(3, 4, heads));
      const apart = rope(x, positions, { ...heads, frequencies });
      kvCacheWrite(apart, caches[0], caches[1], slots, positions, heads);
      const cache = { keys: caches[2], values: caches[3], slots };
      return [apart, ropeIntoCache(x, positions, { ...heads, frequencies }, cache), ...caches];
    });
    const [apart, together] = await Promise.all(found.slice(0, 2).map((t) => t.read()));
    const [keys, stored, keysToo, storedToo] = await Promise.all(found.slice(2).map((t) => t.readIds()));
    expect(together).toEqual(apart);
    expect(keysToo).toEqual(keys);
    expect(storedToo).toEqual(stored);
    expect(keys).not.toEqual(stored);
    for (const t of found) t.free("test");
  });

  it.each(decodingShapes)("is turned into and read in one by GPUs: %s", async (_, given) => {
    const { pairs: __, splits, ...shape } = given;
    const found = scope(() => {
      const { options, width, capacity, qkv, positions, lengths, slots } = decodingRows(given);
      const cache = () => empty([6, capacity, cacheWidth("u32", shape)], "u32");
      const [keys, stored, keysToo, storedToo] = [cache(), cache(), cache(), cache()];
      const every = Array.from({ length: 6 * capacity }, (_, i) => i);
      const [slotOf, place] = [ids(every.map((i) => Math.floor(i / capacity))), ids(every.map((i) => i % capacity))];
      const filling = tensor(values(6 * capacity * width, 3), [6 * capacity, width]);
      for (const caches of [[keys, stored] as const, [keysToo, storedToo] as const]) {
        kvCacheWrite(filling, ...caches, slotOf, place, shape);
      }
      const rotated = ropeIntoCache(qkv, positions, options, { keys, values: stored, slots });
      const apart = cachedAttention(rotated, keys, stored, lengths, { ...options, variant: "workgroup" });
      const places = { keys: keysToo, values: storedToo, slots };
      const together = decodeAttention(qkv, positions, lengths, places, { ...options, splits });
      return [apart, together, keys, keysToo, stored, storedToo];
    });
    const [apart, together] = await Promise.all(found.slice(0, 2).map((t) => t.read()));
    const words = await Promise.all(found.slice(2).map((t) => t.readIds()));
    expectClose(together, apart, 2e-3, 1e-4); // a key may round to the next code
    const [keys, keysToo, stored, storedToo] = words.map((w) => decoded(w, shape));
    keys.numbers.forEach((x, i) => {
      const step = keys.scales[Math.floor(i / shape.headDim)];
      expect(Math.abs(keysToo.numbers[i] - x)).toBeLessThanOrEqual(1.001 * step);
    });
    expect(storedToo).toEqual(stored);
    for (const t of found) t.free("test");
  });

  it("refuses heads that do not fit, and a writer that does not say which they are", () => {
    scope(() => {
      const heads = { heads: 1, kvHeads: 1, headDim: 8 };
      const qkv = () => tensor(new Float32Array(24), [1, 24]);
      const cache = (headDim: number) => coded(1, 1, { kvHeads: 1, headDim });
      const write = (headDim: number, options?: typeof heads) => () =>
        kvCacheWrite(qkv(), cache(headDim), cache(headDim), ids([0]), ids([0]), options);
      expect(write(8)).toThrow("needs to know the heads");
      expect(write(4, heads)).toThrow("the cache 3 wide");
      expect(write(8, heads)).not.toThrow();
      expect(() => cachedAttention(qkv(), cache(4), cache(4), ids([1]), heads)).toThrow("the cache 3 wide");
    });
  });
});

describe("a cache in f16 of rows in f32", () => {
  it("is written rounded, alone and with the rotation, and read in f32", async ({ skip }) => {
    if (!caps().f16) return skip("no shader-f16");
    const heads = { heads: 2, kvHeads: 1, headDim: 8 };
    const x = values(3 * 32, 4);
    const found = scope(() => {
      const caches = [0, 1, 2, 3].map(() => tensor(new Float32Array(3 * 8), [1, 3, 8], "f16"));
      const [slots, positions] = [ids([0, 0, 0]), ids([0, 1, 2])];
      const rotated = rope(tensor(x, [3, 32]), positions, heads);
      kvCacheWrite(rotated, caches[0], caches[1], slots, positions, heads);
      ropeIntoCache(tensor(x, [3, 32]), positions, heads, { keys: caches[2], values: caches[3], slots });
      const attended = cachedAttention(rotated, caches[0], caches[1], ids([3, 3, 3]), { ...heads, slots });
      return [rotated, attended, ...caches];
    });
    const [rotated, attended, ...caches] = await Promise.all(found.map((t) => t.read()));
    const part = (from: number) => rotated.filter((_, i) => i % 32 >= from && i % 32 < from + 8);
    expect(caches[0]).toEqual(halves(part(16)));
    expect(caches[1]).toEqual(halves(part(24)));
    expect(caches.slice(2)).toEqual(caches.slice(0, 2));
    const whole = { lengths: [3, 3, 3], capacity: 3, slots: [0, 0, 0], ...heads };
    expectClose(attended, expected(whole, rotated, caches[0], caches[1]), 3e-6, 1e-7);
    for (const t of found) t.free("test");
  });
});
