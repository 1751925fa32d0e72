/** A GPU's attention, on whatever adapter there is. Only in Node: SwiftShader takes minutes. */
import fc from "fast-check";
import { beforeAll, describe, expect, it } from "vitest";
import { attention, backward, caps, packing, scale, scope, stats, sum, tensor } from "webrlhf";
import { rotatedAttention } from "../../src/tensor/ops/rotated-attention.ts";
import { gpuReady } from "../helpers.ts";
import { checkAttention } from "../tensor/attention-reference.ts";
import { values } from "../tensor/check.ts";
import { groups, outgrown, sequences } from "./attention-cases.ts";

beforeAll(gpuReady);

// Seconds of work to compile each kernel; on a busy machine that takes minutes.
const patience = 600_000;

// Most kernels are left to runs of a GPU's kernels.
const everything = globalThis.process.env.WEBRLHF_ADAPTER_KIND === "hardware";

describe("a GPU's attention", { timeout: patience }, () => {
  it("equals float64 on random sequences, gradients included", async () => {
    await fc.assert(
      fc.asyncProperty(sequences, groups, fc.nat(1000), async (s, [heads, kvHeads], seed) => {
        await checkAttention({ ...s, heads, kvHeads, headDim: 8 }, seed, "tiled");
      }),
      { numRuns: 8, seed: 1 },
    );
  });

  // 20 columns are 5 vec4s, which 8 invocations do not share evenly.
  it.runIf(everything)("equals float64 on random sequences with a window and a cap", async () => {
    await fc.assert(
      fc.asyncProperty(outgrown, groups, fc.constantFrom(1, 5, 33), fc.nat(1000), async (s, heads, window, seed) => {
        const c = { ...s, heads: heads[0], kvHeads: heads[1], headDim: 20, window, softcap: 2, scale: 1 };
        await checkAttention(c, seed, "tiled");
      }),
      { numRuns: 6, seed: 1 },
    );
  });

  it("keeps sequences apart that hold NaN", async () => {
    const [rows, width] = [80, 24];
    const qkv = values(rows * width, 3);
    qkv.fill(Number.NaN, 20 * width, 40 * width);
    const y = scope(() =>
      attention(tensor(qkv, [rows, width]), packing([20, 20, 40]), {
        heads: 1,
        kvHeads: 1,
        headDim: 8,
        variant: "tiled",
      }),
    );
    const nan = Array.from(await y.read(), Number.isNaN);
    y.free("test");
    expect(nan).toEqual(Array.from({ length: rows * 8 }, (_, i) => i >= 160 && i < 320));
  });
});

describe.runIf(everything)("a GPU's attention at the widths of real heads", { timeout: patience }, () => {
  // Two query heads on one KV head; sequences longer than a tile of keys and than a workgroup's 64 rows.
  const c = { lengths: [70, 3, 33], starts: [1, 72, 75], rows: 110, heads: 2, kvHeads: 1 };

  it.each([4, 64, 96, 128, 256])("equals float64 at head dimension %d, gradients included", async (headDim) => {
    await checkAttention({ ...c, headDim }, headDim, "tiled");
  });

  // All columns turn, or some; 96 columns are not shared so that one invocation has both of a pair.
  it.each([
    [64, 32],
    [96, 48],
    [128, 32],
    [256, 128],
    [20, 6],
  ])("turns queries, keys and their gradients: %d columns, %d pairs", async (headDim, pairs) => {
    await checkAttention({ ...c, headDim, pairs, pads: [0, 1, 2] }, headDim, "tiled");
  });

  it("turns in one dispatch, and back in none", () => {
    const counts = ([attention, rotatedAttention] as const).map((attend) =>
      scope(() => {
        const leaf = tensor(values(40 * 192, 1), [40, 192]);
        leaf.requiresGrad = true;
        const qkv = scale(leaf, 1);
        const before = stats().dispatches;
        const y = attend(qkv, packing([40]), { heads: 1, kvHeads: 1, headDim: 64, variant: "tiled" });
        const forward = stats().dispatches - before;
        const loss = sum(y);
        const middle = stats().dispatches;
        backward(loss);
        return { forward, backward: stats().dispatches - middle };
      }),
    );
    expect(counts[0].forward).toBe(1);
    expect(counts[1]).toEqual({ forward: 2, backward: counts[0].backward });
  });

  it("turns the gradients back in other kernels, too", async () => {
    await checkAttention({ ...c, headDim: 16, pairs: 8, window: 40, softcap: 2 }, 1, "direct");
    await checkAttention({ ...c, headDim: 64, pairs: 32, window: 40, softcap: 2 }, 1, "tiled");
  });

  it.each([64, 256])("slides and caps at head dimension %d", async (headDim) => {
    await checkAttention({ ...c, headDim, window: 40, softcap: 2 }, headDim, "tiled");
  });

  it.for([8, 128])("works in f16 at head dimension %d", async (headDim, context) => {
    if (!caps().f16) return context.skip();
    await checkAttention({ ...c, headDim }, headDim, "tiled", "f16");
    await checkAttention({ ...c, headDim: 64, pairs: 32 }, 1, "tiled", "f16");
  });
});
