import fc from "fast-check";
import { beforeAll, describe, expect, it } from "vitest";
import { attention, packing, scope, type Tensor, tensor } from "webrlhf";
import {
  type CachedAttentionOptions,
  cachedAttention,
  kvCacheFork,
  kvCacheWrite,
} from "../../src/tensor/ops/kvcache.ts";
import { expectClose, gpuReady } from "../helpers.ts";
import { values } from "./check.ts";

beforeAll(gpuReady);

const ids = (list: number[]): Tensor => tensor(Uint32Array.from(list));

/** Attention of the last row of each sequence, once over whole sequences and once against a cache filled before. */
async function lastRows(lengths: number[], options: CachedAttentionOptions, seed: number) {
  const { heads, kvHeads, headDim } = options;
  const width = (heads + 2 * kvHeads) * headDim;
  const rows = lengths.reduce((a, b) => a + b, 0);
  const capacity = Math.max(...lengths) + 3;
  const x = values(rows * width, seed, 2);
  const ends = lengths.map((_, i) => lengths.slice(0, i + 1).reduce((a, b) => a + b, 0) - 1);
  const last = Float32Array.from(ends.flatMap((r) => Array.from(x.subarray(r * width, (r + 1) * width))));
  const { full, decoded } = scope(() => {
    const p = packing(lengths);
    const qkv = tensor(x, [rows, width]);
    const shape = [lengths.length, capacity, kvHeads * headDim];
    const size = lengths.length * capacity * kvHeads * headDim;
    const [k, v] = [1, 2].map(() => tensor(new Float32Array(size).fill(Number.NaN), shape));
    const slots = ids(lengths.flatMap((n, i) => new Array(n).fill(i)));
    kvCacheWrite(qkv, k, v, slots, p.positions, options);
    const rowsOfLast = tensor(last, [lengths.length, width]);
    return {
      full: attention(qkv, p, { heads, kvHeads, headDim, window: options.window, softcap: options.softcap }),
      decoded: cachedAttention(rowsOfLast, k, v, ids(lengths), options),
    };
  });
  const all = await full.read();
  const w = heads * headDim;
  const expected = Float32Array.from(ends.flatMap((r) => Array.from(all.subarray(r * w, (r + 1) * w))));
  const actual = await decoded.read();
  full.free("test");
  decoded.free("test");
  return { expected, actual };
}

/** The kernel for CPUs, and that for GPUs with whole rows and with rows in parts, of which some have no keys. */
const kernels = [
  { variant: "serial" },
  { variant: "workgroup", splits: 1 },
  { variant: "workgroup", splits: 3 },
] as const;

