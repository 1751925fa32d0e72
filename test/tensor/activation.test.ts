import fc from "fast-check";
import { beforeAll, describe, expect, it } from "vitest";
import { caps, geluErf, glu, scope, softCap, swiglu, tensor } from "webrlhf";
import { expectClose, gpuReady } from "../helpers.ts";
import { awkward, byRow, checkOp, input } from "./check.ts";

beforeAll(gpuReady);

const silu = (v: number) => v / (1 + Math.exp(-v));

/** The integral of the normal density, by Simpson's rule from 0. */
function normalCdf(x: number): number {
  const steps = 2000;
  const h = x / steps;
  const density = (t: number) => Math.exp((-t * t) / 2) / Math.sqrt(2 * Math.PI);
  let sum = density(0) + density(x);
  for (let i = 1; i < steps; i++) sum += (i % 2 === 0 ? 2 : 4) * density(i * h);
  return 0.5 + (sum * h) / 3;
}

const gates = {
  gelu_tanh: (x: number) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))),
  gelu: (x: number) => x * normalCdf(x),
  relu: (x: number) => Math.max(x, 0),
} as const;

describe("glu", () => {
  it.each(Object.entries(gates))("with %s equals float64, gradients included", async (name, gate) => {
    for (const half of [3, 8]) {
      await checkOp(
        ([x]) => glu(x, name as keyof typeof gates),
        [input([4, 2 * half], half, 4)],
        ([x]) => byRow(x, 2 * half, (row) => row.subarray(0, half).map((g, i) => gate(g) * row[half + i])),
      );
    }
  });

  it("stays finite and keeps its tails", async () => {
    const at = [-300, -8, -4, 4, 8, 300];
    for (const name of ["gelu", "gelu_tanh"] as const) {
      const y = scope(() => glu(tensor([...at, 1, 1, 1, 1, 1, 1], [1, 12]), name));
      const found = await y.read();
      y.free("test");
      expectClose(found, [0, -8 * normalCdf(-8), gates[name](-4), gates[name](4), 8, 300], 1e-6, 1e-9);
      if (name === "gelu") expect(found[2] / (-4 * normalCdf(-4))).toBeCloseTo(1, 5);
    }
  });
});

describe("geluErf and softCap", () => {
  it("equal float64, gradients included", async () => {
    const x = input([4, 24], 9, 4);
    await checkOp(
      ([x]) => geluErf(x),
      [x],
      ([x]) => x.map(gates.gelu),
    );
    for (const cap of [0.7, 5, 50]) {
      await checkOp(
        ([x]) => softCap(x, cap),
        [x],
        ([x]) => x.map((v) => cap * Math.tanh(v / cap)),
      );
    }
  });

  it("keep small values, the sign, and NaN", async () => {
    const at = [1e-6, -1e-3, 0, 1e30, -1e30, Number.NaN];
    const y = scope(() => softCap(tensor(at), 50));
    expectClose(await y.read(), [1e-6, -1e-3, 0, 50, -50, Number.NaN], 0, 1e-10);
  });
});

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
