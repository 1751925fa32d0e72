import { beforeAll, describe, expect, it } from "vitest";
import {
  caps,
  embedding,
  linear,
  Parameter,
  ParameterStore,
  QuantizedWeight,
  scope,
  tensor,
  tokenLogProbs,
} from "webrlhf";
import { type QuantizedFormat, quantizedFormats } from "webrlhf/nn";
import type { MatmulVariant } from "../../src/gpu/product.ts";
import { destroyBuffers } from "../../src/gpu/stream.ts";
import { bf16ToF32, f32ToBf16 } from "../../src/runtime/half.ts";
import { gemm } from "../../src/tensor/ops/matmul.ts";
import { packRows } from "../../src/tensor/quantize.ts";
import { expectClose, gpuReady } from "../helpers.ts";
import { checkOp, halves, input, values } from "./check.ts";

beforeAll(gpuReady);

/** The stored values by the definition of the formats, in float64, without the code under test. */
function stored(data: Float32Array, cols: number, format: QuantizedFormat): Float64Array {
  if (format === "bfloat16") return Float64Array.from(data, (v) => nearest(v, 8));
  if (format === "float16") return Float64Array.from(halves(data));
  const out = new Float64Array(data.length);
  const size = format === "int8" ? 64 : 32;
  for (let row = 0; row < data.length; row += cols) {
    for (let first = 0; first < cols; first += size) {
      const group = data.subarray(row + first, row + Math.min(first + size, cols));
      const low = format === "int8" ? 0 : nearest(Math.min(...group), 8);
      const most = format === "int8" ? Math.max(...group.map(Math.abs)) : Math.max(...group) - low;
      const scale = format === "int8" ? Math.fround(most / 127) : nearest(Math.max(0, most) / 15, 8);
      group.forEach((v, i) => {
        const [least, top] = format === "int8" ? [-127, 127] : [0, 15];
        const q = scale === 0 ? 0 : Math.min(top, Math.max(least, Math.round((v - low) / scale)));
        out[row + first + i] = q * scale + low;
      });
    }
  }
  return out;
}

/** The nearest number with this many significant bits; ties go to even. */
function nearest(v: number, bits: number): number {
  if (v === 0) return 0;
  const unit = 2 ** (Math.floor(Math.log2(Math.abs(v))) - bits + 1);
  const down = Math.floor(v / unit);
  const rest = v / unit - down;
  return unit * (rest > 0.5 || (rest === 0.5 && down % 2 !== 0) ? down + 1 : down);
}

function withWeight<R>(
  rows: number,
  cols: number,
  format: QuantizedFormat,
  fn: (w: QuantizedWeight, exact: Float64Array) => R,
) {
  const data = values(rows * cols, 3);
  const weight = QuantizedWeight.allocate([rows, cols], format, "weight");
  weight.write(data);
  const result = fn(weight, stored(data, cols, format));
  return { result, done: () => destroyBuffers(weight.buffers) };
}

function product(mode: "NN" | "NT", a: ArrayLike<number>, b: ArrayLike<number>, m: number, n: number, k: number) {
  const c = new Float64Array(m * n);
  for (let i = 0; i < m; i++)
    for (let j = 0; j < n; j++)
      for (let p = 0; p < k; p++) c[i * n + j] += a[i * k + p] * b[mode === "NT" ? j * k + p : p * n + j];
  return c;
}

const shapes = [
  [1, 1],
  [3, 5],
  [7, 64],
  [5, 66],
  [2, 100],
  [70, 96],
] as const;

describe("quantized formats", () => {
  for (const format of quantizedFormats) {
    it(`${format}: what is read back is what the definition says, for odd sizes`, async () => {
      for (const [rows, cols] of shapes) {
        const { result, done } = withWeight(rows, cols, format, (w, exact) => ({ read: w.read(), exact }));
        expectClose(await result.read, result.exact, 3e-7, 0, `${format} [${rows},${cols}]`);
        done();
      }
    });

    it(`${format}: rows may be written in parts`, async () => {
      const data = values(70 * 40, 5);
      const weight = QuantizedWeight.allocate([70, 40], format, "weight");
      weight.writePart(33 * 40, data.subarray(33 * 40));
      weight.writePart(0, data.subarray(0, 33 * 40));
      expectClose(await weight.read(), stored(data, 40, format), 3e-7, 0);
      expectClose(await weight.readPart(45, 100), stored(data, 40, format).subarray(45, 145), 3e-7, 0);
      destroyBuffers(weight.buffers);
    });
  }

  it("rounds bfloat16 to nearest even", () => {
    const cases: [number, number][] = [
      [1 + 2 ** -8, 1],
      [1 + 3 * 2 ** -8, 1 + 2 ** -6],
      [-(1 + 2 ** -8 + 2 ** -20), -(1 + 2 ** -7)],
      [0, 0],
      [2 ** -130, 2 ** -130],
    ];
    for (const [value, expected] of cases) expect(bf16ToF32(f32ToBf16(value))).toBe(expected);
  });

  it("keeps groups of one value, of zeros and of very small and large values", () => {
    for (const format of ["int8", "int4"] as const) {
      for (const value of [0, 0.75, -3, 1e-30, 1e30]) {
        const { data, scales } = packRows(new Float32Array(64).fill(value), 64, format, "w");
        const q = format === "int8" ? (data[0] << 24) >> 24 : data[0] & 15;
        const [low, scale] =
          format === "int8"
            ? [0, new Float32Array(scales!.buffer)[0]]
            : [bf16ToF32(scales![0] & 0xffff), bf16ToF32(scales![0] >>> 16)];
        expect(Math.abs(low + q * scale - value)).toBeLessThanOrEqual(Math.abs(value) * 2 ** -8);
      }
    }
  });

  it("refuses what a format cannot hold", () => {
    expect(() => packRows(Float32Array.of(1, 1e5), 2, "float16", "head")).toThrow(/head holds 100000.*bfloat16/);
    for (const format of quantizedFormats) {
      expect(() => packRows(Float32Array.of(1, Number.NaN), 2, format, "head")).toThrow(/head holds NaN/);
    }
  });

  it("is refused where f32 memory is needed", () => {
    const parameter = new Parameter([4, 4], { constant: 1 });
    parameter.name = "weight";
    const store = new ParameterStore([parameter], "model", "int8");
    expect(() => parameter.value).toThrow(/weight is stored as int8/);
    store.destroy();
  });
});

