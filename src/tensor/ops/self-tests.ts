/**
 * What tries the kernels that rely on subgroups, barriers and workgroup memory, on a GPU that is new: small inputs, as awkward
 * as a tile allows, against sums in float64. The ops hand over their launchers, so that nothing here imports them.
 */
import type { SelfTest } from "../../gpu/self-tests.ts";
import { full, scope, type Tensor, tensor } from "../core.ts";

/** Numbers in [-1, 1) that repeat. */
function numbers(count: number, seed: number): Float32Array {
  let state = seed;
  return Float32Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state >>> 8) / 2 ** 23 - 1;
  });
}

/**
 * Whether what `compute` leaves is what it should be, within what float32 sums differ by. Undefined where the device does not
 * even fill a buffer: a driver that only compiles says nothing about kernels.
 */
async function agrees(compute: () => Tensor, expected: ArrayLike<number>, within = 1e-4): Promise<boolean | undefined> {
  const got = await valuesOf(compute);
  let largest = 0;
  for (let i = 0; i < expected.length; i++) largest = Math.max(largest, Math.abs(expected[i]));
  if (got.length === expected.length && got.every((v, i) => Math.abs(v - expected[i]) <= within * largest)) return true;
  return (await valuesOf(() => full([64], 3))).every((v) => v === 3) ? false : undefined;
}

async function valuesOf(compute: () => Tensor): Promise<Float32Array> {
  const result = scope(compute);
  const values = await result.read();
  result.free("self-test");
  return values;
}

/**
 * @param run writes x + sum(x) + max(x) of each row
 */
export function testRows(family: SelfTest["family"], cols: number, run: (x: Tensor, rows: number) => Tensor): SelfTest {
  return {
    family,
    passes() {
      const rows = 7;
      const data = numbers(rows * cols, 1);
      const expected = Float64Array.from(data);
      for (let r = 0; r < rows; r++) {
        const row = data.subarray(r * cols, (r + 1) * cols);
        const more = row.reduce((a, b) => a + b, 0) + row.reduce((a, b) => Math.max(a, b));
        for (let c = 0; c < cols; c++) expected[r * cols + c] += more;
      }
      return agrees(() => run(tensor(data, [rows, cols]), rows), expected);
    },
  };
}

/**
 * @param run multiplies A [m,k] by the transpose of B [n,k]
 */
export function testProducts(
  family: SelfTest["family"],
  sizes: readonly [m: number, n: number, k: number],
  run: (a: Tensor, b: Tensor, sizes: readonly [m: number, n: number, k: number]) => Tensor,
  type: "f32" | "f16" = "f32",
): SelfTest {
  return {
    family,
    passes() {
      const [m, n, k] = sizes;
      const [a, b] = [numbers(m * k, 1), numbers(n * k, 2)];
      const expected = new Float64Array(m * n);
      for (let i = 0; i < m; i++) {
        for (let j = 0; j < n; j++) {
          for (let p = 0; p < k; p++) expected[i * n + j] += a[i * k + p] * b[j * k + p];
        }
      }
      const within = type === "f16" ? 4e-3 : undefined; // its operands and its result are rounded
      return agrees(() => run(tensor(a, [m, k], type), tensor(b, [n, k], type), sizes), expected, within);
    },
  };
}

/** One head of `width` for queries, keys and values [rows, 3 * width]: what a row sees of itself and those before it. */
function attentionOfOneHead(qkv: Float32Array, rows: number, width: number, from: number): Float64Array {
  const out = new Float64Array((rows - from) * width);
  const at = (row: number, part: number) => (3 * row + part) * width;
  for (let r = from; r < rows; r++) {
    const scores = Array.from({ length: r + 1 }, (_, j) => {
      let dot = 0;
      for (let d = 0; d < width; d++) dot += qkv[at(r, 0) + d] * qkv[at(j, 1) + d];
      return Math.exp(dot / Math.sqrt(width));
    });
    const total = scores.reduce((a, b) => a + b, 0);
    for (const [j, score] of scores.entries()) {
      for (let d = 0; d < width; d++) out[(r - from) * width + d] += (score / total) * qkv[at(j, 2) + d];
    }
  }
  return out;
}

/**
 * @param run attends from qkv [rows, 3 * width], one sequence, to [rows, width]
 */
export function testAttention(
  family: SelfTest["family"],
  width: number,
  run: (qkv: Tensor, rows: number) => Tensor,
): SelfTest {
  return {
    family,
    passes() {
      const rows = 70;
      const data = numbers(rows * 3 * width, 1);
      return agrees(() => run(tensor(data, [rows, 3 * width]), rows), attentionOfOneHead(data, rows, width, 0));
    },
  };
}

/**
 * @param run attends from the last row of qkv [rows, 3 * width] to a cache of all of them, to [1, width]
 */
export function testCached(
  family: SelfTest["family"],
  width: number,
  run: (qkv: Tensor, last: Tensor, rows: number) => Tensor,
): SelfTest {
  return {
    family,
    passes() {
      const rows = 70;
      const data = numbers(rows * 3 * width, 1);
      const last = data.slice((rows - 1) * 3 * width);
      const expected = attentionOfOneHead(data, rows, width, rows - 1);
      return agrees(() => run(tensor(data, [rows, 3 * width]), tensor(last, [1, 3 * width]), rows), expected);
    },
  };
}
