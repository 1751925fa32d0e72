/**
 * What tries the kernels that rely on subgroups, barriers and workgroup memory, on a GPU that is new: small inputs, as awkward
 * as a tile allows, against sums in float64. The ops hand over their launchers, so that nothing here imports them.
 */
import type { SelfTest } from "../../gpu/self-tests.ts";
import { noise } from "../../runtime/noise.ts";
import { attentionGradientInFloat64, attentionInFloat64 } from "../attention-float64.ts";
import { full, scope, type Tensor, tensor } from "../core.ts";

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
      const data = noise(rows * cols, 1);
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
      const [a, b] = [noise(m * k, 1), noise(n * k, 2)];
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

/** Of queries, keys and values of one head each, [rows, 3 * width]. */
const attended = (qkv: Float32Array, rows: number, headDim: number): Float64Array =>
  attentionInFloat64(qkv, [rows], { heads: 1, kvHeads: 1, headDim });

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
      const data = noise(rows * 3 * width, 1);
      return agrees(() => run(tensor(data, [rows, 3 * width]), rows), attended(data, rows, width));
    },
  };
}

/**
 * Of two query heads on one KV head, in f16.
 * @param run attends from qkv [rows, 4 * width], one sequence, to [rows, 2 * width], and goes back from the gradient of
 *   that to the one of qkv
 */
export function testHalfAttention(
  family: SelfTest["family"],
  width: number,
  run: (qkv: Tensor, dout: Tensor, rows: number) => { out: Tensor; gradient: Tensor },
): SelfTest {
  return {
    family,
    async passes() {
      const rows = 70;
      const shape = { heads: 2, kvHeads: 1, headDim: width };
      const [qkv, dout] = [noise(rows * 4 * width, 1), noise(rows * 2 * width, 2)];
      const within = 4e-3; // operands, weights and results are rounded
      const part = (which: "out" | "gradient") => () =>
        run(tensor(qkv, [rows, 4 * width], "f16"), tensor(dout, [rows, 2 * width], "f16"), rows)[which];
      const forward = await agrees(part("out"), attentionInFloat64(qkv, [rows], shape), within);
      if (forward !== true) return forward;
      return agrees(part("gradient"), attentionGradientInFloat64(qkv, dout, [rows], shape), within);
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
      const data = noise(rows * 3 * width, 1);
      const last = data.slice((rows - 1) * 3 * width);
      const expected = attended(data, rows, width).slice((rows - 1) * width);
      return agrees(() => run(tensor(data, [rows, 3 * width]), tensor(last, [1, 3 * width]), rows), expected);
    },
  };
}
