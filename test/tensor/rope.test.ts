import fc from "fast-check";
import { beforeAll, describe, expect, it } from "vitest";
import { rope, scope, tensor } from "webrlhf";
import { kvCacheWrite } from "../../src/tensor/ops/kvcache.ts";
import { ropeIntoCache } from "../../src/tensor/ops/rope.ts";
import { expectClose, gpuReady } from "../helpers.ts";
import { byRow, checkOp, input, values } from "./check.ts";

beforeAll(gpuReady);

interface Heads {
  heads: number;
  kvHeads: number;
  headDim: number;
  theta: number;
}

const reference =
  ({ heads, kvHeads, headDim, theta }: Heads, positions: number[]) =>
  ([x]: Float64Array[]) =>
    byRow(x, (heads + 2 * kvHeads) * headDim, (row, r) => {
      const y = row.slice();
      const half = headDim / 2;
      for (let h = 0; h < heads + kvHeads; h++) {
        for (let i = 0; i < half; i++) {
          const angle = positions[r] * Math.fround(theta ** (-i / half));
          const [a, b] = [row[h * headDim + i], row[h * headDim + half + i]];
          y[h * headDim + i] = a * Math.cos(angle) - b * Math.sin(angle);
          y[h * headDim + half + i] = b * Math.cos(angle) + a * Math.sin(angle);
        }
      }
      return y;
    });

const shapes = fc.record({
  heads: fc.constantFrom(1, 2, 4),
  kvHeads: fc.constantFrom(1, 2),
  headDim: fc.constantFrom(4, 8, 12, 16, 32, 40),
  theta: fc.constantFrom(100, 10000, 1e6),
});

describe("rope", () => {
  it("turns queries and keys and leaves values alone, gradients included", async () => {
    await fc.assert(
      fc.asyncProperty(shapes, fc.array(fc.nat(300), { minLength: 1, maxLength: 6 }), async (shape, positions) => {
        const width = (shape.heads + 2 * shape.kvHeads) * shape.headDim;
        const op = ([x]: Parameters<typeof rope>[0][]) => rope(x, tensor(Uint32Array.from(positions)), shape);
        await checkOp(op, [input([positions.length, width], width)], reference(shape, positions));
      }),
      { numRuns: 8, seed: 1 },
    );
  });

  it.each([
    [16, 2], // lanes of 1, 2 and 4 columns
    [16, 4],
    [24, 6],
    [32, 8],
    [96, 12],
  ])("turns only part of heads of %i columns where %i pairs have a frequency", async (headDim, half) => {
    const frequencies = Float32Array.from({ length: half }, (_, i) => 0.9 / (i + 1));
    const positions = [0, 1, 7, 300];
    const heads = { heads: 2, kvHeads: 1, headDim };
    const magnitude = 1.25;
    const op = ([x]: Parameters<typeof rope>[0][]) =>
      rope(x, tensor(Uint32Array.from(positions)), { ...heads, frequencies, magnitude });
    await checkOp(op, [input([positions.length, 4 * headDim], 5)], ([x]) =>
      byRow(x, 4 * headDim, (row, r) => {
        const y = row.slice();
        for (let h = 0; h < 3; h++) {
          for (let i = 0; i < half; i++) {
            const at = h * headDim + i;
            const [c, s] = [Math.cos, Math.sin].map((f) => magnitude * f(positions[r] * frequencies[i]));
            y[at] = row[at] * c - row[at + half] * s;
            y[at + half] = row[at + half] * c + row[at] * s;
          }
        }
        return y;
      }),
    );
  });

  it("keeps f32 precision at positions in the thousands", async () => {
    const positions = [0, 255, 256, 257, 2047, 8191, 8192, 65535, 131071];
    const shape = { heads: 1, kvHeads: 1, headDim: 64, theta: 10000 };
    const x = values(positions.length * 192, 3);
    const y = scope(() => rope(tensor(x, [positions.length, 192]), tensor(Uint32Array.from(positions)), shape));
    expectClose(await y.read(), reference(shape, positions)([Float64Array.from(x)]), 5e-7);
    y.free("test");
  });

  it.each([
    ["whole heads", 32, 16],
    ["a part of each head", 32, 8],
    ["a part of each head, column by column", 20, 5],
  ])("writes keys and values of %s to a cache as kvCacheWrite does, bit for bit", async (_, headDim, half) => {
    const heads = { heads: 3, kvHeads: 1, headDim };
    const frequencies = Float32Array.from({ length: half }, (_, i) => 0.9 / (i + 1));
    const ids = (list: number[]) => tensor(Uint32Array.from(list));
    const shape = [3, 4, headDim];
    const found = scope(() => {
      const x = tensor(values(5 * 5 * headDim, 7), [5, 5 * headDim]);
      const positions = ids([0, 3, 2, 4, 1]); // the fourth lies beyond the cache
      const slots = ids([0, 2, 1, 1, 7]); // and the last one's slot
      const caches = [0, 1, 2, 3].map((i) => tensor(values(12 * headDim, 9 + (i % 2)), shape));
      const apart = rope(x, positions, { ...heads, frequencies });
      kvCacheWrite(apart, caches[0], caches[1], slots, positions, heads);
      const cache = { keys: caches[2], values: caches[3], slots };
      return [apart, ropeIntoCache(x, positions, { ...heads, frequencies }, cache), ...caches];
    });
    const [apart, together, keys, stored, keysToo, storedToo] = await Promise.all(found.map((t) => t.read()));
    expect(together).toEqual(apart);
    expect(keysToo).toEqual(keys);
    expect(storedToo).toEqual(stored);
    expect(keys).not.toEqual(values(12 * headDim, 9));
    for (const t of found) t.free("test");
  });

  it("refuses shapes that do not fit", () => {
    const x = () => tensor(new Float32Array(24), [2, 12]);
    const positions = () => tensor(new Uint32Array(2));
    const heads = { heads: 1, kvHeads: 1 };
    expect(() => scope(() => rope(x(), positions(), { ...heads, headDim: 6 }))).toThrow("multiple of 4");
    expect(() => scope(() => rope(x(), positions(), { ...heads, headDim: 8 }))).toThrow("[2, 24]");
    expect(() => scope(() => rope(x(), positions(), { ...heads, headDim: 4, maxPositions: 1e6 }))).toThrow("131072");
    const cache = () => tensor(new Float32Array(16), [1, 2, 8]);
    const places = () => ({ keys: cache(), values: cache(), slots: positions() });
    expect(() => scope(() => ropeIntoCache(x(), positions(), { ...heads, headDim: 4 }, places()))).toThrow(
      "rope: qkv [2,12] does not fit",
    );
  });
});
