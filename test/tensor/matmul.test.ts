import fc from "fast-check";
import { beforeAll, describe, expect, it } from "vitest";
import { caps, type DType, linear, matmul, noGrad, scope, tensor } from "webrlhf";
import type { MatmulVariant } from "../../src/gpu/product.ts";
import { matmulVariant } from "../../src/gpu/variants.ts";
import { MATRIX_STEPS, matrixOutputs } from "../../src/shaders/matmul-matrix.wgsl.ts";
import { tileBytes, tileInvocations } from "../../src/shaders/matmul-tiled.wgsl.ts";
import { gemm } from "../../src/tensor/ops/matmul.ts";
import { expectClose, gpuReady } from "../helpers.ts";
import { checkOp, input, values } from "./check.ts";

beforeAll(gpuReady);

type Mode = "NN" | "NT" | "TN";
const modes: Mode[] = ["NN", "NT", "TN"];

/** The definition, in float64. */
function reference(mode: Mode, a: ArrayLike<number>, b: ArrayLike<number>, m: number, n: number, k: number, batch = 1) {
  const c = new Float64Array(batch * m * n);
  const strideA = a.length > m * k ? m * k : 0;
  const strideB = b.length > n * k ? n * k : 0;
  for (let z = 0; z < batch; z++)
    for (let i = 0; i < m; i++)
      for (let j = 0; j < n; j++) {
        let sum = 0;
        for (let p = 0; p < k; p++) {
          const left = a[z * strideA + (mode === "TN" ? p * m + i : i * k + p)];
          sum += left * b[z * strideB + (mode === "NT" ? j * k + p : p * n + j)];
        }
        c[(z * m + i) * n + j] = sum;
      }
  return c;
}

interface Case {
  mode: Mode;
  m: number;
  n: number;
  k: number;
  batch?: number;
  shareA?: boolean;
  shareB?: boolean;
  bias?: boolean;
  add?: boolean;
  accumulate?: boolean;
  variant?: MatmulVariant;
  dtype?: DType;
  /** Types of A, B, output, bias and addend, where they are not all `dtype`. */
  types?: Partial<Record<"a" | "b" | "out" | "bias" | "add", DType>>;
}

async function check(c: Case): Promise<void> {
  const { mode, m, n, k, batch = 1, variant, dtype = "f32", types = {} } = c;
  const { a: A = dtype, b: B = dtype, out: OUT = dtype, bias: BIAS = dtype, add: ADD = dtype } = types;
  const round =
    dtype === "f16" || c.types ? (v: Float32Array) => v.map((x) => Math.round(x * 64) / 64) : (v: Float32Array) => v;
  const a = round(values(m * k * (c.shareA ? 1 : batch), 1));
  const b = round(values(n * k * (c.shareB ? 1 : batch), 2));
  const bias = round(values(n, 3));
  const add = round(values(batch * m * n, 4));
  const old = round(values(batch * m * n, 5));
  const expected = reference(mode, a, b, m, n, k, batch).map(
    (v, i) => v + (c.bias ? bias[i % n] : 0) + (c.add ? add[i] : 0) + (c.accumulate ? old[i] : 0),
  );
  const y = scope(() =>
    gemm(tensor(a, [a.length], A), tensor(b, [b.length], B), mode, [m, n, k], {
      batch,
      variant,
      bias: c.bias ? tensor(bias, [n], BIAS) : undefined,
      add: c.add ? tensor(add, [add.length], ADD) : undefined,
      type: OUT,
      out: c.accumulate ? tensor(old, [old.length], OUT) : undefined,
      accumulate: c.accumulate,
    }),
  );
  const { variant: _, ...shown } = c;
  expect(y.dtype).toBe(OUT);
  const tolerance = OUT === "f16" ? 2e-3 : 1e-6 * Math.max(4, Math.sqrt(k));
  const what = `${JSON.stringify(shown)} by ${JSON.stringify(variant ?? "the table's choice")}`;
  expectClose(await y.read(), expected, tolerance, 1e-6, what);
  y.free("test");
}

const SKINNY: MatmulVariant = { family: "skinny", rows: 4 };

