import fc from "fast-check";
import { beforeAll, describe, expect, it } from "vitest";
import { caps, logSoftmax, scope, softmax, tensor } from "webrlhf";
import { expectClose, gpuReady } from "../helpers.ts";
import { awkward, byRow, checkOp, input, values } from "./check.ts";

beforeAll(gpuReady);

const logSoftmaxRow = (row: Float64Array) => {
  const top = Math.max(...row);
  const lse = top + Math.log(row.reduce((s, v) => s + Math.exp(v - top), 0));
  return row.map((v) => v - lse);
};

const cases = {
  softmax: { op: softmax, reference: (row: Float64Array) => logSoftmaxRow(row).map(Math.exp) },
  logSoftmax: { op: logSoftmax, reference: logSoftmaxRow },
};

for (const [name, { op, reference }] of Object.entries(cases)) {
  describe(name, () => {
    it("equals float64 over random shapes, gradients included", async () => {
      await fc.assert(
        fc.asyncProperty(
          fc.integer({ min: 1, max: 9 }),
          fc.constantFrom(...awkward),
          fc.nat(1000),
          async (rows, cols, seed) => {
            const inputs = [input([rows, cols], seed, 5)];
            await checkOp(
              ([x]) => op(x),
              inputs,
              ([x]) => byRow(x, cols, reference),
              { rtol: 5e-6 },
            );
          },
        ),
        { numRuns: 8, seed: 4 },
      );
    });

    it("is right for large and masked entries", async () => {
      const x = [1000, 999, -1e30, 3, -1e30, -1e30, -1e30, 5];
      const y = scope(() => op(tensor(x, [2, 4])));
      const got = await y.read();
      const expected = byRow(Float64Array.from(x), 4, reference);
      for (let i = 0; i < 8; i++) {
        if (x[i] > -1e29) expect(got[i]).toBeCloseTo(expected[i], 4);
        else if (name === "softmax") expect(got[i]).toBeLessThan(1e-37);
      }
    });

    it("keeps statistics in f32 with f16 storage", async (context) => {
      if (!caps().f16) return context.skip();
      const x = values(3 * 1000, 6);
      const y = scope(() => op(tensor(x, [3, 1000], "f16")));
      const rounded = Float64Array.from(await scope(() => tensor(x, [3, 1000], "f16")).read());
      expectClose(await y.read(), byRow(rounded, 1000, reference), 1e-3);
      const small = { ...input([3, 20], 1), dtype: "f16" as const };
      const options = { rtol: 1e-3, gradRtol: 2e-3, inner: false };
      await checkOp(
        ([x]) => op(x),
        [small],
        ([x]) => byRow(x, 20, reference),
        options,
      );
    });
  });
}
