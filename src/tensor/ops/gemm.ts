/** The raw matrix product: checks, choice of variant, and one launcher per kernel family. Sums are in f32 throughout. */
import { caps } from "../../gpu/device.ts";
import { type Kernel, kernel } from "../../gpu/kernel.ts";
import { acquire, type BufferView, release } from "../../gpu/pool.ts";
import { addWork, run } from "../../gpu/stream.ts";
import { type MatmulVariant, matmulVariant } from "../../gpu/variants.ts";
import { finishOne, putFour, readFour, readQuantized } from "../../shaders/matmul-access.wgsl.ts";
import { SKINNY_MATMUL } from "../../shaders/matmul-skinny.wgsl.ts";
import { MATMUL_COMBINE, TILED_MATMUL } from "../../shaders/matmul-tiled.wgsl.ts";
import {
  type Epilogue,
  type MatmulMode,
  unrolledMatmul,
  vectorCols,
  vectorRows,
} from "../../shaders/matmul-unrolled.wgsl.ts";
import { quantizedAccess } from "../../shaders/quantized.wgsl.ts";
import { TRANSPOSE } from "../../shaders/transpose.wgsl.ts";
import { bytesOf, type DType, empty, type Shape, Tensor } from "../core.ts";
import type { QuantizedFormat } from "../quantize.ts";
import { QuantizedWeight } from "../quantized.ts";

/** A whole tensor, part of one by its memory (then f32), or, as the second operand, a quantized weight. */
export type Operand = Tensor | BufferView | QuantizedWeight;

/** Rows and columns of the output, and the length of the sums. */
export type ProductSizes = readonly [m: number, n: number, k: number];

/** What a matrix product takes besides its operands. */
export interface GemmOptions<Out extends Tensor | BufferView = Tensor | BufferView> {
  /** Number of products; an operand that holds one matrix is shared by all of them. Default 1. */
  batch?: number;
  /** [n], added to every row. */
  bias?: Tensor;
  /** As large as the output, added to it. Not the output itself: that is `accumulate`. */
  add?: Tensor;
  /** Shape of the new tensor; default [m,n] or [batch,m,n]. */
  shape?: Shape;
  /** Write here instead of into a new tensor. */
  out?: Out;
  /** Add to what `out` holds. */
  accumulate?: boolean;
  /** This variant instead of the table's choice; for tests and benches. */
  variant?: MatmulVariant;
}

interface Product extends Epilogue {
  mode: MatmulMode;
  m: number;
  n: number;
  k: number;
  batch: number;
  T: string;
  a: BufferView;
  /** The memory of B: values, and the scales of a quantized weight. */
  b: readonly BufferView[];
  /** How B is stored where it is quantized, and the elements from one of its rows to the next. */
  format: QuantizedFormat | null;
  ldb: number;
  /** Bias and addend, those that there are. */
  extras: BufferView[];
  out: BufferView;
  strideA: number;
  strideB: number;
}

/**
 * C[m,n] = op(A) op(B), plus a bias, a matrix or the previous contents; returns the output. Not recorded for gradients.
 * NN: A[m,k] B[k,n]. NT: A[m,k] B[n,k]. TN: A[k,m] B[k,n]. Throws when sizes or types do not fit.
 */
export function gemm<Out extends Tensor | BufferView = Tensor>(
  a: Tensor | BufferView,
  b: Operand,
  mode: MatmulMode,
  sizes: ProductSizes,
  options: GemmOptions<Out> = {},
): Out {
  const [m, n, k] = sizes;
  const { batch = 1, bias, add, accumulate = false } = options;
  const T = check(a, b, mode, sizes, options);
  const shape = options.shape ?? (batch > 1 ? [batch, m, n] : [m, n]);
  const out = options.out ?? empty(shape, T as DType, "matmul");
  const extras: BufferView[] = [];
  if (bias) extras.push(bias.view);
  if (add) extras.push(add.view);
  const strideA = elements(a, T) < batch * m * k ? 0 : m * k;
  const strideB = elements(b, T) < batch * n * k ? 0 : n * k;
  const viewA = viewOf(a);
  const quantized = b instanceof QuantizedWeight ? b : null;
  const viewsB = b instanceof QuantizedWeight ? b.buffers : [viewOf(b)];
  // One column, e.g. a score head: the same numbers as one row of the transposed product.
  const turn = n === 1 && mode === "NT" && !bias && !quantized;
  const product: Product = {
    mode,
    m: turn ? 1 : m,
    n: turn ? m : n,
    k,
    batch,
    T,
    a: turn ? viewsB[0] : viewA,
    b: turn ? [viewA] : viewsB,
    format: quantized?.format ?? null,
    ldb: quantized ? quantized.stride : mode === "NT" ? k : n,
    extras,
    out: viewOf(out),
    strideA: turn ? strideB : strideA,
    strideB: turn ? strideA : strideB,
    bias: !!bias,
    add: !!add,
    accumulate,
  };
  if (batch * m * n > 0) launch(product, options.variant ?? matmulVariant(caps(), product));
  addWork(2 * batch * m * n * k);
  return out as Out;
}

