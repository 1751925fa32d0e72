/** A GPU's attention at the widths of real heads, on whatever adapter there is. Only in Node: SwiftShader takes minutes. */
import { beforeAll, describe, it } from "vitest";
import { gpuReady } from "../helpers.ts";
import { checkAttention } from "../tensor/attention-reference.ts";

beforeAll(gpuReady);

// A minute each to compile on lavapipe: left to runs of a GPU's kernels.
const everything = globalThis.process.env.WEBRLHF_ADAPTER_KIND === "hardware";

describe.runIf(everything)("a GPU's attention", () => {
  // Two query heads on one KV head; sequences longer than a tile of keys and than a workgroup's 64 rows.
  it.each([64, 96, 128])("equals float64 at head dimension %d, gradients included", async (headDim) => {
    const c = { lengths: [70, 3, 33], starts: [1, 72, 75], rows: 110, heads: 2, kvHeads: 1, headDim };
    await checkAttention(c, headDim, "tile");
  });
});
