/** Principal components by power iteration: the few directions in which points lie furthest apart. */

/** A basis to look at points in, fixed once and then used for whatever comes. */
export interface Basis {
  mean: Float64Array;
  /** Orthonormal directions, the widest first. */
  directions: Float64Array[];
  /** The share of the points' variance along each. */
  explained: number[];
}

/** More than any set of points here needed; it stops where the direction no longer turns. */
const ITERATIONS = 1000;
const STILL = 1e-12;

/**
 * Fits a basis to points.
 * @param rows points of `width` numbers, row after row
 */
export function fitBasis(rows: ArrayLike<number>, width: number, count = 2): Basis {
  const n = rows.length / width;
  const mean = new Float64Array(width);
  for (let i = 0; i < rows.length; i++) mean[i % width] += rows[i] / n;
  const centred = Float64Array.from(rows, (x, i) => x - mean[i % width]);
  const covariance = new Float64Array(width * width);
  for (let row = 0; row < n; row++) {
    for (let a = 0; a < width; a++) {
      const x = centred[row * width + a] / n;
      for (let b = 0; b < width; b++) covariance[a * width + b] += x * centred[row * width + b];
    }
  }
  let total = 0;
  for (let a = 0; a < width; a++) total += covariance[a * width + a];
  const directions: Float64Array[] = [];
  const explained: number[] = [];
  for (let k = 0; k < Math.min(count, width); k++) {
    const direction = widest(covariance, width, directions);
    directions.push(direction);
    explained.push(total > 0 ? dot(direction, times(covariance, direction)) / total : 0);
  }
  return { mean, directions, explained };
}

/** Where points lie in a basis: for each its coordinate along each direction. */
export function inBasis({ mean, directions }: Basis, rows: ArrayLike<number>): number[][] {
  const width = mean.length;
  return Array.from({ length: rows.length / width }, (_, row) =>
    directions.map((direction) => {
      let sum = 0;
      for (let k = 0; k < width; k++) sum += (rows[row * width + k] - mean[k]) * direction[k];
      return sum;
    }),
  );
}

/** The direction of most variance among those that stand upright on the ones before. */
function widest(covariance: Float64Array, width: number, before: readonly Float64Array[]): Float64Array {
  // Some direction that no sensible set of points is upright to; always the same one, and so is the picture.
  let direction = normalized(
    cleared(
      Float64Array.from({ length: width }, (_, k) => 1 + Math.sin(k + 1)),
      before,
    ),
  );
  for (let i = 0; i < ITERATIONS; i++) {
    const turned = cleared(times(covariance, direction), before);
    if (dot(turned, turned) === 0) break; // nothing lies along what is left
    const next = normalized(turned);
    const still = 1 - Math.abs(dot(next, direction)) < STILL;
    direction = next;
    if (still) break;
  }
  // Its sign says nothing: the largest part points upwards, so that equal points give equal pictures.
  const largest = direction.reduce((best, x, k) => (Math.abs(x) > Math.abs(direction[best]) ? k : best), 0);
  return direction[largest] < 0 ? direction.map((x) => -x) : direction;
}

function times(matrix: Float64Array, v: Float64Array): Float64Array {
  return v.map((_, a) => {
    let sum = 0;
    for (let b = 0; b < v.length; b++) sum += matrix[a * v.length + b] * v[b];
    return sum;
  });
}

/** Without what lies along the directions before. */
function cleared(v: Float64Array, before: readonly Float64Array[]): Float64Array {
  let rest = v;
  for (const direction of before) {
    const along = dot(rest, direction);
    rest = rest.map((x, k) => x - along * direction[k]);
  }
  return rest;
}

function normalized(v: Float64Array): Float64Array {
  const length = Math.sqrt(dot(v, v)) || 1;
  return v.map((x) => x / length);
}

function dot(a: Float64Array, b: Float64Array): number {
  let sum = 0;
  for (let k = 0; k < a.length; k++) sum += a[k] * b[k];
  return sum;
}