const viewOf = (t: Tensor | BufferView): BufferView => (t instanceof Tensor ? t.view : t);
const elements = (t: Operand, T: string): number => ("shape" in t ? t.size : Math.floor(t.size / bytesOf(T as DType)));

/** The common type of the operands. */
function check(
  a: Tensor | BufferView,
  b: Operand,
  mode: MatmulMode,
  [m, n, k]: ProductSizes,
  { batch = 1, bias, add, out, accumulate }: GemmOptions,
): string {
  const T = typeOf(a);
  const problem =
    misfit("A", a, T, batch * m * k, m * k) ??
    misfit("B", b, T, batch * n * k, n * k) ??
    misfit("the bias", bias, T, n) ??
    misfit("the addend", add, T, batch * m * n) ??
    misfit("the output", out, T, batch * m * n) ??
    (accumulate && !out ? "accumulate needs an output to add to" : null);
  if (problem === null) return T;
  throw new Error(`matmul ${mode} [m=${m}, n=${n}, k=${k}${batch > 1 ? `, batch=${batch}` : ""}]: ${problem}`);
}

const typeOf = (t: Tensor | BufferView): string => (t instanceof Tensor ? t.dtype : "f32");

/** What is wrong with an operand that must have `T` elements, `size` of them or `shared` of them. */
function misfit(name: string, t: Operand | undefined, T: string, size: number, shared = size): string | null {
  if (!t) return null;
  const type = t instanceof QuantizedWeight ? T : typeOf(t); // a quantized weight is unpacked to f32 as it is read
  if (type !== T || T === "u32") return `cannot multiply ${T} with ${type}`;
  const has = elements(t, T);
  if ("shape" in t ? has === size || has === shared : has >= Math.min(size, shared)) return null;
  return `${name} has ${"shape" in t ? `shape [${t.shape}]` : `${has} elements`}, not ${size} elements`;
}

function launch(p: Product, variant: MatmulVariant): void {
  if (variant.family === "tiled") tiled(p, variant);
  else if (variant.family === "skinny") skinny(p, variant);
  else if (variant.turn && !p.format) turned(p, variant);
  else unrolled(p, variant);
}

const kernels = new Map<string, Kernel>();
const sizes = {
  m: "u32",
  n: "u32",
  k: "u32",
  sa: "u32",
  sb: "u32",
  sc: "u32",
  splits: "u32",
  span: "u32",
  ldb: "u32",
} as const;
const scalars = ({ m, n, k, strideA, strideB, ldb }: Product, splits = 1, span = k): number[] => [
  m,
  n,
  k,
  strideA,
  strideB,
  m * n,
  splits,
  span,
  ldb,
];

const epilogueName = ({ bias, add, accumulate }: Epilogue): string =>
  `${bias ? "_bias" : ""}${add ? "_add" : ""}${accumulate ? "_acc" : ""}`;

/** The kernel of this name, kind of B and epilogue, declared on first use. `vec` says which bindings are vec4. */
function declare(
  name: string,
  format: QuantizedFormat | null,
  e: Epilogue,
  vec: { a: boolean; b: boolean; c: boolean },
  code: () => string,
  type = "T",
  subgroups = false,
): Kernel {
  const widths = `${vec.a ? 4 : 1}${vec.b ? 4 : 1}${vec.c ? 4 : 1}`;
  const full = `matmul_${name}${format ? `_${format}` : ""}_${widths}${epilogueName(e)}`;
  let found = kernels.get(full);
  if (!found) {
    const element = (wide: boolean, scalar = "T") => (wide ? `vec4<${scalar}>` : scalar);
    found = kernel({
      name: full,
      code: format ? quantizedAccess[format].code + code() : code(),
      bindings: {
        a: `read ${element(vec.a)}`,
        ...(format ? quantizedAccess[format].bindings : { b: `read ${element(vec.b)}` }),
        ...(e.bias ? { bias: `read ${element(vec.c)}` } : {}),
        ...(e.add ? { add: `read ${element(vec.c)}` } : {}),
        c: `write ${element(vec.c, type)}`,
      },
      scalars: sizes,
      subgroups,
    });
    kernels.set(full, found);
  }
  return found;
}

const readB = (p: Product, vec: boolean): string => (p.format ? readQuantized : readFour("B", vec));

const alongK = (mode: MatmulMode) => ({ a: mode !== "TN", b: mode === "NT" });

