import fc from "fast-check";
import { beforeAll, describe, expect, it } from "vitest";
import { caps } from "../../src/gpu/device.ts";
import { swiglu } from "../../src/tensor/ops/activation.ts";
import { scope } from "../../src/tensor/scope.ts";
import { tensor } from "../../src/tensor/tensor.ts";
import { gpuReady } from "../helpers.ts";
import { awkward, byRow, checkOp, input } from "./check.ts";

beforeAll(gpuReady);

const silu = (v: number) => v / (1 + Math.exp(-v));

describe("swiglu", () => {
  it("equals float64 over random shapes, gradients included", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 9 }),
        fc.constantFrom(...awkward),
        fc.nat(1000),
        async (rows, half, seed) => {
          await checkOp(
            ([x]) => swiglu(x),
            [input([rows, 2 * half], seed, 4)],
            ([x]) => byRow(x, 2 * half, (row) => row.subarray(0, half).map((g, i) => silu(g) * row[half + i])),
          );
        },
      ),
      { numRuns: 8, seed: 3 },
    );
  });

  it("stays finite for large gates", async () => {
    const y = scope(() => swiglu(tensor([-200, 200, 3, 3], [1, 4])));
    const [low, high] = await y.read();
    expect(Math.abs(low)).toBeLessThan(1e-20);
    expect(high).toBe(600);
  });

  it("works in f16", async (context) => {
    if (!caps().f16) return context.skip();
    const x = { ...input([3, 40], 1, 3), dtype: "f16" as const };
    await checkOp(
      ([x]) => swiglu(x),
      [x],
      ([x]) => byRow(x, 40, (row) => row.subarray(0, 20).map((g, i) => silu(g) * row[20 + i])),
      { rtol: 1e-3, gradRtol: 2e-3, inner: false },
    );
  });

  it("refuses an odd row", () => {
    expect(() => scope(() => swiglu(tensor([1, 2, 3], [1, 3])))).toThrow("must be even");
  });
});
