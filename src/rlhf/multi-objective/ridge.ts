/** Ridge regression without intercept, in float64 on the host: w = argmin |X w - y|^2 + alpha |w|^2. */

/** Rows of features, one after another. */
export interface Features {
  data: ArrayLike<number>;
  /** Columns. */
  width: number;
}

/** The strengths that are tried. */
export const ALPHAS: readonly number[] = [1e-4, 1e-3, 1e-2, 1e-1, 1, 10, 100, 1e3, 1e4];

/**
 * Solves for several alphas at once, which share the products of the features: of the columns, or where there are fewer
 * rows than columns, of the rows.
 * @param rows which rows of the features to use
 * @param y the label of each of these rows
 * @returns null for an alpha that is lost in the rounding of the features' products
 */
export function ridge(x: Features, rows: readonly number[], y: ArrayLike<number>, alphas: readonly number[]) {
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
