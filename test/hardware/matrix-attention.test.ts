/**
 * Attention by matrix units, where the adapter has them. Values are held against float64 within 1e-3 of the largest output and
 * 2e-3 of the largest gradient (attention-reference.ts): operands are the same f16 numbers, weights and gradients of scores are
 * rounded to f16 once, by up to 2^-11 of each, results once more, and sums are in f32.
 */
import fc from "fast-check";
import { beforeAll, beforeEach, describe, expect, it } from "vitest";
import { attention, backward, type Caps, caps, cast, packing, scale, scope, stats, sum, tensor } from "webrlhf";
import { attentionVariant, matricesForAttention } from "../../src/gpu/variants.ts";
import { rotatedAttention } from "../../src/tensor/ops/rotated-attention.ts";
import { gpuReady } from "../helpers.ts";
import { type AttentionCase, checkAttention, gradientsOf } from "../tensor/attention-reference.ts";
import { values } from "../tensor/check.ts";
import { groups, outgrown, sequences } from "./attention-cases.ts";

beforeAll(gpuReady);

const check = (c: AttentionCase, seed: number) => checkAttention(c, seed, "matrix", "f16");
const one = { heads: 1, kvHeads: 1, headDim: 32, variant: "matrix" } as const;

describe("attention by matrix units", { timeout: 900_000 }, () => {
  // Compiling each of these kernels takes a CPU seconds: they are left to runs of a GPU's kernels.
  const wanted = globalThis.process.env.WEBRLHF_ADAPTER_KIND === "hardware";
  beforeEach((context) => {
    if (!wanted || !matricesForAttention(caps(), 8)) context.skip();
  });

  it("equals float64 on random sequences, gradients included", async () => {
    await fc.assert(
      fc.asyncProperty(sequences, groups, fc.nat(1000), async (s, [heads, kvHeads], seed) => {
        await check({ ...s, heads, kvHeads, headDim: 32 }, seed);
      }),
      { numRuns: 8, seed: 1 },
    );
  });

  it("equals float64 on random sequences with a window and a cap", async () => {
    await fc.assert(
      fc.asyncProperty(outgrown, groups, fc.constantFrom(1, 5, 33), fc.nat(1000), async (s, heads, window, seed) => {
        const c = { ...s, heads: heads[0], kvHeads: heads[1], headDim: 32, window, softcap: 2, scale: 1 };
        await check(c, seed);
      }),
      { numRuns: 6, seed: 1 },
    );
  });

  // Two query heads on one KV head; sequences longer than a tile of keys and than a workgroup's 64 rows.
  const c = { lengths: [70, 3, 33], starts: [1, 72, 75], rows: 110, heads: 2, kvHeads: 1 };

  it.each([64, 96, 128, 256])("equals float64 at head dimension %d, gradients included", async (headDim) => {
    await check({ ...c, headDim }, headDim);
  });

  it("slides and caps at wide heads, whose keys and values have their gradients one after the other", async () => {
    await check({ ...c, headDim: 160, window: 40, softcap: 2 }, 1);
  });

  // All columns turn, or some; pairs that lie in no whole slices are turned back by a kernel of their own.
  it.each([
    [64, 32],
    [96, 32],
    [32, 6],
  ])("turns queries, keys and their gradients: %d columns, %d pairs", async (headDim, pairs) => {
    await check({ ...c, headDim, pairs, pads: [0, 1, 2] }, headDim);
  });

  it("turns back in the gradient's own dispatches", () => {
    const counts = ([attention, rotatedAttention] as const).map((attend) =>
      scope(() => {
        const leaf = tensor(values(40 * 192, 1), [40, 192], "f16");
        leaf.requiresGrad = true;
        const y = attend(cast(scale(cast(leaf, "f32"), 1), "f16"), packing([40]), { ...one, headDim: 64 });
        const loss = sum(cast(y, "f32"));
        const before = stats().dispatches;
        backward(loss);
        return stats().dispatches - before;
      }),
    );
    expect(counts[1]).toBe(counts[0]);
  });

  it("keeps sequences apart that hold NaN", async () => {
    const [rows, width] = [80, 96];
    const qkv = values(rows * width, 3);
    qkv.fill(Number.NaN, 20 * width, 40 * width);
    const y = scope(() => attention(tensor(qkv, [rows, width], "f16"), packing([20, 20, 40]), one));
    const nan = Array.from(await y.read(), Number.isNaN);
    y.free("test");
    expect(nan).toEqual(Array.from({ length: rows * 32 }, (_, i) => i >= 20 * 32 && i < 40 * 32));
  });

  it("gives a sequence the same bits whatever is beside it", async () => {
    const width = 96;
    const first = values(70 * width, 1);
    const alone = await gradientsOf(first, values(70 * 32, 9), [70], one);
    const others = values(100 * width, 2, 60); // whose scores are far larger
    const [qkv, dout] = [
      [...first, ...others],
      [...values(70 * 32, 9), ...values(100 * 32, 3)],
    ];
    const beside = await gradientsOf(Float32Array.from(qkv), Float32Array.from(dout), [70, 33, 67], one);
    expect(beside.out.slice(0, alone.out.length)).toEqual(alone.out);
    expect(beside.dqkv.slice(0, alone.dqkv.length)).toEqual(alone.dqkv);
  });

  // Weights of 1e-6 are 17 of the smallest numbers of f16, if they are not scaled.
  it("keeps the digits of small weights", async () => {
    const rows = 60;
    const qkv = new Float32Array(rows * 96);
    for (let row = 0; row < rows; row++) {
      qkv[row * 96] = 1; // queries
      qkv[row * 96 + 32] = row === 0 ? 13.8125 : 0; // keys
      qkv.fill(row === 0 ? 0 : 1, row * 96 + 64, (row + 1) * 96); // values
    }
    const y = scope(() => attention(tensor(qkv, [rows, 96], "f16"), packing([rows]), { ...one, scale: 1 }));
    const [last] = (await y.read()).slice(-1);
    y.free("test");
    const exact = (rows - 1) / (rows - 1 + Math.exp(13.8125));
    expect(Math.abs(last / exact - 1)).toBeLessThan(1e-3);
  });

  it("gives no finite gradient where a score's is beyond f16, so that the step is skipped", async () => {
    const rows = 40;
    const qkv = values(rows * 96, 1, 0.1).map((v, i) => (i % 96 < 64 ? v : 1000 * v));
    const { dqkv } = await gradientsOf(qkv, values(rows * 32, 2, 1000), [rows], one);
    const finite = (from: number) => dqkv.every((v, i) => i % 96 < from || i % 96 >= from + 32 || Number.isFinite(v));
    expect([0, 32, 64].map(finite)).toEqual([false, false, true]);
  });
});