/** The families this adapter can run, with small tiles. */
function families(): MatmulVariant[] {
  const { kind, subgroups, subgroupSize, subgroupSizeMax } = caps();
  const all: MatmulVariant[] = [
    { family: "direct", rows: 1, cols: 4, lanes: 8 },
    { family: "tiled", bm: 64, bn: 32, bk: 4, rows: 8, cols: 4, splits: 1 },
    { family: "skinny", rows: 4 },
  ];
  if (kind === "cpu" && subgroups && subgroupSize === subgroupSizeMax) {
    all.push({ family: "subgroup", rows: 1, cols: 32 / subgroupSize, lanes: subgroupSize });
  }
  return all;
}

describe("products with a quantized weight", () => {
  /** rows x cols of the weight: multiples of 4 but not of a group, and neither. */
  const sizes = { even: [36, 100], odd: [37, 43] } as const;

  async function agrees(format: QuantizedFormat, mode: "NN" | "NT", m: number, even: boolean, variant?: MatmulVariant) {
    const [rows, cols] = sizes[even ? "even" : "odd"];
    const [n, k] = mode === "NT" ? [rows, cols] : [cols, rows];
    const a = values(m * k, 1);
    const { result, done } = withWeight(rows, cols, format, (w, exact) => ({
      y: scope(() => gemm(tensor(a, [m, k]), w, mode, [m, n, k], { variant })),
      exact: product(mode, a, exact, m, n, k),
    }));
    const what = `${format} ${mode} ${m}x${n}x${k} by ${JSON.stringify(variant)}`;
    expectClose(await result.y.read(), result.exact, 1e-5, 1e-6, what);
    result.y.free("test");
    done();
  }

  // Compiling is what takes time, and every format reads through the same two functions.
  for (const [format, even] of [
    ["bfloat16", true],
    ["float16", true],
    ["int8", false],
    ["int4", true],
    ["int4", false],
  ] as const) {
    it(`${format}: agree with float64 in every family, ${even ? "even" : "odd"} sizes`, {
      timeout: 60_000,
    }, async () => {
      for (const variant of families()) {
        await agrees(format, "NT", 3, even, variant);
        if (variant.family !== "skinny" && format !== "float16") await agrees(format, "NN", 3, even, variant);
      }
    });
  }

  it("agree by the table's choice, for one row and for many", { timeout: 60_000 }, async () => {
    await agrees("int8", "NT", 1, true);
    await agrees("int8", "NT", 35, true);
  });

  it("takes part of a weight's rows", async () => {
    const { result, done } = withWeight(100, 40, "int4", (w, exact) => ({
      y: scope(() => gemm(tensor(values(80, 1), [2, 40]), w.rows(64, 36), "NT", [2, 36, 40])),
      exact: product("NT", values(80, 1), exact.subarray(64 * 40), 2, 36, 40),
    }));
    expectClose(await result.y.read(), result.exact, 1e-5, 1e-6);
    result.y.free("test");
    done();
  });

  it("linear gives the gradient of its input, bias and residual", async () => {
    const { result, done } = withWeight(13, 70, "int4", (w, exact) =>
      checkOp(
        ([x, bias, residual]) => linear(x, w, { bias, residual }),
        [input([2, 70], 1), input([13], 2), input([2, 13], 4)],
        ([x, bias, residual]) => product("NT", x, exact, 2, 13, 70).map((v, i) => v + bias[i % 13] + residual[i]),
      ),
    );
    await result;
    done();
  });

  it("tokenLogProbs takes a quantized head, whole and in chunks", async () => {
    const [rows, width, vocab] = [3, 36, 150];
    const targets = [0, 149, 77];
    const { result, done } = withWeight(vocab, width, "int8", (w, exact) =>
      Promise.all(
        [undefined, 300].map((budget) =>
          checkOp(
            ([hidden]) => tokenLogProbs(hidden, w, tensor(new Uint32Array(targets)), { budget }).logProbs,
            [input([rows, width], 1)],
            ([hidden]) => {
              const logits = product("NT", hidden, exact, rows, vocab, width);
              return Float64Array.from(targets, (y, r) => {
                const row = logits.subarray(r * vocab, (r + 1) * vocab);
                return row[y] - Math.log(row.reduce((sum, z) => sum + Math.exp(z), 0));
              });
            },
          ),
        ),
      ),
    );
    await result;
    done();
  });
});

describe("embedding of a quantized table", () => {
  it("gathers rows for every format, also of odd length", async () => {
    for (const format of quantizedFormats) {
      for (const cols of [33, 64]) {
        const ids = [6, 0, 6, 3];
        const { result, done } = withWeight(7, cols, format, (w, exact) => ({
          y: scope(() => embedding(w, tensor(new Uint32Array(ids)), ids)),
          exact: Float64Array.from(ids.flatMap((id) => [...exact.subarray(id * cols, (id + 1) * cols)])),
        }));
        expectClose(await result.y.read(), result.exact, 3e-7, 0, `${format} ${cols}`);
        result.y.free("test");
        done();
      }
    }
  });
});