function unrolled(p: Product, variant: Extract<MatmulVariant, { lanes: number }>): void {
  const { family, rows, cols, lanes } = variant;
  const along = alongK(p.mode);
  const vecA = along.a ? p.k % 4 === 0 : p.m % 4 === 0 && vectorRows(family, rows, lanes);
  const { mode, bias, add, accumulate } = p;
  const quantized = p.format !== null;
  const vecB = along.b ? p.k % 4 === 0 : (quantized || p.n % 4 === 0) && vectorCols(cols);
  const code = () => unrolledMatmul({ family, mode, rows, cols, lanes, vecA, vecB, quantized, bias, add, accumulate });
  const subgroups = family === "subgroup";
  const name = `${family}_${mode}_${rows}x${lanes}x${cols}`;
  const k = declare(name, p.format, p, { a: vecA, b: vecB, c: false }, code, "T", subgroups);
  const tall = subgroups ? rows : 8 * rows;
  const buffers = [p.a, ...p.b, ...p.extras, p.out];
  run(k, { T: p.T }, buffers, scalars(p), Math.ceil(p.n / (cols * lanes)), Math.ceil(p.m / tall), p.batch);
}

/** Transposes what is contiguous along k and multiplies in mode TN, whose loads are contiguous. */
function turned(p: Product, variant: Extract<MatmulVariant, { lanes: number }>): void {
  const a = transposed(p.a, p.m, p.k, p.strideA > 0 ? p.batch : 1, p.T);
  const b = p.mode === "NT" ? transposed(p.b[0], p.n, p.k, p.strideB > 0 ? p.batch : 1, p.T) : null;
  unrolled({ ...p, mode: "TN", a, b: b ? [b] : p.b, ldb: p.n }, variant);
  release(a);
  if (b) release(b);
}

const transpose = kernel({
  name: "transpose",
  code: TRANSPOSE,
  bindings: { x: "read vec4<T>", y: "write T" },
  scalars: { rows: "u32", cols4: "u32" },
});

function transposed(x: BufferView, rows: number, cols: number, batch: number, T: string): BufferView {
  const y = acquire(batch * rows * cols * bytesOf(T as DType), "a transposed operand");
  const [WG, SPAN, cols4] = [64, 16, cols / 4];
  run(transpose, { T, WG, SPAN }, [x, y], [rows, cols4], Math.ceil(rows / WG), Math.ceil(cols4 / SPAN), batch);
  return y;
}

const PLAIN: Epilogue = { bias: false, add: false, accumulate: false };

function tiled(p: Product, { bm, bn, bk, splits }: Extract<MatmulVariant, { family: "tiled" }>): void {
  const along = alongK(p.mode);
  const vec = {
    a: (along.a ? p.k : p.m) % 4 === 0,
    b: p.format !== null || (along.b ? p.k : p.n) % 4 === 0,
    c: p.n % 4 === 0,
  };
  const span = Math.max(1, Math.ceil(p.k / splits / bk)) * bk;
  const used = Math.max(1, Math.ceil(p.k / span));
  const split = used > 1;
  const epilogue = split ? PLAIN : p;
  const k = declare(
    `tiled${split ? "_split" : ""}_${p.mode}`,
    p.format,
    epilogue,
    vec,
    () => [readFour("A", vec.a), readB(p, vec.b), putFour(epilogue, vec.c), TILED_MATMUL].join("\n"),
    "OUT",
  );
  const out = split ? acquire(4 * used * p.batch * p.m * p.n, "matmul") : p.out;
  const consts = { T: p.T, OUT: split ? "f32" : p.T, BM: bm, BN: bn, BK: bk, A_ALONG_K: along.a, B_ALONG_K: along.b };
  const grid: [number, number, number] = [Math.ceil(p.n / bn), Math.ceil(p.m / bm), p.batch * used];
  run(k, consts, [p.a, ...p.b, ...(split ? [] : p.extras), out], scalars(p, used, span), ...grid);
  if (split) {
    combine(p, out, used);
    release(out);
  }
}

function combine(p: Product, parts: BufferView, splits: number): void {
  const name = `matmul_combine${epilogueName(p)}`;
  let k = kernels.get(name);
  if (!k) {
    k = kernel({
      name,
      code: finishOne(p) + MATMUL_COMBINE,
      bindings: {
        parts: "read f32",
        ...(p.bias ? { bias: "read T" } : {}),
        ...(p.add ? { add: "read T" } : {}),
        c: "write T",
      },
      scalars: { n: "u32", sc: "u32", size: "u32", splits: "u32" },
    });
    kernels.set(name, k);
  }
  const size = p.batch * p.m * p.n;
  run(k, { T: p.T }, [parts, ...p.extras, p.out], [p.n, p.m * p.n, size, splits], Math.ceil(size / 64));
}

function skinny(p: Product, { rows }: Extract<MatmulVariant, { family: "skinny" }>): void {
  if (p.mode !== "NT" || p.m > rows) throw new Error(`the skinny kernel takes mode NT and at most ${rows} rows`);
  const vec = { a: p.k % 4 === 0, b: p.format !== null || p.k % 4 === 0, c: false };
  const code = () => [readFour("A", vec.a), readB(p, vec.b), finishOne(p), SKINNY_MATMUL].join("\n");
  const k = declare("skinny", p.format, p, vec, code);
  run(k, { T: p.T, ROWS: rows }, [p.a, ...p.b, ...p.extras, p.out], scalars(p), Math.ceil(p.n / 8), 1, p.batch);
}