/** What training and decoding in half precision multiply, and the reverse of each. */
const mixes: NonNullable<Case["types"]>[] = [
  { a: "f16", b: "f16", out: "f32", bias: "f32", add: "f32" },
  { a: "f16", b: "f16", out: "f16", bias: "f32", add: "f32" },
  { a: "f32", b: "f16", out: "f16", bias: "f16", add: "f32" },
  { a: "f32", b: "f16", out: "f32", bias: "f32", add: "f16" },
  { a: "f16", b: "f32", out: "f16", bias: "f32", add: "f16" },
];

/** Matrices inside larger ones, at places that vec4 reaches and at others; what lies around the output stays as it was. */
async function checkParts(variant?: MatmulVariant): Promise<void> {
  const skinny = variant?.family === "skinny";
  for (const mode of skinny ? (["NT"] as const) : modes) {
    for (const even of mode === "NT" ? [true, false] : [true]) {
      const [m, n, k] = even ? [skinny ? 4 : 12, 20, 24] : [skinny ? 3 : 11, 1, 13];
      const [gap, first] = even ? [8, 4] : [3, 5];
      const embed = (rows: number, cols: number, seed: number) => {
        const stride = cols + gap;
        const data = values(first + rows * stride, seed);
        const inner = new Float32Array(rows * cols);
        for (let i = 0; i < inner.length; i++) inner[i] = data[placeIn(i, cols)];
        return { data, inner, operand: { of: tensor(data, [data.length]), stride, first } };
      };
      const placeIn = (i: number, cols: number) => first + Math.floor(i / cols) * (cols + gap) + (i % cols);
      const [a, b, out] = scope(() => {
        const a = embed(mode === "TN" ? k : m, mode === "TN" ? m : k, 1);
        const b = embed(mode === "NT" ? n : k, mode === "NT" ? k : n, 2);
        const out = embed(m, n, 3);
        gemm(a.operand, b.operand, mode, [m, n, k], { out: out.operand, scale: 1.7, variant });
        return [a, b, { ...out, result: out.operand.of.read() }];
      });
      const expected = Float64Array.from(out.data);
      reference(mode, a.inner, b.inner, m, n, k).forEach((v, i) => {
        expected[placeIn(i, n)] = 1.7 * v;
      });
      expectClose(await out.result, expected, 1e-5, 1e-6, `${mode} ${m}x${n}x${k} by ${JSON.stringify(variant)}`);
    }
  }
}

/** The families this adapter can run, with tiles as small as they go: compiling them is what takes time. */
function families(): MatmulVariant[] {
  const { kind, subgroups, subgroupSize, subgroupSizeMax } = caps();
  const all: MatmulVariant[] = [
    { family: "direct", rows: 4, cols: 4, lanes: 8 },
    { family: "tiled", bm: 64, bn: 32, bk: 4, rows: 8, cols: 4, splits: 1 },
  ];
  if (kind === "cpu" && subgroups && subgroupSize === subgroupSizeMax) {
    all.push({ family: "subgroup", rows: 4, cols: 32 / subgroupSize, lanes: subgroupSize });
  }
  return all;
}

const edges = [1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 32, 33, 36, 63, 64, 65];
const size = fc.constantFrom(...edges);