describe("cachedAttention", () => {
  it("equals full attention at the last row, in all kernels", async () => {
    const lengths = fc.array(fc.constantFrom(1, 2, 3, 8, 31, 64, 65, 130), { minLength: 1, maxLength: 4 });
    const shape = fc.constantFrom({ heads: 4, kvHeads: 4 }, { heads: 4, kvHeads: 2 }, { heads: 3, kvHeads: 1 });
    await fc.assert(
      fc.asyncProperty(lengths, shape, fc.nat(99), async (list, heads, seed) => {
        for (const kernel of kernels) {
          const { expected, actual } = await lastRows(list, { ...heads, headDim: 8, ...kernel }, seed);
          expectClose(actual, expected, 3e-6, 1e-7, JSON.stringify(kernel));
        }
      }),
      { numRuns: 5, seed: 1 },
    );
  });

  it("slides and caps as full attention does", async () => {
    for (const kernel of kernels) {
      for (const window of [5, 66]) {
        const options = { heads: 4, kvHeads: 2, headDim: 8, ...kernel, window, softcap: 2 };
        const { expected, actual } = await lastRows([1, 5, 6, 66, 67, 130], options, 7);
        expectClose(actual, expected, 3e-6, 1e-7, `${JSON.stringify(kernel)}, window ${window}`);
      }
    }
  });

  it.each([24, 128, 256])("handles head dimension %d", async (headDim) => {
    // The kernel for GPUs takes seconds to compile on a CPU at 128.
    for (const variant of headDim > 64 ? (["serial"] as const) : (["serial", "workgroup"] as const)) {
      const { expected, actual } = await lastRows([5, 70], { heads: 2, kvHeads: 1, headDim, variant }, headDim);
      expectClose(actual, expected, 3e-6, 1e-7, variant);
    }
  });

  it("gives 0 for an empty slot", async () => {
    for (const kernel of kernels) {
      const y = scope(() => {
        const cache = () => tensor(new Float32Array(16).fill(7), [2, 2, 4]);
        const qkv = tensor(values(24, 1), [2, 12]);
        return cachedAttention(qkv, cache(), cache(), ids([0, 1]), { heads: 1, kvHeads: 1, headDim: 4, ...kernel });
      });
      expectClose(await y.read(), [0, 0, 0, 0, 7, 7, 7, 7], 1e-6);
      y.free("test");
    }
  });

  it("bunches the heads of wide groups, and shares long caches by itself", async () => {
    // 10 heads on a KV head: two bunches of 5. 300 keys: parts of a tile each.
    const options = { heads: 10, kvHeads: 1, headDim: 8, variant: "workgroup" } as const;
    const { expected, actual } = await lastRows([300, 7], options, 4);
    expectClose(actual, expected, 3e-6, 1e-7);
  });

  it("refuses caches of another shape", () => {
    const cache = (shape: number[]) => tensor(new Float32Array(16), shape);
    const run = (k: number[], v: number[]) => () =>
      scope(() =>
        cachedAttention(tensor(values(24, 1), [2, 12]), cache(k), cache(v), ids([1, 1]), {
          heads: 1,
          kvHeads: 1,
          headDim: 4,
        }),
      );
    expect(run([2, 2, 4], [1, 4, 4])).toThrow("caches must be");
    expect(run([2, 1, 8], [2, 1, 8])).toThrow("the cache 4 wide");
    expect(run([1, 4, 4], [1, 4, 4])).toThrow("2 rows, but the cache has 1 slots");
  });
});

describe("kvCacheWrite and kvCacheFork", () => {
  it("writes rows to their places and drops those outside", async () => {
    const [k, v] = scope(() => {
      const caches = [1, 2].map(() => tensor(new Float32Array(2 * 3 * 4), [2, 3, 4]));
      const qkv = tensor(
        Float32Array.from({ length: 5 * 12 }, (_, i) => i),
        [5, 12],
      );
      kvCacheWrite(qkv, caches[0], caches[1], ids([1, 0, 1, 2, 0]), ids([0, 2, 2, 0, 3]));
      return caches;
    });
    const row = (from: number) => [from, from + 1, from + 2, from + 3];
    const zero = [0, 0, 0, 0];
    expect(Array.from(await k.read())).toEqual([zero, zero, row(16), row(4), zero, row(28)].flat());
    expect(Array.from(await v.read())).toEqual([zero, zero, row(20), row(8), zero, row(32)].flat());
    k.free("test");
    v.free("test");
  });

  it("copies the first tokens of a slot to others", async () => {
    const host = Float32Array.from({ length: 3 * 2 * 4 }, (_, i) => i);
    const [k, v] = scope(() => {
      const caches = [host, host.map((x) => -x)].map((data) => tensor(data, [3, 2, 4]));
      kvCacheFork(caches[0], caches[1], ids([0, 0]), ids([1, 2]), ids([2, 1]));
      return caches;
    });
    const expected = Array.from(host);
    expected.splice(8, 8, ...host.subarray(0, 8));
    expected.splice(16, 4, ...host.subarray(0, 4));
    expect(Array.from(await k.read())).toEqual(expected);
    expect(Array.from(await v.read())).toEqual(expected.map((x) => -x));
    k.free("test");
    v.free("test");
  });
});
