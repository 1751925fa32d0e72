/** Launches a matrix product: one launcher per family of kernels. */
import { type Consts, type Kernel, kernel, type Prepared, prepare } from "../../gpu/kernel.ts";
import { acquire, type BufferView, release } from "../../gpu/pool.ts";
import type { MatmulVariant } from "../../gpu/product.ts";
import { run, runPrepared } from "../../gpu/stream.ts";
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
import { bytesOf, type DType, type Tensor } from "../core.ts";
import { sumLater } from "../late-sums.ts";
import type { QuantizedFormat } from "../quantize.ts";
import { Unsummed } from "./unsummed.ts";

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
  types: Readonly<{ T: string; TB: string; OUT: string; BIAS: string | undefined; ADD: string | undefined }>;
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
  /** What is added, if anything. */
  addend: Tensor | undefined;
  /** The output where it may be left in parts until somebody asks for its values. */
  waits: Tensor | null;
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
const fours = (a: number, b: number, c = 0): boolean => a % 4 === 0 && b % 4 === 0 && c % 4 === 0;

/** The kernel of this name, kind of B and epilogue, declared on first use. `vec` says which bindings are vec4. */
function declare(
  name: string,
  format: QuantizedFormat | null,
  e: Epilogue,
  vec: Vectors,
  code: string,
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
      code: format ? quantizedAccess[format].code + code : code,
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

/** Which bindings of a kernel are vec4. */
interface Vectors {
  a: boolean;
  b: boolean;
  c: boolean;
}

const formats = Object.keys(quantizedAccess);

/** One number for all that a kernel of a family depends on beside its tile. */
function kindOf({ mode, types, format, bias, add, accumulate }: Product, vec: Vectors, split: boolean): number {
  const { T, TB, OUT, BIAS, ADD } = types;
  const flags =
    (vec.a ? 1 : 0) +
    (vec.b ? 2 : 0) +
    (vec.c ? 4 : 0) +
    (T === "f16" ? 8 : 0) +
    (TB === "f16" ? 16 : 0) +
    (split ? 32 : 0);
  const outside = split
    ? 0
    : (OUT === "f16" ? 1 : 0) +
      (bias ? 2 : 0) +
      (BIAS === "f16" ? 4 : 0) +
      (add ? 8 : 0) +
      (ADD === "f16" ? 16 : 0) +
      (accumulate ? 32 : 0);
  const way = mode === "NN" ? 0 : mode === "NT" ? 1 : 2;
  const stored = format === null ? 0 : formats.indexOf(format) + 1;
  return (stored * 4 + way) * 4096 + outside * 64 + flags;
}

/** Kernels of a family with their constants, by tile and kind: asked before every product, so that a hit builds no key. */
type Family = Map<number, Map<number, Prepared>>;
const families: Readonly<Record<MatmulVariant["family"], Family>> = {
  subgroup: new Map(),
  direct: new Map(),
  tiled: new Map(),
  matrix: new Map(),
  skinny: new Map(),
};

/** Keeps a kernel for the next product of this kind; returns it. */
function keep(family: Family, tile: number, kind: number, made: Prepared): Prepared {
  const kinds = family.get(tile) ?? new Map<number, Prepared>();
  family.set(tile, kinds);
  kinds.set(kind, made);
  return made;
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
  const vec = { a: vecA, b: vecB, c: false };
  const lanewise = family === "subgroup";
  const number = (rows * 64 + cols) * 64 + lanes;
  const kind = kindOf(p, vec, false);
  let k = families[family].get(number)?.get(kind);
  if (!k) {
    const code = unrolledMatmul({ family, mode, rows, cols, lanes, vecA, vecB, quantized, bias, add, accumulate });
    const name = `${family}_${mode}_${rows}x${lanes}x${cols}`;
    const made = declare(name, p.format, p, vec, code, lanewise);
    k = keep(families[family], number, kind, prepare(made, typesOf(p, false)));
  }
  const tall = lanewise ? rows : 8 * rows;
  const buffers = [p.a, ...p.b, ...p.extras, p.out];
  runPrepared(k, buffers, scalars(p), Math.ceil(p.n / (cols * lanes)), Math.ceil(p.m / tall), p.batch);
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
  const parts = partsOf(p.k, bk, tile.splits);
  const split = parts.count > 1;
  const along = alongK(p.mode);
  const vec = { a: readsFours(p, "a"), b: readsFours(p, "b"), c: fours(p.n, p.ldc, p.firstC) };
  if (!along.a && rows % 4 !== 0) vec.a = false;
  const number = (((bm * 512 + bn) * 64 + bk) * 16 + rows) * 16 + cols;
  const kind = kindOf(p, vec, split);
  let k = families.tiled.get(number)?.get(kind);
  if (!k) {
    const e = split ? PLAIN : p;
    const code = [readFour("A", vec.a), readB(p, vec.b), putFour(e, vec.c), tiledMatmul(tile, along)].join("\n");
    const name = `tiled${split ? "_split" : ""}_${p.mode}_${bm}x${bn}x${bk}_${rows}x${cols}`;
    const consts = { ...typesOf(p, split), BM: bm, BN: bn, BK: bk };
    k = keep(families.tiled, number, kind, prepare(declare(name, p.format, e, vec, code), consts));
  }
  inParts(p, k, bm, bn, parts);
}

function matrix(p: Product, tile: Extract<MatmulVariant, { family: "matrix" }>): void {
  const { m, n, k: steps, lanes, rows, cols, down } = tile;
  const parts = partsOf(p.k, MATRIX_STEPS, tile.splits);
  const split = parts.count > 1;
  const vec = { a: readsFours(p, "a"), b: readsFours(p, "b"), c: false };
  const { bm, bn } = matrixOutputs(tile);
  const number = (((((m * 32 + n) * 64 + steps) * 16 + rows) * 16 + cols) * 8 + down) * 256 + lanes;
  const kind = kindOf(p, vec, split);
  let k = families.matrix.get(number)?.get(kind);
  if (!k) {
    const e = split ? PLAIN : p;
    const access = [readFour("A", vec.a), readB(p, vec.b), finishOne(e)];
    const code = [...access, matrixMatmul(tile, alongK(p.mode))].join("\n");
    const name = `matrix${split ? "_split" : ""}_${p.mode}_${m}x${n}x${steps}_${rows}x${cols}_${down}x${lanes}`;
    const consts = { ...typesOf(p, split), BM: bm, BN: bn, BK: MATRIX_STEPS };
    k = keep(families.matrix, number, kind, prepare(declare(name, p.format, e, vec, code, true, true), consts));
  }
  inParts(p, k, bm, bn, parts);
}

/** The types of a kernel; parts are f32. */
function typesOf(p: Product, split: boolean): Consts {
  const { T, TB } = p.types;
  return split ? { T, TB, OUT: "f32" } : { T, TB, ...outsideTypes(p) };
}

/** Whether a kernel with tiles can read the operand as vec4. */
function readsFours(p: Product, operand: "a" | "b"): boolean {
  if (operand === "a") return fours(p.mode === "TN" ? p.m : p.k, p.lda, p.firstA);
  return p.format !== null || fours(p.mode === "NT" ? p.k : p.n, p.ldb, p.firstB);
}

/** The parts that k is split into: how many there are, and how long all but the last one are. */
interface Parts {
  count: number;
  span: number;
}

function partsOf(k: number, bk: number, splits: number): Parts {
  const span = Math.max(1, Math.ceil(k / splits / bk)) * bk;
  return { count: Math.max(1, Math.ceil(k / span)), span };
}

/** A product by tiles of [bm, bn]; parts of it are added up in a second step. */
function inParts(p: Product, k: Prepared, bm: number, bn: number, { count, span }: Parts): void {
  const { m, n, batch } = p;
  const split = count > 1;
  const out = split ? acquire(4 * count * batch * m * n, "matmul") : p.out;
  const buffers = split ? [p.a, ...p.b, out] : [p.a, ...p.b, ...p.extras, out];
  runPrepared(k, buffers, scalars(p, count, span), Math.ceil(n / bn), Math.ceil(m / bm), batch * count);
  if (!split) return;
  if (p.late && p.extras.length === 0 && batch === 1) {
    sumLater({ parts: out, count, size: m * n, into: p.out });
  } else if (p.waits) {
    leaveInParts(p.waits, p, out, count);
  } else {
    combine(p, out, count);
    release(out);
  }
}

function leaveInParts(output: Tensor, p: Product, parts: BufferView, count: number): void {
  output.late = new Unsummed(parts, count, p.addend, () => combine(p, parts, count));
}

/** The types of what a product gives, without its operands'. */
const outsideTypes = ({ types: { OUT, BIAS, ADD } }: Product): Consts => ({
  OUT,
  ...(BIAS !== undefined && { BIAS }),
  ...(ADD !== undefined && { ADD }),
});

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
  const vec = { a: readsFours(p, "a"), b: readsFours(p, "b"), c: false };
  const kind = kindOf(p, vec, false);
  let k = families.skinny.get(rows)?.get(kind);
  if (!k) {
    const code = [readFour("A", vec.a), readB(p, vec.b), finishOne(p), SKINNY_MATMUL].join("\n");
    const made = declare("skinny", p.format, p, vec, code);
    k = keep(families.skinny, rows, kind, prepare(made, { ...typesOf(p, false), ROWS: rows }));
  }
  runPrepared(k, [p.a, ...p.b, ...p.extras, p.out], scalars(p), Math.ceil(p.n / 8), 1, p.batch);
}