describe("gemm", () => {
  it("agrees with float64 for random shapes and batches", { timeout: 120_000 }, async () => {
    const shape = fc.record({
      mode: fc.constantFrom(...modes),
      m: size,
      n: size,
      k: size,
      batch: fc.constantFrom(1, 1, 2, 3),
      shareA: fc.boolean(),
      shareB: fc.boolean(),
    });
    await fc.assert(
      fc.asyncProperty(shape, (c) => check(c)),
      { numRuns: 16, seed: 7 },
    );
  });

  it("agrees where operands and output are parts of larger matrices, and scales the product", async () => {
    for (const variant of [...families(), SKINNY]) await checkParts(variant);
    const lanes = families().find((v) => v.family === "subgroup");
    if (lanes) await checkParts({ ...lanes, turn: true } as MatmulVariant);
    await checkParts({ family: "tiled", bm: 64, bn: 32, bk: 4, rows: 8, cols: 4, splits: 3 });
    await checkParts();
  });

  for (const family of ["direct", "tiled", "subgroup"]) {
    it(`agrees in the ${family} family, one past a tile, with and without vec4 access`, async ({ skip }) => {
      const variant = families().find((v) => v.family === family);
      if (!variant) return skip("not for this adapter");
      for (const mode of modes) await check({ mode, m: 68, n: 36, k: 20, variant });
      if (family !== "tiled") await check({ mode: "NT", m: 65, n: 33, k: 11, variant, bias: true, batch: 2 });
      await check({ mode: "TN", m: 65, n: 33, k: 7, variant, accumulate: true });
    });
  }

  it("agrees when operands are transposed first", async () => {
    const unrolled = families().filter((v) => v.family === "direct" || v.family === "subgroup");
    const variant = { ...(unrolled.at(-1) as MatmulVariant), turn: true } as MatmulVariant;
    for (const mode of ["NN", "NT"] as const) {
      await check({ mode, m: 67, n: 36, k: 84, variant, bias: true });
      await check({ mode, m: 5, n: 33, k: 4, variant, batch: 2, shareB: true });
    }
  });

  it("agrees in the kernel for few rows", async () => {
    await check({ mode: "NT", m: 1, n: 17, k: 132, variant: { family: "skinny", rows: 1 } });
    await check({
      mode: "NT",
      m: 3,
      n: 9,
      k: 67,
      variant: { family: "skinny", rows: 4 },
      bias: true,
      batch: 2,
      shareB: true,
    });
  });

  it("agrees where matrix units multiply f16, at edges and in parts of k", { timeout: 600_000 }, async ({ skip }) => {
    const { matrices, subgroupSizeMax: lanes } = caps();
    if (!matrices) return skip("the adapter has no subgroup matrices");
    const dtype = "f16";
    const by = (rows: number, splits = 1, cols = rows, down = 2): MatmulVariant => ({
      ...{ family: "matrix", ...matrices },
      ...{ lanes, rows, cols, down, splits },
    });
    for (const mode of modes) {
      await check({ mode, m: 72, n: 68, k: 100, variant: by(2), dtype });
      await check({ mode, m: 4, n: 12, k: 8, variant: by(2), dtype, batch: 2, shareB: true });
    }
    await check({ mode: "NT", m: 33, n: 131, k: 37, variant: by(2), dtype, bias: true, add: true });
    await check({ mode: "TN", m: 40, n: 36, k: 150, variant: by(2, 3), dtype, accumulate: true });
    await check({ mode: "NT", m: 68, n: 132, k: 40, variant: by(4), dtype });
    await check({ mode: "NT", m: 50, n: 68, k: 36, variant: by(3, 1, 1, 1), dtype });
    await check({ mode: "NN", m: 70, n: 20, k: 36, variant: by(2, 1, 3, 4), dtype, add: true });
    await check({ mode: "TN", m: 40, n: 70, k: 150, variant: by(2, 2, 1, 1), dtype });
    for (const types of mixes) {
      for (const mode of modes) await check({ mode, m: 40, n: 36, k: 20, variant: by(2), types });
      await check({ mode: "TN", m: 40, n: 36, k: 150, variant: by(2, 3), types, accumulate: true });
    }
  });

  it("takes an operand, an output, a bias and an addend of each type", async ({ skip }) => {
    if (!caps().f16) skip("the adapter has no f16");
    const tiled = (splits: number): MatmulVariant => ({
      ...{ family: "tiled", bm: 16, bn: 16, bk: 4 },
      rows: 4,
      cols: 4,
      splits,
    });
    const epilogue = { bias: true, add: true };
    for (const types of mixes) {
      await check({ mode: "NT", m: 3, n: 12, k: 20, types, ...epilogue });
      await check({ mode: "TN", m: 4, n: 9, k: 17, types, accumulate: true });
      await check({ mode: "NN", m: 3, n: 5, k: 12, types, variant: { family: "direct", rows: 2, cols: 2, lanes: 8 } });
      await check({ mode: "NT", m: 9, n: 12, k: 20, types, variant: tiled(1), ...epilogue });
      await check({ mode: "TN", m: 12, n: 9, k: 17, types, variant: tiled(2), accumulate: true });
      await check({ mode: "NT", m: 3, n: 20, k: 24, types, variant: SKINNY, ...epilogue });
    }
    const types = mixes[2];
    await check({ mode: "NT", m: 4, n: 1, k: 24, types });
    await check({ mode: "NN", m: 3, n: 8, k: 12, types, batch: 2, shareB: true });
  });

  it("splits long sums and adds them up in a fixed order", async () => {
    const variant: MatmulVariant = { family: "tiled", bm: 64, bn: 32, bk: 4, rows: 8, cols: 4, splits: 5 };
    await check({ mode: "TN", m: 12, n: 20, k: 503, variant, accumulate: true });
    await check({ mode: "TN", m: 12, n: 20, k: 503, variant, bias: true, add: true, batch: 2 });
  });

  it("treats one column as one row of the transposed product", async () => {
    await check({ mode: "NT", m: 70, n: 1, k: 6 });
    await check({ mode: "NT", m: 70, n: 1, k: 96 });
    await check({ mode: "NT", m: 5, n: 1, k: 96, bias: true });
    await check({ mode: "NT", m: 5, n: 1, k: 6, batch: 2, shareB: true });
  });

  it("gives the addend where there is nothing to sum", async () => {
    await check({ mode: "NT", m: 3, n: 5, k: 0, add: true });
    await check({
      mode: "TN",
      m: 4,
      n: 8,
      k: 0,
      variant: { family: "tiled", bm: 64, bn: 32, bk: 4, rows: 8, cols: 4, splits: 1 },
    });
  });

  it("sums in f32 when the operands are f16", async ({ skip }) => {
    if (!caps().f16) skip("the adapter has no f16");
    for (const mode of modes) {
      await check({ mode, m: 33, n: 36, k: 40, dtype: "f16", bias: true });
      await check({ mode, m: 20, n: 33, k: 31, dtype: "f16", accumulate: true });
    }
  });

  it("gives the same bits every time", async () => {
    const a = tensor(values(200 * 64, 1), [200, 64]);
    const b = tensor(values(200 * 48, 2), [200, 48]);
    const first = await scope(() => gemm(a, b, "TN", [64, 48, 200])).read();
    const second = await scope(() => gemm(a, b, "TN", [64, 48, 200])).read();
    expect(second).toEqual(first);
  });

  it("names what does not fit", () => {
    scope(() => {
      const a = tensor(values(12, 1), [3, 4]);
      expect(() => gemm(a, a, "NN", [3, 4, 4])).toThrow(/B has shape \[3,4\], not 16 elements/);
      expect(() => gemm(a, a, "NT", [3, 3, 4], { bias: tensor([1, 2]) })).toThrow(/the bias has shape \[2\]/);
      expect(() => gemm(a, a, "NT", [3, 3, 4], { accumulate: true })).toThrow(/needs an output/);
      expect(() => gemm(a, tensor(new Uint32Array(12)), "NT", [3, 3, 4])).toThrow(
        /B holds u32: products are of f32 and f16/,
      );
      const part = { of: a, stride: 4, first: 2 };
      expect(() => gemm(part, a, "NT", [3, 3, 4])).toThrow(/A: \[3,4\] at 2 by 4 passes its 12 elements/);
      expect(() => gemm({ ...part, stride: 2, first: 0 }, a, "NT", [3, 3, 2], { batch: 2 })).toThrow(/have no batch/);
    });
  });
});

