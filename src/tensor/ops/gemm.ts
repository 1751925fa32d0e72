/** The raw matrix product: its operands, checks and the choice of a variant. Sums are in f32 throughout. */
import { caps } from "../../gpu/device.ts";
import type { BufferView } from "../../gpu/pool.ts";
import type { MatmulVariant } from "../../gpu/product.ts";
import { registerSelfTest } from "../../gpu/self-tests.ts";
import { addWork } from "../../gpu/stream.ts";
import { matmulVariant } from "../../gpu/variants.ts";
import type { MatmulMode } from "../../shaders/matmul-unrolled.wgsl.ts";
import { bytesOf, type DType, empty, type Shape, Tensor } from "../core.ts";
import { QuantizedWeight } from "../quantized.ts";
import { launch, type Product } from "./gemm-launch.ts";
import { testProducts } from "./self-tests.ts";

/** A matrix inside another one, such as some of its columns: row i starts at element `first` + i * `stride` of `of`. */
export interface Strided {
  of: Tensor | BufferView;
  stride: number;
  first: number;
}

/** A whole tensor, part of an f32 one by its memory, or a matrix inside of either. */
export type Dense = Tensor | BufferView | Strided;

/** The second operand may be a quantized weight besides. */
export type Operand = Dense | QuantizedWeight;

/** Rows and columns of the output, and the length of the sums. */
export type ProductSizes = readonly [m: number, n: number, k: number];

/** What a matrix product takes besides its operands. */
export interface GemmOptions<Out extends Dense = Dense> {
  /** Number of products; an operand that holds one matrix is shared by all of them. Default 1, which `Strided` needs. */
  batch?: number;
  /** Multiplies the product before anything is added to it. Default 1. */
  scale?: number;
  /** [n], added to every row. */
  bias?: Tensor;
  /** As large as the output, added to it. Not the output itself: that is `accumulate`. */
  add?: Tensor;
  /** Shape of the new tensor; default [m,n] or [batch,m,n]. */
  shape?: Shape;
  /** Type of the new tensor; default f16 where both operands have it, else f32. */
  type?: DType;
  /** Write here instead of into a new tensor; with `add` no `Strided`. */
  out?: Out;
  /** Add to what `out` holds. */
  accumulate?: boolean;
  /** The output is a gradient that nothing reads before `backward()` has ended: see `mayBeLate`. */
  late?: boolean;
  /** Nothing is recorded: the new tensor may be left in parts, see unsummed.ts. */
  inParts?: boolean;
  /** This variant instead of the table's choice; for tests and benches. */
  variant?: MatmulVariant;
}

/**
 * C[m,n] = scale op(A) op(B), plus a bias, a matrix or the previous contents; returns the output. Not recorded for gradients.
 * NN: A[m,k] B[k,n]. NT: A[m,k] B[n,k]. TN: A[k,m] B[k,n]. Operands, output, bias and addend are f32 or f16, each as it likes;
 * matrix units round an operand in f32 to f16 where the other one or the output is f16. Throws when sizes do not fit.
 */
export function gemm<Out extends Dense = Tensor>(
  a: Dense,
  b: Operand,
  mode: MatmulMode,
  sizes: ProductSizes,
  options: GemmOptions<Out> = {},
): Out {
  const m = sizes[0];
  const n = sizes[1];
  const k = sizes[2];
  const { batch = 1, bias, add, accumulate = false, scale = 1 } = options;
  const problem = problemWith(a, b, mode, m, n, k, options);
  if (problem !== null) {
    throw new Error(`matmul ${mode} [m=${m}, n=${n}, k=${k}${batch > 1 ? `, batch=${batch}` : ""}]: ${problem}`);
  }
  const quantized = b instanceof QuantizedWeight ? b : null;
  const T = typeOf(a);
  const TB = b instanceof QuantizedWeight ? T : typeOf(b);
  const shape = options.shape ?? (batch > 1 ? [batch, m, n] : [m, n]);
  const type = options.type ?? (T === "f16" && TB === "f16" ? "f16" : "f32");
  const out = options.out ?? empty(shape, type, "matmul");
  const OUT = typeOf(out);
  const extras: BufferView[] = [];
  if (bias) extras.push(bias.view);
  if (add) extras.push(add.view);
  const strideA = batch === 1 || elements(a) < batch * m * k ? 0 : m * k;
  const strideB = batch === 1 || elements(b) < batch * n * k ? 0 : n * k;
  const viewA = viewOf(a);
  const viewsB = b instanceof QuantizedWeight ? b.buffers : [viewOf(b)];
  const lda = strideOf(a, mode === "TN" ? m : k);
  const ldb = b instanceof QuantizedWeight ? b.stride : strideOf(b, mode === "NT" ? k : n);
  const ldc = strideOf(out, n);
  const firstA = firstOf(a);
  const firstB = b instanceof QuantizedWeight ? 0 : firstOf(b);
  const firstC = firstOf(out);
  // One column, e.g. a score head: the same numbers as one row of the transposed product.
  const turn = n === 1 && ldc === 1 && mode === "NT" && !bias && !quantized;
  const product: Product = {
    mode,
    m: turn ? 1 : m,
    n: turn ? m : n,
    k,
    batch,
    T: T === "f16" || TB === "f16" || OUT === "f16" ? "f16" : "f32",
    types: { T: turn ? TB : T, TB: turn ? T : TB, OUT, BIAS: bias?.dtype, ADD: add?.dtype },
    a: turn ? viewsB[0] : viewA,
    b: turn ? [viewA] : viewsB,
    format: quantized?.format ?? null,
    lda: turn ? ldb : lda,
    ldb: turn ? lda : ldb,
    ldc: turn ? m : ldc,
    firstA: turn ? firstB : firstA,
    firstB: turn ? firstA : firstB,
    firstC,
    scale,
    extras,
    out: viewOf(out),
    strideA: turn ? strideB : strideA,
    strideB: turn ? strideA : strideB,
    bias: !!bias,
    add: !!add,
    accumulate,
    addend: add,
    waits:
      options.inParts === true && !options.out && !bias && batch === 1 && scale === 1 && (!add || add.dtype === "f32")
        ? (out as Tensor)
        : null,
    late: options.late === true && accumulate && OUT === "f32" && scale === 1 && ldc === n && firstC === 0,
  };
  if (batch * m * n > 0) launch(product, options.variant ?? matmulVariant(caps(), product));
  addWork(2 * batch * m * n * k);
  return out as Out;
}

