import fc from "fast-check";
import { afterEach, beforeAll, describe, expect, it } from "vitest";
import { backward, caps, cast, layerNorm, mul, qkNorm, rmsNorm, scope, sum, tensor } from "webrlhf";
import { empty, recordMany } from "../../src/tensor/core.ts";
import { forceRowVariant } from "../../src/tensor/ops/rows.ts";
import { differentiate } from "../differentiate.ts";
import { expectClose, gpuReady } from "../helpers.ts";
import { awkward, byRow, checkOp, input, values } from "./check.ts";

beforeAll(gpuReady);

const size = fc.constantFrom(...awkward);

const rmsReference =
  (cols: number, eps: number) =>
  ([x, w]: Float64Array[]) =>
    byRow(x, cols, (row) => {
      const r = 1 / Math.sqrt(row.reduce((s, v) => s + v * v, 0) / cols + eps);
      return row.map((v, i) => v * r * w[i]);
    });

const layerReference =
  (cols: number, eps: number) =>
  ([x, w, b]: Float64Array[]) =>
    byRow(x, cols, (row) => {
      const mean = row.reduce((s, v) => s + v, 0) / cols;
      const r = 1 / Math.sqrt(row.reduce((s, v) => s + (v - mean) ** 2, 0) / cols + eps);
      return row.map((v, i) => (v - mean) * r * w[i] + b[i]);
    });

describe("rmsNorm", () => {
  it("equals float64 over random shapes, gradients included", async () => {
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: 9 }), size, fc.nat(1000), async (rows, cols, seed) => {
        const inputs = [input([rows, cols], seed), input([cols], seed + 1)];
        await checkOp(([x, w]) => rmsNorm(x, w, 1e-3), inputs, rmsReference(cols, 1e-3), { gradRtol: 5e-5 });
      }),
      { numRuns: 8, seed: 1 },
    );
  });

  it("takes weights stored less 1", async () => {
    const inputs = [input([5, 12], 4), input([12], 5)];
    await checkOp(
      ([x, w]) => rmsNorm(x, w, 1e-3, { offset: true }),
      inputs,
      ([x, w]) => rmsReference(12, 1e-3)([x, w.map((v) => 1 + v)]),
      { gradRtol: 5e-5 },
    );
  });

  it("adds parameter gradients over many row chunks in a fixed order", async () => {
    const [rows, cols] = [700, 4];
    const x = values(rows * cols, 3);
    const dyOnes = new Float32Array(rows * cols).fill(1);
    const run = () => gradOfWeight(x, dyOnes, rows, cols);
    const expected = new Float64Array(cols);
    for (let r = 0; r < rows; r++) {
      const row = x.subarray(r * cols, (r + 1) * cols);
      const rstd = 1 / Math.sqrt(row.reduce((s, v) => s + v * v, 0) / cols + 1e-5);
      for (let c = 0; c < cols; c++) expected[c] += row[c] * rstd;
    }
    const first = await run();
    expectClose(first, expected, 1e-5);
    expect(Array.from(await run())).toEqual(Array.from(first));
  });
});

describe("qkNorm", () => {
  it.each([
    [8, false],
    [12, true],
    [36, true],
  ])("norms each query and key head of %i columns, gradients included", async (D, offset) => {
    const [heads, kvHeads] = [3, 1];
    const width = (heads + 2 * kvHeads) * D;
    await checkOp(
      ([x, w]) => qkNorm(x, w, { heads, kvHeads, headDim: D, eps: 1e-3, offset }),
      [input([4, width], D), input([2 * D], D + 1)],
      ([x, w]) =>
        byRow(x, D, (row, r) => {
          const head = r % (heads + 2 * kvHeads);
          if (head >= heads + kvHeads) return row;
          const own = w.subarray(head < heads ? 0 : D).map((v) => v + Number(offset));
          return rmsReference(D, 1e-3)([row, own]);
        }),
      { gradRtol: 5e-5 },
    );
  });

  it("refuses shapes that do not fit", () => {
    const options = { heads: 1, kvHeads: 1, headDim: 4, eps: 1e-5 };
    const x = () => tensor(new Float32Array(12), [1, 12]);
    expect(() => scope(() => qkNorm(x(), tensor([1, 1, 1, 1]), options))).toThrow("weight must be f32 [8]");
    expect(() => scope(() => qkNorm(tensor([1, 2]), tensor([1]), options))).toThrow("not rows of 3 heads of 4");
  });
});

