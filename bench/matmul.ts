/** Matrix products: the square sizes everybody quotes, and the shapes of a training step. */
import { finish, matmul, scope, tensor } from "webrlhf";
import { noise } from "webrlhf/day";
import { type Arm, type Case, difference, gpuArm } from "./harness.ts";

/** NN: A[m,k] B[k,n]; NT: A[m,k] B[n,k]; TN: A[k,m] B[k,n]. */
export type Mode = "NN" | "NT" | "TN";

export interface Product {
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly mode: Mode;
  readonly a: Float32Array<ArrayBuffer>;
  readonly b: Float32Array<ArrayBuffer>;
}

export type Multiplier = (product: Product) => Promise<Arm>;

export function product(m: number, n: number, k: number, mode: Mode): Product {
  return { m, n, k, mode, a: noise(m * k, 1), b: noise(k * n, 2) };
}

export function matmulCase(m: number, n: number, k: number, mode: Mode, multipliers: readonly Multiplier[]): Case {
  const operands = product(m, n, k, mode);
  return {
    name: `matmul ${m}x${n}x${k} ${mode}`,
    unit: "GFLOP/s",
    work: 2 * m * n * k,
    tolerance: 1e-5,
    error: (c) => sampledError(operands, c),
    async arms() {
      const arms: Arm[] = [];
      for (const multiply of multipliers) arms.push(await multiply(operands));
      return arms;
    },
  };
}

/** Compares 256 entries, corners included, with sums in float64. */
function sampledError({ m, n, k, mode, a, b }: Product, c: ArrayLike<number>): number {
  if (c.length !== m * n) return Number.POSITIVE_INFINITY;
  const actual: number[] = [];
  const expected: number[] = [];
  for (let s = 0; s < 256; s++) {
    const i = s < 4 ? (s & 1) * (m - 1) : (s * 7919) % m;
    const j = s < 4 ? (s >> 1) * (n - 1) : (s * 104729) % n;
    let sum = 0;
    for (let p = 0; p < k; p++) {
      const left = mode === "TN" ? a[p * m + i] : a[i * k + p];
      const right = mode === "NT" ? b[j * k + p] : b[p * n + j];
      sum += left * right;
    }
    actual.push(c[i * n + j]);
    expected.push(sum);
  }
  return difference(actual, expected);
}

export const webrlhfProduct: Multiplier = async ({ m, n, k, mode, a, b }) => {
  const x = tensor(a, mode === "TN" ? [k, m] : [m, k]);
  const y = tensor(b, mode === "NT" ? [n, k] : [k, n]);
  const multiply = () => matmul(x, y, { transA: mode === "TN", transB: mode === "NT" });
  return gpuArm("webrlhf", {
    enqueue: () => scope(() => void multiply()),
    wait: finish,
    async result() {
      const c = multiply();
      const values = await c.read();
      c.free("the bench");
      return values;
    },
    dispose() {
      for (const t of [x, y]) t.free("the bench");
    },
  });
};