/** Most operands are tensors, so that is asked first. */
const isStrided = (t: Operand): t is Strided => !(t instanceof Tensor) && "of" in t;
const wholeOf = <O extends Operand>(t: O) => (isStrided(t) ? t.of : t) as Exclude<O, Strided>;
const viewOf = (t: Dense): BufferView => {
  const whole = wholeOf(t);
  return whole instanceof Tensor ? whole.view : whole;
};
/** Its size is in elements, not in bytes. */
const isShaped = (t: Operand): t is Tensor | QuantizedWeight => t instanceof Tensor || "shape" in t;
const elements = (t: Operand): number => {
  const whole = wholeOf(t);
  return isShaped(whole) ? whole.size : Math.floor(whole.size / bytesOf("f32"));
};
/** Elements from one row to the next. */
const strideOf = (t: Dense, width: number): number => (isStrided(t) ? t.stride : width);
/** Elements before the first row. */
const firstOf = (t: Dense): number => (isStrided(t) ? t.first : 0);

/** What is wrong with a product; null if nothing. */
function problemWith(
  a: Dense,
  b: Operand,
  mode: MatmulMode,
  m: number,
  n: number,
  k: number,
  { batch = 1, bias, add, out, accumulate }: GemmOptions,
): string | null {
  return (
    (mode === "TN" ? misfit("A", a, batch, k, m, true) : misfit("A", a, batch, m, k, true)) ??
    (mode === "NT" ? misfit("B", b, batch, n, k, true) : misfit("B", b, batch, k, n, true)) ??
    misfit("the bias", bias, 1, 1, n) ??
    misfit("the addend", add, batch, m, n) ??
    misfit("the output", out, batch, m, n) ??
    (accumulate && !out ? "accumulate needs an output to add to" : null) ??
    (batch > 1 && (isStrided(a) || isStrided(b) || (out && isStrided(out)))
      ? "matrices inside others have no batch"
      : null) ??
    (add && out && isStrided(out) ? "an addend needs an output of its own shape" : null)
  );
}

const typeOf = (t: Dense): DType => {
  const whole = wholeOf(t);
  return whole instanceof Tensor ? whole.dtype : "f32";
};

/** What is wrong with an operand that must have matrices [rows, cols]: `batch` of them, or one that is shared. */
function misfit(
  name: string,
  t: Operand | undefined,
  batch: number,
  rows: number,
  cols: number,
  mayShare = false,
): string | null {
  if (!t) return null;
  if (!(t instanceof QuantizedWeight) && typeOf(t) === "u32") return `${name} holds u32: products are of f32 and f16`;
  const has = elements(t);
  if (isStrided(t)) {
    const fits = t.first >= 0 && t.stride >= cols && t.first + (rows - 1) * t.stride + cols <= has;
    return fits ? null : `${name}: [${rows},${cols}] at ${t.first} by ${t.stride} passes its ${has} elements`;
  }
  const size = batch * rows * cols;
  const shared = mayShare ? rows * cols : size;
  if (isShaped(t) ? has === size || has === shared : has >= Math.min(size, shared)) return null;
  return `${name} has ${isShaped(t) ? `shape [${t.shape}]` : `${has} elements`}, not ${size} elements`;
}

const BY_TILES: MatmulVariant = { family: "tiled", bm: 64, bn: 64, bk: 8, rows: 8, cols: 8, splits: 2 };
registerSelfTest(
  testProducts("tiled products", [70, 68, 72], (a, b, sizes) => gemm(a, b, "NT", sizes, { variant: BY_TILES })),
);
const byMatrices = (): MatmulVariant | undefined => {
  const { matrices, subgroupSizeMax: lanes } = caps();
  return matrices && { family: "matrix", ...matrices, lanes, rows: 2, cols: 2, down: 2, splits: 2 };
};
const inMatrices = testProducts(
  "matrix products",
  [70, 68, 72],
  (a, b, sizes) => gemm(a, b, "NT", sizes, { variant: byMatrices() }),
  "f16",
);
registerSelfTest({ ...inMatrices, passes: async () => !byMatrices() || inMatrices.passes() });
const BY_FEW: MatmulVariant = { family: "skinny", rows: 4 };
registerSelfTest(
  testProducts("products of few rows", [3, 70, 72], (a, b, sizes) => gemm(a, b, "NT", sizes, { variant: BY_FEW })),
);
