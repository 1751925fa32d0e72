/** Launches a matrix product: one launcher per family of kernels. */
import { type Kernel, kernel } from "../../gpu/kernel.ts";
import { acquire, type BufferView, release } from "../../gpu/pool.ts";
import type { MatmulVariant } from "../../gpu/product.ts";
import { run } from "../../gpu/stream.ts";
import { finishOne, putFour, readFour, readQuantized } from "../../shaders/matmul-access.wgsl.ts";
import { MATRIX_STEPS, matrixMatmul, matrixOutputs } from "../../shaders/matmul-matrix.wgsl.ts";
import { SKINNY_MATMUL } from "../../shaders/matmul-skinny.wgsl.ts";
import { MATMUL_COMBINE, tiledMatmul } from "../../shaders/matmul-tiled.wgsl.ts";
import {
  type Epilogue,
  type MatmulMode,
  unrolledMatmul,
  vectorCols,
  vectorRows,
} from "../../shaders/matmul-unrolled.wgsl.ts";
import { quantizedAccess } from "../../shaders/quantized.wgsl.ts";
import { TRANSPOSE } from "../../shaders/transpose.wgsl.ts";
import { bytesOf, type DType } from "../core.ts";
import { sumLater } from "../late-sums.ts";
import type { QuantizedFormat } from "../quantize.ts";

/** A matrix product as kernels see it. */
export interface Product extends Epilogue {
  mode: MatmulMode;
  m: number;
  n: number;
  k: number;
  batch: number;
  /** "f16" where an operand or the output is. */
  T: string;
  /** The types of A, of B where it is not quantized, of the output, and of bias and addend. */
  types: Readonly<{ T: string; TB: string; OUT: string; BIAS?: string; ADD?: string }>;
  a: BufferView;
  /** The memory of B: values, and the scales of a quantized weight. */
  b: readonly BufferView[];
  /** How B is stored where it is quantized, and the elements from one of its rows to the next. */
  format: QuantizedFormat | null;
  ldb: number;
  /** The same of A and the output, and where each of the three begins. */
  lda: number;
  ldc: number;
  firstA: number;
  firstB: number;
  firstC: number;
  scale: number;
  /** Bias and addend, those that there are. */
  extras: BufferView[];
  out: BufferView;
  strideA: number;
  strideB: number;
  /** Takes the parts, where they may be left unsummed, and how to add them up. */
  leave: ((parts: BufferView, splits: number, addUp: () => void) => void) | null;
  /** Parts of it may be added up later; it lies in the output as in a whole one, and nothing else is to be done to it. */
  late: boolean;
}

/** Enqueues the product by this variant. */
export function launch(p: Product, variant: MatmulVariant): void {
  if (variant.family === "tiled") tiled(p, variant);
  else if (variant.family === "matrix") matrix(p, variant);
  else if (variant.family === "skinny") skinny(p, variant);
  else if (variant.turn && turns(p)) turned(p, variant);
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
  lda: "u32",
  ldb: "u32",
  ldc: "u32",
  firstA: "u32",
  firstB: "u32",
  firstC: "u32",
  scale: "f32",
} as const;
const scalars = (p: Product, splits = 1, span = p.k): number[] => [
  p.m,
  p.n,
  p.k,
  p.strideA,
  p.strideB,
  p.m * p.n,
  splits,
  span,
  p.lda,
  p.ldb,
  splits > 1 ? p.n : p.ldc,
  p.firstA,
  p.firstB,
  splits > 1 ? 0 : p.firstC,
  splits > 1 ? 1 : p.scale,
];

const epilogueName = ({ bias, add, accumulate }: Epilogue): string =>
  `${bias ? "_bias" : ""}${add ? "_add" : ""}${accumulate ? "_acc" : ""}`;

/** All of them are multiples of 4, so that a binding as vec4 reaches what they count. */
const fours = (...counts: number[]): boolean => counts.every((count) => count % 4 === 0);