describe("layerNorm", () => {
  it("equals float64 over random shapes, gradients included", async () => {
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: 9 }), size, fc.nat(1000), async (rows, cols, seed) => {
        const inputs = [input([rows, cols], seed), input([cols], seed + 1), input([cols], seed + 2)];
        const op = layerReference(cols, 1e-2);
        await checkOp(([x, w, b]) => layerNorm(x, w, b, 1e-2), inputs, op, { gradRtol: 1e-4 });
      }),
      { numRuns: 8, seed: 2 },
    );
  });

  it("keeps its accuracy when the mean is far from zero", async () => {
    const cols = 64;
    const x = values(cols, 5).map((v) => v + 1000);
    const ones = new Float32Array(cols).fill(1);
    const y = scope(() => layerNorm(tensor(x, [1, cols]), tensor(ones), tensor(new Float32Array(cols)), 1e-5));
    const exact = [Float64Array.from(x), Float64Array.from(ones), new Float64Array(cols)];
    expectClose(await y.read(), layerReference(cols, 1e-5)(exact), 2e-4);
  });

  it("refuses parameters of another size", () => {
    expect(() => scope(() => layerNorm(tensor([1, 2, 3, 4], [2, 2]), tensor([1]), tensor([1, 1])))).toThrow(
      "layerNorm: weight must be f32 [2]",
    );
  });
});

describe("a norm's gradients in one dispatch, as on GPUs", () => {
  afterEach(() => forceRowVariant(null));

  it.each([
    [3, 12],
    [700, 20], // several chunks of rows, a part of a workgroup's columns
    [600, 301],
  ])("are those of two: %i rows of %i", async (rows, cols) => {
    const data = [values(rows * cols, 1), values(cols, 2), values(cols, 3)];
    const gradients = () =>
      Promise.all(
        [rmsNorm, layerNorm].map((norm) =>
          differentiate(
            data.map((d, i) => ({ shape: i === 0 ? [rows, cols] : [cols], data: Array.from(d) })),
            ([x, w, b]) => sum(mul(norm === rmsNorm ? rmsNorm(x, w, 1e-3) : layerNorm(x, w, b, 1e-2), x)),
          ),
        ),
      );
    forceRowVariant("serial");
    const apart = await gradients();
    forceRowVariant("workgroup");
    const together = await gradients();
    const found = together.flat();
    for (const [i, values] of apart.flat().entries()) expectClose(found[i], values, 1e-5, 1e-5, `array ${i}`);
  });
});

describe("f16 storage", () => {
  it("goes from f32 to f16 and back, gradients of f32 in f32", async (context) => {
    if (!caps().f16) return context.skip();
    const [w, b] = [input([20], 2), input([20], 3)];
    for (const [dtype, type] of [["f32", "f16"] as const, ["f16", "f32"] as const]) {
      const x = { ...input([3, 20], 1), dtype };
      // A gradient that goes on in f16, or is added to one that is there.
      const options = { rtol: 1e-3, gradRtol: 2e-3, inner: false };
      await checkOp(([x, w]) => cast(rmsNorm(x, w, 1e-3, { type }), "f32"), [x, w], rmsReference(20, 1e-3), options);
      await checkOp(
        ([x, w, b]) => cast(layerNorm(x, w, b, 1e-2, { type }), "f32"),
        [x, w, b],
        layerReference(20, 1e-2),
        options,
      );
    }
    const y = scope(() => rmsNorm(tensor([1, 2, 3, 4]), tensor([1, 1, 1, 1]), 1e-6, { type: "f16" }));
    expect(y.dtype).toBe("f16");
    y.free("test");
  });

  it("keeps statistics in f32", async (context) => {
    if (!caps().f16) return context.skip();
    // 300^2 * 32 overflows f16, whose largest number is 65504.
    const x = values(64, 9, 300);
    const w = values(32, 10);
    const y = scope(() => rmsNorm(tensor(x, [2, 32], "f16"), tensor(w), 1e-5));
    const exact = [Float64Array.from(await scope(() => tensor(x, [2, 32], "f16")).read()), Float64Array.from(w)];
    expectClose(await y.read(), rmsReference(32, 1e-5)(exact), 1e-3);
  });

  it("has f16 gradients of activations and f32 gradients of parameters", async (context) => {
    if (!caps().f16) return context.skip();
    const x = { ...input([3, 20], 1), dtype: "f16" as const };
    const [w, b] = [input([20], 2), input([20], 3)];
    const options = { rtol: 1e-3, gradRtol: 2e-3, inner: false };
    await checkOp(([x, w]) => rmsNorm(x, w, 1e-3), [x, w], rmsReference(20, 1e-3), options);
    await checkOp(([x, w, b]) => layerNorm(x, w, b, 1e-2), [x, w, b], layerReference(20, 1e-2), options);
  });
});

function gradOfWeight(x: Float32Array, dy: Float32Array, rows: number, cols: number) {
  return scope(() => {
    const w = tensor(new Float32Array(cols).fill(1));
    w.requiresGrad = true;
    w.grad = tensor(new Float32Array(cols));
    const y = rmsNorm(tensor(x, [rows, cols]), w, 1e-5);
    const loss = empty([1]);
    recordMany("loss", [y], [loss], () => [tensor(dy, [rows, cols])]);
    backward(loss);
    return w.grad;
  }).read();
}