describe("linear", () => {
  const shapes: [number, number, number][] = [
    [5, 7, 3],
    [33, 16, 1],
  ];

  it("and its gradients agree with float64", async () => {
    for (const [rows, inSize, outSize] of shapes) {
      const x = input([rows, inSize], 1);
      const w = input([outSize, inSize], 2);
      const bias = input([outSize], 3);
      const residual = input([rows, outSize], 4);
      const product = (a: Float64Array, b: Float64Array) => reference("NT", a, b, rows, outSize, inSize);
      await checkOp(
        ([a, b]) => linear(a, b),
        [x, w],
        ([a, b]) => product(a, b),
      );
      await checkOp(
        ([a, b, c, d]) => linear(a, b, { bias: c, residual: d }),
        [x, w, bias, residual],
        ([a, b, c, d]) => product(a, b).map((v, i) => v + c[i % outSize] + d[i]),
      );
    }
  });

  it("adds the gradients of an input that is also the residual", async () => {
    await checkOp(
      ([a, w]) => linear(a, w, { residual: a }),
      [input([5, 6], 1), input([6, 6], 2)],
      ([a, w]) => reference("NT", a, w, 5, 6, 6).map((v, i) => v + a[i]),
    );
  });

  it("skips what is frozen", async () => {
    await checkOp(
      ([a, w]) => linear(a, w),
      [input([5, 6], 1), input([4, 6], 2)],
      ([a, w]) => reference("NT", a, w, 5, 4, 6),
      { wrt: [0] },
    );
  });

  it("keeps leading dimensions and refuses rows of another width", () => {
    noGrad(() =>
      scope(() => {
        const w = tensor(values(12, 1), [3, 4]);
        expect(linear(tensor(values(24, 2), [2, 3, 4]), w).shape).toEqual([2, 3, 3]);
        expect(() => linear(tensor(values(10, 2), [2, 5]), w)).toThrow(/rows of \[2,5\]/);
      }),
    );
  });
});

