import { beforeAll, describe, expect, it } from "vitest";
import { caps, cast, glu, linear, noGrad, QuantizedWeight, rmsNorm, scope, tensor } from "webrlhf";
import { destroyBuffers } from "../../src/gpu/stream.ts";
import { fusesNorm, type NormedLinear, normedLinear } from "../../src/tensor/ops/normed-linear.ts";
import { expectClose, gpuReady } from "../helpers.ts";
import { values } from "./check.ts";

beforeAll(gpuReady);

const matrix = (rows: number, cols: number, seed: number) => tensor(values(rows * cols, seed), [rows, cols]);

describe("normedLinear", () => {
  it.each([
    ["one row", { rows: 1, k: 64, n: 40 }],
    ["rows and columns that fill no workgroup", { rows: 3, k: 12, n: 14 }],
    ["eight rows, a bias, weights less 1", { rows: 8, k: 132, n: 24, bias: true, offset: true }],
    ["a gate", { rows: 1, k: 64, n: 24, gate: "silu" }],
    ["a gate and a bias on odd columns", { rows: 5, k: 20, n: 7, gate: "gelu_tanh", bias: true }],
    ["an exact gate", { rows: 2, k: 20, n: 8, gate: "gelu" }],
    ["int8 weights", { rows: 2, k: 68, n: 16, format: "int8" }],
    ["int4 weights and a gate", { rows: 4, k: 64, n: 12, gate: "silu", format: "int4" }],
    ["bfloat16 weights", { rows: 1, k: 64, n: 16, format: "bfloat16" }],
  ] as const)("is the norm, the linear layer and the gate: %s", async (_, shape) => {
    const {
      rows,
      k,
      n,
      bias = false,
      offset = false,
      gate,
      format,
    } = { bias: false, gate: undefined, ...shape } as {
      rows: number;
      k: number;
      n: number;
      bias?: boolean;
      offset?: boolean;
      gate?: NormedLinear["gate"];
      format?: "int8" | "int4" | "bfloat16";
    };
    const columns = gate ? 2 * n : n;
    const weights = values(columns * k, 2);
    const kept = format && QuantizedWeight.allocate([columns, k], format, "w");
    kept?.write(weights);
    const found = scope(() =>
      noGrad(() => {
        const x = matrix(rows, k, 1);
        const norm = tensor(values(k, 3));
        const weight = kept ?? tensor(weights, [columns, k]);
        const biases = bias ? tensor(values(columns, 4)) : undefined;
        const read = rmsNorm(x, norm, 1e-5, { offset });
        const y = linear(read, weight, { bias: biases });
        const fused = normedLinear(x, { norm, eps: 1e-5, offset, weight, bias: biases, gate });
        return [gate ? glu(y, gate) : y, fused];
      }),
    );
    const [expected, actual] = await Promise.all(found.map((t) => t.read()));
    expect(found[1].shape).toEqual(found[0].shape);
    expectClose(actual, expected, 2e-6, 1e-6);
    for (const t of found) t.free("test");
    if (kept) destroyBuffers(kept.buffers);
  });

  it("reads weights in f16, and gives f16", async ({ skip }) => {
    if (!caps().f16) return skip("no shader-f16");
    const found = scope(() =>
      noGrad(() => {
        const x = matrix(3, 20, 1);
        const norm = tensor(values(20, 3));
        const weight = cast(matrix(28, 20, 2), "f16");
        const y = glu(linear(rmsNorm(x, norm, 1e-5), weight, { type: "f32" }), "silu");
        return [y, normedLinear(x, { norm, eps: 1e-5, offset: false, weight, gate: "silu", type: "f16" })];
      }),
    );
    const [expected, actual] = await Promise.all(found.map((t) => t.read()));
    expect(found[1].dtype).toBe("f16");
    expectClose(actual, expected, 1e-3, 1e-3);
    for (const t of found) t.free("test");
  });

  it("is for GPUs, and refuses what does not fit", () => {
    scope(() => {
      const x = matrix(2, 8, 1);
      const layer = { norm: tensor(values(8, 2)), eps: 1e-5, offset: false, weight: matrix(4, 8, 3) };
      expect(fusesNorm(x, layer)).toBe(caps().kind !== "cpu");
      expect(fusesNorm(matrix(9, 8, 1), layer)).toBe(false);
      expect(() => normedLinear(matrix(9, 8, 1), layer)).toThrow("do not fit");
      expect(() => normedLinear(x, { ...layer, weight: matrix(4, 12, 3) })).toThrow("do not fit");
    });
  });
});
