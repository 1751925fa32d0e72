import fc from "fast-check";
import { beforeAll, describe, expect, it } from "vitest";
import { attention, caps, packing, scope, tensor } from "webrlhf";
import { type AttentionVariant, attentionVariant } from "../../src/gpu/variants.ts";
import { expectClose, gpuReady } from "../helpers.ts";
import { attentionReference, checkAttention } from "./attention-reference.ts";
import { values } from "./check.ts";

beforeAll(gpuReady);

const kinds = () => new Set<AttentionVariant>(["direct", attentionVariant(caps(), { T: "f32", d4: 16 })]);

const segments = fc
  .array(
    fc.record({ gap: fc.constantFrom(0, 0, 1, 5, 20), length: fc.constantFrom(0, 1, 2, 7, 8, 15, 16, 17, 33, 50) }),
    {
      minLength: 1,
      maxLength: 4,
    },
  )
  .map((list) => {
    const lengths: number[] = [];
    const starts: number[] = [];
    let at = 0;
    for (const { gap, length } of list) {
      starts.push(at + gap);
      lengths.push(length);
      at += gap + length;
    }
    return { lengths, starts, rows: Math.max(at, 1) };
  });

describe("attention", () => {
  it.each([
    [4, 4],
    [4, 2],
    [3, 1],
    [4, 1],
  ])("equals float64 for %d heads on %d KV heads, gradients included", async (heads, kvHeads) => {
    await fc.assert(
      fc.asyncProperty(segments, fc.nat(1000), async (s, seed) => {
        for (const kind of kinds()) await checkAttention({ ...s, heads, kvHeads, headDim: 8 }, seed, kind);
      }),
      { numRuns: 6, seed: 1 },
    );
  });

  it.each([4, 16, 24, 64, 80])("handles head dimension %d", async (headDim) => {
    await checkAttention({ lengths: [9, 1, 20], starts: [0, 9, 12], rows: 33, heads: 2, kvHeads: 1, headDim }, headDim);
  });

  it("handles head dimension 128 in the forward pass", async () => {
    const c = { lengths: [9, 20], starts: [0, 9], rows: 29, heads: 1, kvHeads: 1, headDim: 128 };
    const qkv = values(29 * 384, 6);
    const y = scope(() => attention(tensor(qkv, [29, 384]), packing(c.lengths), c));
    expectClose(await y.read(), attentionReference(qkv, values(29 * 128, 1), c).out, 2e-6);
    y.free("test");
  });

  // A window wider than a vector of lanes, and one narrower; a scale that makes few scores count.
  it.each([
    ["slides", { window: 5 }, ["default"]],
    ["caps", { softcap: 0.5, scale: 1 }, ["default"]],
    ["slides and caps", { window: 17, softcap: 3, scale: 2 }, ["default", "direct"]],
  ] as const)("%s, gradients included", async (_, feature, variants) => {
    const list = { lengths: [50, 1, 33, 18], starts: [0, 51, 52, 90], rows: 110 };
    for (const variant of variants) {
      const c = { ...list, ...feature, heads: 2, kvHeads: 1, headDim: 8 };
      await checkAttention(c, 3, variant === "default" ? undefined : variant);
    }
  });

  it.each(["default", "direct"] as const)("lets padding see and not be seen (%s)", async (variant) => {
    const c = { lengths: [50, 4, 33, 18, 0], starts: [0, 51, 55, 90, 108], rows: 110, pads: [20, 1, 0, 17, 0] };
    for (const window of [undefined, 9]) {
      await checkAttention(
        { ...c, window, heads: 2, kvHeads: 1, headDim: 8 },
        3,
        variant === "default" ? undefined : variant,
      );
    }
  });

  it("sees only itself through a window of one", async () => {
    await checkAttention({ lengths: [20], starts: [0], rows: 20, heads: 2, kvHeads: 1, headDim: 8, window: 1 }, 3);
  });

  it("handles head dimension 256", async () => {
    const c = { lengths: [9, 20], starts: [0, 9], rows: 29, heads: 1, kvHeads: 1, headDim: 256 };
    await checkAttention({ ...c, window: 7, softcap: 5 }, 8);
  });

  it("survives scores far outside of exp's range", async () => {
    const c = { lengths: [12], starts: [0], rows: 12, heads: 1, kvHeads: 1, headDim: 8, scale: 300 };
    const qkv = values(12 * 24, 3, 2);
    const { out } = attentionReference(qkv, values(12 * 8, 1), c);
    const y = scope(() => attention(tensor(qkv, [12, 24]), packing(c.lengths), c));
    expectClose(await y.read(), out, 2e-4);
    y.free("test");
  });

  it("refuses shapes that do not fit", () => {
    const wrong = (heads: number, kvHeads: number, headDim: number) => () =>
      scope(() => attention(tensor(new Float32Array(24), [2, 12]), packing([2]), { heads, kvHeads, headDim }));
    expect(wrong(3, 2, 4)).toThrow("2 KV heads do not divide 3");
    expect(wrong(1, 1, 6)).toThrow("multiple of 4");
    expect(wrong(1, 1, 8)).toThrow("qkv must be [2, 24]");
  });

  it("works in f16", async (context) => {
    if (!caps().f16) return context.skip();
    const c = { lengths: [10], starts: [0], rows: 10, heads: 2, kvHeads: 1, headDim: 8 };
    const qkv = values(10 * 32, 4);
    const y = scope(() => attention(tensor(qkv, [10, 32], "f16"), packing([10]), c));
    expectClose(await y.read(), attentionReference(qkv, values(10 * 16, 1), c).out, 2e-3);
    y.free("test");
  });
});

describe("packing", () => {
  it("covers every row once with blocks that stay inside segments", async () => {
    const p = packing([20, 0, 3], [2, 22, 30], 40);
    expect(p.pairs).toBe((20 * 21) / 2 + 6);
    const positions = await p.positions.readIds();
    expect([positions[0], positions[2], positions[21], positions[30], positions[32], positions[33]]).toEqual([
      0, 0, 19, 0, 2, 0,
    ]);
    const blocks = await p.blocks[16].table.readIds();
    const seen = new Uint8Array(40);
    for (let b = 0; b < blocks.length; b += 4) for (let r = blocks[b]; r < blocks[b + 1]; r++) seen[r] += 1;
    expect(seen.every((n) => n === 1)).toBe(true);
  });

  it("refuses overlaps and too few rows", () => {
    expect(() => packing([3, 3], [0, 2])).toThrow("sequence 1 starts at row 2, but row 3");
    expect(() => packing([3], [0], 2)).toThrow("2 rows, but the last sequence ends at row 3");
    expect(() => packing([1.5])).toThrow("length 1.5");
  });
});
