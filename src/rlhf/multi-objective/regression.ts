/** The regression stage: one ridge per attribute on the features of a frozen model, its alpha chosen on held-out rows. */
import { UserError } from "../../runtime/errors.ts";
import { permutation, streamId } from "../../runtime/rng.ts";

/** Rows of features, one after another. */
export interface Features {
  data: ArrayLike<number>;
  /** Columns. */
  width: number;
}

/** The strengths that are tried. */
const ALPHAS: readonly number[] = [1e-4, 1e-3, 1e-2, 1e-1, 1, 10, 100, 1e3, 1e4];

/**
 * Ridge regression without intercept, in float64 on the host: w = argmin |X w - y|^2 + alpha |w|^2. Solves
 * for several alphas at once, which share the products of the features: of the columns, or where there are fewer rows than
 * columns, of the rows.
 * @param rows which rows of the features to use
 * @param y the label of each of these rows
 * @returns null for an alpha that is lost in the rounding of the features' products
 */
function ridge(x: Features, rows: readonly number[], y: ArrayLike<number>, alphas: readonly number[]) {
  const { data, width } = x;
  const at = (i: number, j: number) => data[rows[i] * width + j];
  const dual = rows.length < width;
  const [n, m] = dual ? [rows.length, width] : [width, rows.length];
  // The vectors whose products are wanted, each in one piece.
  const vectors = new Float64Array(n * m);
  for (let a = 0; a < n; a++) for (let k = 0; k < m; k++) vectors[a * m + k] = dual ? at(a, k) : at(k, a);
  const products = new Float64Array(n * n);
  for (let a = 0; a < n; a++) {
    for (let b = 0; b <= a; b++) {
      let total = 0;
      for (let k = 0; k < m; k++) total += vectors[a * m + k] * vectors[b * m + k];
      products[a * n + b] = products[b * n + a] = total;
    }
  }
  const right = dual ? Float64Array.from(y) : new Float64Array(n);
  if (!dual) for (let i = 0; i < m; i++) for (let j = 0; j < n; j++) right[j] += at(i, j) * y[i];
  return alphas.map((alpha): Float64Array | null => {
    const shifted = products.slice();
    for (let i = 0; i < n; i++) shifted[i * n + i] += alpha;
    const solution = solvePositive(shifted, right, n);
    if (!dual || !solution) return solution;
    const weights = new Float64Array(width);
    for (let i = 0; i < n; i++) for (let j = 0; j < width; j++) weights[j] += at(i, j) * solution[i];
    return weights;
  });
}

/** Solves A s = b for a symmetric positive definite A [n, n], which is overwritten (Cholesky); null where A is not. */
function solvePositive(a: Float64Array, b: ArrayLike<number>, n: number): Float64Array | null {
  for (let j = 0; j < n; j++) {
    let pivot = a[j * n + j];
    for (let k = 0; k < j; k++) pivot -= a[j * n + k] ** 2;
    if (!(pivot > 0)) return null;
    const root = Math.sqrt(pivot);
    a[j * n + j] = root;
    for (let i = j + 1; i < n; i++) {
      let value = a[i * n + j];
      for (let k = 0; k < j; k++) value -= a[i * n + k] * a[j * n + k];
      a[i * n + j] = value / root;
    }
  }
  const s = Float64Array.from(b);
  for (let i = 0; i < n; i++) {
    for (let k = 0; k < i; k++) s[i] -= a[i * n + k] * s[k];
    s[i] /= a[i * n + i];
  }
  for (let i = n - 1; i >= 0; i--) {
    for (let k = i + 1; k < n; k++) s[i] -= a[k * n + i] * s[k];
    s[i] /= a[i * n + i];
  }
  return s;
}

/** The dot product of a row with weights. */
export function project({ data, width }: Features, row: number, weights: ArrayLike<number>): number {
  let total = 0;
  for (let j = 0; j < width; j++) total += data[row * width + j] * weights[j];
  return total;
}

/** Rows that an attribute's regression learns from, and rows by which it is chosen. */
export interface RegressionSplit {
  train: number[];
  validation: number[];
}

/** How the regressions of attributes are chosen. */
export interface RegressionOptions {
  seed: number;
  /** Part of an attribute's labelled rows that chooses alpha, rounded up. Default 0.2. */
  validationShare?: number;
  alphas?: readonly number[];
  /** Instead of the random split, e.g. to repeat another program's. */
  splitOf?: (rows: readonly number[], attribute: number) => RegressionSplit;
}

/** The regression of one attribute. */
export interface AttributeFit {
  attribute: string;
  alpha: number;
  /** Mean squared error on the held-out rows, for the chosen alpha. */
  validationMse: number;
  /** Labelled rows. */
  rows: number;
  weights: Float64Array;
}

/**
 * Fits every attribute by itself on the rows that have its label. The chosen alpha is the one with the lowest error on the
 * held-out rows, the smallest of those on a tie; the weights are those of the training rows alone.
 * @param labels [rows, attributes], NaN where a label is missing
 * @throws UserError naming an attribute with fewer than two labels
 */
export function fitAttributes(
  features: Features,
  labels: ArrayLike<number>,
  attributes: readonly string[],
  options: RegressionOptions,
): AttributeFit[] {
  const { alphas = ALPHAS, splitOf = randomSplit(options) } = options;
  const count = features.data.length / features.width;
  if (labels.length !== count * attributes.length) {
    throw new Error(`${labels.length} labels for ${count} rows of ${attributes.length} attributes`);
  }
  return attributes.map((attribute, k): AttributeFit => {
    const label = (row: number) => labels[row * attributes.length + k];
    const rows = Array.from({ length: count }, (_, i) => i).filter((row) => !Number.isNaN(label(row)));
    if (rows.length < 2) {
      throw new UserError(
        `the attribute ${attribute} has ${rows.length} labels, but at least 2 are needed, to learn and to test: add rows ` +
          "or leave it out",
      );
    }
    const { train, validation } = splitOf(rows, k);
    const solutions = ridge(features, train, train.map(label), alphas);
    let best: { alpha: number; validationMse: number; weights: Float64Array } | null = null;
    for (const [i, weights] of solutions.entries()) {
      if (!weights) continue;
      const validationMse = meanSquaredError(features, validation, validation.map(label), weights);
      if (!best || validationMse < best.validationMse) best = { alpha: alphas[i], validationMse, weights };
    }
    if (!best || !Number.isFinite(best.validationMse)) {
      throw new UserError(
        `the regression of ${attribute} has no finite solution: the features or its labels are too large`,
      );
    }
    return { attribute, rows: rows.length, ...best };
  });
}

const randomSplit =
  ({ seed, validationShare = 0.2 }: RegressionOptions) =>
  (rows: readonly number[]): RegressionSplit => {
    const held = Math.min(rows.length - 1, Math.ceil(rows.length * validationShare));
    const order = Array.from(permutation(rows.length, seed, streamId("multi-objective/regression")), (i) => rows[i]);
    return { validation: order.slice(0, held), train: order.slice(held) };
  };

function meanSquaredError(x: Features, rows: readonly number[], y: readonly number[], w: Float64Array): number {
  let total = 0;
  for (const [i, row] of rows.entries()) total += (project(x, row, w) - y[i]) ** 2;
  return total / rows.length;
}