describe("matmul", () => {
  const cases = [
    { mode: "NN", options: {} },
    { mode: "NT", options: { transB: true } },
    { mode: "TN", options: { transA: true } },
  ] as const;
  const [batch, m, n, k] = [2, 5, 6, 3];

  it("and its gradients agree with float64 in batches, also with a shared operand", async () => {
    for (const { mode, options } of cases) {
      const a = mode === "TN" ? [k, m] : [m, k];
      const b = mode === "NT" ? [n, k] : [k, n];
      for (const [leadA, leadB] of [
        [[], []],
        [[batch], [batch]],
        [[batch], []],
        [[], [1, batch]],
      ]) {
        const count = [...leadA, ...leadB].length > 0 ? batch : 1;
        await checkOp(
          ([x, y]) => matmul(x, y, options),
          [input([...leadA, ...a], 1), input([...leadB, ...b], 2)],
          ([x, y]) => reference(mode, x, y, m, n, k, count),
        );
      }
    }
  });

  it("refuses shapes that do not fit", () => {
    scope(() => {
      const a = tensor(values(12, 1), [3, 4]);
      expect(() => matmul(a, a)).toThrow(/inner dimensions differ/);
      expect(() => matmul(a, a, { transA: true, transB: true })).toThrow(/at most one/);
      expect(() => matmul(a, tensor([1, 2, 3, 4]))).toThrow(/two dimensions/);
    });
  });
});