/** The kernel of this name, kind of B and epilogue, declared on first use. `vec` says which bindings are vec4. */
function declare(
  name: string,
  format: QuantizedFormat | null,
  e: Epilogue,
  vec: { a: boolean; b: boolean; c: boolean },
  code: () => string,
  subgroups = false,
  matrices = false,
): Kernel {
  const widths = `${vec.a ? 4 : 1}${vec.b ? 4 : 1}${vec.c ? 4 : 1}`;
  const full = `matmul_${name}${format ? `_${format}` : ""}_${widths}${epilogueName(e)}`;
  let found = kernels.get(full);
  if (!found) {
    const element = (wide: boolean, scalar: string) => (wide ? `vec4<${scalar}>` : scalar);
    found = kernel({
      name: full,
      code: format ? quantizedAccess[format].code + code() : code(),
      bindings: {
        a: `read ${element(vec.a, "T")}`,
        ...(format ? quantizedAccess[format].bindings : { b: `read ${element(vec.b, "TB")}` }),
        ...(e.bias ? { bias: `read ${element(vec.c, "BIAS")}` } : {}),
        ...(e.add ? { add: `read ${element(vec.c, "ADD")}` } : {}),
        c: `write ${element(vec.c, "OUT")}`,
      },
      scalars: sizes,
      subgroups,
      matrices,
    });
    kernels.set(full, found);
  }
  return found;
}

const readB = (p: Product, vec: boolean): string => (p.format ? readQuantized : readFour("B", vec));

const alongK = (mode: MatmulMode) => ({ a: mode !== "TN", b: mode === "NT" });

function unrolled(p: Product, variant: Extract<MatmulVariant, { family: "subgroup" | "direct" }>): void {
  const { family, rows, cols, lanes } = variant;
  const along = alongK(p.mode);
  const { mode, bias, add, accumulate } = p;
  const quantized = p.format !== null;
  const vecA = fours(p.lda, p.firstA, along.a ? p.k : p.m) && (along.a || vectorRows(family, rows, lanes));
  const evenB = along.b ? p.k % 4 === 0 : quantized || p.n % 4 === 0;
  const vecB = evenB && fours(p.ldb, p.firstB) && (along.b || vectorCols(cols));
  const code = () => unrolledMatmul({ family, mode, rows, cols, lanes, vecA, vecB, quantized, bias, add, accumulate });
  const subgroups = family === "subgroup";
  const name = `${family}_${mode}_${rows}x${lanes}x${cols}`;
  const k = declare(name, p.format, p, { a: vecA, b: vecB, c: false }, code, subgroups);
  const tall = subgroups ? rows : 8 * rows;
  const buffers = [p.a, ...p.b, ...p.extras, p.out];
  run(k, { ...p.types }, buffers, scalars(p), Math.ceil(p.n / (cols * lanes)), Math.ceil(p.m / tall), p.batch);
}

/** What is contiguous along k can be transposed, four elements at a time. */
const turns = (p: Product): boolean =>
  p.mode !== "TN" && !p.format && fours(p.k, p.lda, p.firstA) && (p.mode !== "NT" || fours(p.ldb, p.firstB));

/** Transposes what is contiguous along k and multiplies in mode TN, whose loads are contiguous. */
function turned(p: Product, variant: Extract<MatmulVariant, { family: "subgroup" | "direct" }>): void {
  const a = transposed(p.a, p.m, p.k, [p.lda, p.firstA], p.strideA > 0 ? p.batch : 1, p.types.T);
  const ofB = [p.ldb, p.firstB] as const;
  const b = p.mode === "NT" ? transposed(p.b[0], p.n, p.k, ofB, p.strideB > 0 ? p.batch : 1, p.types.TB) : null;
  const both = { mode: "TN", a, lda: p.m, firstA: 0 } as const;
  unrolled({ ...p, ...both, ...(b ? { b: [b], ldb: p.n, firstB: 0 } : {}) }, variant);
  release(a);
  if (b) release(b);
}

const transpose = kernel({
  name: "transpose",
  code: TRANSPOSE,
  bindings: { x: "read vec4<T>", y: "write T" },
  scalars: { rows: "u32", cols4: "u32", stride4: "u32", first4: "u32" },
});

function transposed(
  x: BufferView,
  rows: number,
  cols: number,
  [stride, first]: readonly [number, number],
  batch: number,
  T: string,
): BufferView {
  const y = acquire(batch * rows * cols * bytesOf(T as DType), "a transposed operand");
  const [WG, SPAN, cols4] = [64, 16, cols / 4];
  run(
    transpose,
    { T, WG, SPAN },
    [x, y],
    [rows, cols4, stride / 4, first / 4],
    Math.ceil(rows / WG),
    Math.ceil(cols4 / SPAN),
    batch,
  );
  return y;
}

const PLAIN: Epilogue = { bias: false, add: false, accumulate: false };

function tiled(p: Product, tile: Extract<MatmulVariant, { family: "tiled" }>): void {
  const { bm, bn, bk, rows, cols } = tile;
  const along = alongK(p.mode);
  const vec = { ...vectorsOf(p), c: fours(p.n, p.ldc, p.firstC) };
  if (!along.a && rows % 4 !== 0) vec.a = false;
  inParts(p, tile, (e, split) => {
    const code = () => [readFour("A", vec.a), readB(p, vec.b), putFour(e, vec.c), tiledMatmul(tile, along)].join("\n");
    return declare(`tiled${split}_${p.mode}_${bm}x${bn}x${bk}_${rows}x${cols}`, p.format, e, vec, code);
  });
}