describe("the choice of attention", () => {
  const gpu = (more: Partial<Caps> = {}): Caps => ({
    ...caps(),
    ...{ kind: "hardware", subgroups: true, subgroupSize: 32, subgroupSizeMax: 32, f16: true },
    ...{ maxInvocations: 256, maxWorkgroupStorage: 16_384, unsound: undefined, matrices: { m: 16, n: 16, k: 16 } },
    ...more,
  });
  const half = { T: "f16", d4: 16 };

  it("takes matrix units for rows in f16 alone, and heads that they divide", () => {
    expect(attentionVariant(gpu(), half)).toBe("matrix");
    expect(attentionVariant(gpu(), { ...half, T: "f32" })).toBe("tiled");
    expect(attentionVariant(gpu(), { ...half, d4: 20 })).toBe("tiled");
    for (const d4 of [8, 24, 32, 64]) expect(attentionVariant(gpu(), { ...half, d4 })).toBe("matrix");
    for (const [m, n, k] of [
      [8, 8, 8],
      [8, 16, 16],
    ]) {
      expect(attentionVariant(gpu({ matrices: { m, n, k } }), half)).toBe("matrix");
    }
  });

  it("takes none that the adapter lacks, has no room for, or computes wrong", () => {
    for (const more of [
      { matrices: undefined },
      { maxWorkgroupStorage: 16_000 },
      { maxInvocations: 100 },
      { subgroupSizeMax: 8 }, // 8 subgroups share the rows of a block, 8 rows each
      { unsound: ["matrix attention"] as const },
    ]) {
      expect(attentionVariant(gpu(more), half), JSON.stringify(more)).toBe("tiled");
    }
    expect(attentionVariant(gpu({ unsound: ["tiled attention"] }), { ...half, T: "f32" })).toBe("direct");
    expect(attentionVariant(gpu({ kind: "cpu" }), half)).not.toBe("matrix");
  });

  it("refuses rows in f32", () => {
    const attend = () => attention(tensor(values(96, 1), [1, 96]), packing([1]), one);
    expect(() => scope(attend)).toThrow("matrix units need qkv in f16");
  });
});