describe("the table of variants", () => {
  const gpu = { ...{ kind: "hardware" as const, name: "", subgroups: true, subgroupSize: 32, subgroupSizeMax: 32 } };
  const rest = { f16: true, immediates: true, timestamps: true, maxInvocations: 256, maxWorkgroupStorage: 16384 };
  const big = { ...gpu, ...rest, maxBinding: 1 << 27, maxBuffer: 1 << 28 };
  const pick = (over: object, mode: Mode, m: number, n: number, k: number) =>
    matmulVariant({ ...big, ...over }, { mode, m, n, k, batch: 1 });

  it("keeps subgroup kernels to adapters whose subgroup size is fixed", () => {
    const cpu = { kind: "cpu", subgroupSize: 8, subgroupSizeMax: 8 };
    const lanes = { family: "subgroup", rows: 32, cols: 4, lanes: 8 };
    expect(pick(cpu, "TN", 512, 512, 512)).toEqual(lanes);
    expect(pick(cpu, "NT", 512, 512, 512)).toEqual({ ...lanes, turn: true });
    expect(pick(cpu, "NT", 512, 512, 510)).toEqual(lanes);
    expect(pick({ ...cpu, subgroupSizeMax: 16 }, "NT", 512, 512, 512).family).toBe("direct");
    expect(pick({ ...cpu, subgroups: false }, "NT", 512, 512, 512).family).toBe("direct");
    expect(pick({ subgroupSize: 8 }, "NT", 512, 512, 512).family).toBe("tiled");
  });

  it("fits the default limits", () => {
    for (const mode of modes) {
      for (const m of [1, 2, 5, 9, 10, 33, 64, 65, 96, 130, 512, 8192]) {
        for (const n of [1, 16, 40, 576, 8192]) {
          for (const k of [64, 512, 16384]) {
            const v = pick({}, mode, m, n, k);
            if (v.family === "skinny" && mode === "NT" && m <= 8) continue;
            if (v.family !== "tiled") throw new Error("a GPU takes the tiled kernel");
            expect(tileInvocations(v)).toBeLessThanOrEqual(256);
            expect(tileBytes(v)).toBeLessThanOrEqual(16384);
            expect([v.bm % v.rows, v.bn % v.cols, v.cols % 4, v.bk % 4]).toEqual([0, 0, 0, 0]);
          }
        }
      }
    }
  });

  it("computes little in vain for any number of rows", () => {
    const up = (x: number, step: number) => Math.ceil(x / step) * step;
    const computed = (v: MatmulVariant, m: number, n: number, k: number) => {
      if (v.family === "skinny") return v.rows * up(n, 8) * up(k, 64);
      if (v.family === "matrix") {
        const { bm, bn } = matrixOutputs(v);
        return up(m, bm) * up(n, bn) * up(k, MATRIX_STEPS);
      }
      if (v.family !== "tiled") throw new Error("a GPU takes the tiled or the skinny kernel");
      return up(m, v.bm) * up(n, v.bn) * up(k, v.bk);
    };
    for (const [out, inner] of [
      [576, 576],
      [960, 576],
      [1536, 576],
      [3072, 576],
      [576, 1536],
      [49152, 576],
    ]) {
      for (let m = 1; m <= 256; m++) {
        for (const [mode, n, k] of [
          ["NT", out, inner],
          ["NN", inner, out],
        ] as const) {
          const shape = { mode, m, n, k, batch: 1 };
          for (const [what, variant] of [
            ["f32", matmulVariant(big, shape)],
            ["f16", matmulVariant({ ...big, matrices: { m: 16, n: 16, k: 16 } }, { ...shape, T: "f16" })],
            ["f16 by eights", matmulVariant({ ...big, matrices: { m: 8, n: 8, k: 8 } }, { ...shape, T: "f16" })],
          ] as const) {
            const ratio = computed(variant, m, n, k) / (m * n * k);
            expect(ratio, `${what} ${mode} ${m}x${n}x${k}`).toBeLessThanOrEqual(1.3);
          }
        }
      }
    }
  });

  it("takes matrix units for f16 alone, and only tiles that fit", () => {
    const matrices = { m: 16, n: 16, k: 16 };
    const half = (over: object, ...[mode, m, n, k]: [Mode, number, number, number]) =>
      matmulVariant({ ...big, matrices, ...over }, { mode, m, n, k, batch: 1, T: "f16" });
    const wide = { maxWorkgroupStorage: 32768 };
    expect(half(wide, "NT", 8192, 576, 576)).toEqual({
      ...{ family: "matrix", ...matrices, lanes: 32 },
      ...{ rows: 4, cols: 3, down: 2, splits: 1 },
    });
    expect(half({}, "NT", 8192, 576, 576)).toMatchObject({ family: "matrix", rows: 2, cols: 2, down: 2 });
    expect(half({}, "TN", 576, 576, 8192)).toMatchObject({ family: "matrix", rows: 2, cols: 2, down: 2 });
    expect(half({}, "NT", 8192, 16, 576)).toMatchObject({ family: "matrix", rows: 1, cols: 1, down: 4 });
    expect(half(wide, "NT", 48, 49152, 576)).toMatchObject({ family: "matrix", rows: 3, cols: 2, down: 1 });
    expect(half({}, "NT", 33, 576, 576).family).toBe("tiled");
    expect(half({ subgroupSizeMax: 128 }, "NT", 8192, 576, 576).family).toBe("tiled");
    expect(half({}, "NT", 8, 576, 576).family).toBe("skinny");
    expect(pick({ matrices }, "NT", 8192, 576, 576).family).toBe("tiled");
  });

  it("splits a weight gradient's rows of tokens until the device is busy", () => {
    const busy = (over: object, ...shape: [Mode, number, number, number]) => {
      const v = pick(over, ...shape);
      if (v.family !== "tiled") throw new Error("a GPU takes the tiled kernel");
      return Math.ceil(shape[1] / v.bm) * Math.ceil(shape[2] / v.bn) * v.splits;
    };
    expect(busy({}, "TN", 960, 576, 8192)).toBeGreaterThan(512);
    expect(busy({ saturating: 32 }, "TN", 960, 576, 8192)).toBeLessThan(256);
    expect(busy({ saturating: 32 }, "NT", 16, 576, 576)).toBeLessThan(busy({}, "NT", 16, 576, 576));
    expect(pick({}, "NT", 8192, 576, 1536)).toMatchObject({ bm: 128, bn: 64, rows: 8, cols: 8, splits: 1 });
  });
});