function matrix(p: Product, tile: Extract<MatmulVariant, { family: "matrix" }>): void {
  const along = alongK(p.mode);
  const vec = { ...vectorsOf(p), c: false };
  inParts(p, { ...matrixOutputs(tile), bk: MATRIX_STEPS, splits: tile.splits }, (e, split) => {
    const access = () => [readFour("A", vec.a), readB(p, vec.b), finishOne(e)];
    const code = () => [...access(), matrixMatmul(tile, along)].join("\n");
    const { m, n, k, lanes, sums } = tile;
    const name = `matrix${split}_${p.mode}_${m}x${n}x${k}_${sums}x${lanes}`;
    return declare(name, p.format, e, vec, code, true, true);
  });
}

/** Which operands a kernel with tiles can read as vec4. */
function vectorsOf(p: Product): { a: boolean; b: boolean } {
  const along = alongK(p.mode);
  return {
    a: fours(along.a ? p.k : p.m, p.lda, p.firstA),
    b: p.format !== null || fours(along.b ? p.k : p.n, p.ldb, p.firstB),
  };
}

/** A product by tiles, whose k may be split: then the parts are added up in a second step. */
function inParts(
  p: Product,
  { bm, bn, bk, splits }: { bm: number; bn: number; bk: number; splits: number },
  kernelFor: (epilogue: Epilogue, split: string) => Kernel,
): void {
  const span = Math.max(1, Math.ceil(p.k / splits / bk)) * bk;
  const used = Math.max(1, Math.ceil(p.k / span));
  const split = used > 1;
  const k = kernelFor(split ? PLAIN : p, split ? "_split" : "");
  const out = split ? acquire(4 * used * p.batch * p.m * p.n, "matmul") : p.out;
  const { T, TB } = p.types;
  const consts = { ...(split ? { T, TB, OUT: "f32" } : p.types), BM: bm, BN: bn, BK: bk };
  const grid: [number, number, number] = [Math.ceil(p.n / bn), Math.ceil(p.m / bm), p.batch * used];
  run(k, consts, [p.a, ...p.b, ...(split ? [] : p.extras), out], scalars(p, used, span), ...grid);
  if (!split) return;
  if (p.late && p.extras.length === 0 && p.batch === 1) {
    sumLater({ parts: out, count: used, size: p.m * p.n, into: p.out });
  } else if (p.leave) {
    p.leave(out, used, () => combine(p, out, used));
  } else {
    combine(p, out, used);
    release(out);
  }
}

/** The types of what a product gives, without its operands'. */
const outsideTypes = ({ types: { T: _, TB: __, ...outside } }: Product) => outside;

function combine(p: Product, parts: BufferView, splits: number): void {
  const name = `matmul_combine${epilogueName(p)}`;
  let k = kernels.get(name);
  if (!k) {
    k = kernel({
      name,
      code: finishOne(p) + MATMUL_COMBINE,
      bindings: {
        parts: "read f32",
        ...(p.bias ? { bias: "read BIAS" } : {}),
        ...(p.add ? { add: "read ADD" } : {}),
        c: "write OUT",
      },
      scalars: { n: "u32", sc: "u32", size: "u32", splits: "u32", ldc: "u32", firstC: "u32", scale: "f32" },
    });
    kernels.set(name, k);
  }
  const size = p.batch * p.m * p.n;
  const given = [p.n, p.m * p.n, size, splits, p.ldc, p.firstC, p.scale];
  run(k, outsideTypes(p), [parts, ...p.extras, p.out], given, Math.ceil(size / 64));
}

function skinny(p: Product, { rows }: Extract<MatmulVariant, { family: "skinny" }>): void {
  if (p.mode !== "NT" || p.m > rows) throw new Error(`the skinny kernel takes mode NT and at most ${rows} rows`);
  const vec = { a: fours(p.k, p.lda, p.firstA), b: p.format !== null || fours(p.k, p.ldb, p.firstB), c: false };
  const code = () => [readFour("A", vec.a), readB(p, vec.b), finishOne(p), SKINNY_MATMUL].join("\n");
  const k = declare("skinny", p.format, p, vec, code);
  run(k, { ...p.types, ROWS: rows }, [p.a, ...p.b, ...p.extras, p.out], scalars(p), Math.ceil(p.n / 8), 1, p.batch);
}
