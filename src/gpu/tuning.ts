/** Which kernels were found to be fastest for matrix products on this adapter: what `matmulVariant` looks at before its table. */
import { UserError } from "../runtime/errors.ts";
import { matrixBytes, SUBGROUPS } from "../shaders/matmul-matrix.wgsl.ts";
import { tileBytes, tileInvocations } from "../shaders/matmul-tiled.wgsl.ts";
import { type Caps, caps, onTuning, tuningStore } from "./device.ts";
import type { MatmulShape, MatmulVariant } from "./product.ts";

/** A product that was timed: all sizes alike of a weight, for so many tokens. */
export interface TunedProduct {
  mode: MatmulShape["mode"];
  /** Type of the operands. */
  type: "f32" | "f16";
  /** The most tokens of its class: rows of A, or in mode TN the length of the sums. See `tokenClass`. */
  tokens: number;
  /** The other two sizes: n and k, or in mode TN m and n. */
  sizes: [number, number];
  variant: MatmulVariant;
  /** How many times as fast as what the table chooses. */
  gain: number;
}

/** What a tuner found on an adapter with its driver. */
export interface Tuning {
  adapter: string;
  driver: string;
  products: TunedProduct[];
}

/** Products of up to so many tokens are alike: each number up to 8, then powers of two. */
export const tokenClass = (tokens: number): number => (tokens <= 8 ? tokens : 2 ** Math.ceil(Math.log2(tokens)));

let known: Map<string, MatmulVariant> | null = null;

const keyOf = (mode: string, type: string, tokens: number, sizes: readonly number[]): string =>
  `${mode} ${type} ${tokenClass(tokens)} ${sizes[0]} ${sizes[1]}`;

/** The tuned variant for a product, where there is one. */
export function tunedVariant({ mode, m, n, k, batch, T = "f32" }: MatmulShape): MatmulVariant | undefined {
  if (known === null || batch !== 1) return undefined;
  return mode === "TN" ? known.get(keyOf(mode, T, k, [m, n])) : known.get(keyOf(mode, T, m, [n, k]));
}

/** Products that do not go by the table. */
export const tunedCount = (): number => known?.size ?? 0;

/** From now on products go by this; null: by the table alone. */
export function useTuning(tuning: Tuning | null): void {
  known = tuning && new Map(tuning.products.map((p) => [keyOf(p.mode, p.type, p.tokens, p.sizes), p.variant]));
}

const isCount = (value: unknown, most = 2 ** 31): value is number =>
  typeof value === "number" && Number.isInteger(value) && value > 0 && value <= most;

/** The numbers that a variant of each family has, and the largest that there is a kernel for. */
const FIELDS: Record<MatmulVariant["family"], Record<string, number>> = {
  subgroup: { rows: 32, cols: 16, lanes: 32 },
  direct: { rows: 8, cols: 8, lanes: 8 },
  tiled: { bm: 256, bn: 256, bk: 32, rows: 8, cols: 8, splits: 64 },
  matrix: { m: 16, n: 16, k: 32, lanes: 128, rows: 8, cols: 8, down: 4, splits: 64 },
  skinny: { rows: 8 },
};

/** Whether a variant, from wherever it comes, is one that this adapter can run. */
function isVariant(value: unknown, caps: Caps): value is MatmulVariant {
  if (typeof value !== "object" || value === null) return false;
  const { family, turn, ...numbers } = value as Record<string, unknown>;
  if (typeof family !== "string" || !Object.hasOwn(FIELDS, family)) return false;
  const fields = FIELDS[family as MatmulVariant["family"]];
  if (Object.keys(numbers).sort().join() !== Object.keys(fields).sort().join()) return false;
  if (!Object.entries(numbers).every(([name, n]) => isCount(n, fields[name]))) return false;
  const v = value as MatmulVariant;
  if (turn !== undefined && (typeof turn !== "boolean" || !(v.family === "subgroup" || v.family === "direct")))
    return false;
  switch (v.family) {
    case "subgroup":
      return caps.subgroups && v.lanes === caps.subgroupSize && v.lanes === caps.subgroupSizeMax;
    case "direct":
    case "skinny":
      return true;
    case "matrix": {
      const { matrices, subgroupSizeMax } = caps;
      return (
        !!matrices &&
        [v.m, v.n, v.k, v.lanes].join() === [matrices.m, matrices.n, matrices.k, subgroupSizeMax].join() &&
        [1, 2, 4].includes(v.down) &&
        v.rows * v.cols <= 16 &&
        SUBGROUPS * v.lanes <= caps.maxInvocations &&
        [true, false].every((b) => matrixBytes(v, { a: b, b }) <= caps.maxWorkgroupStorage)
      );
    }
    case "tiled": {
      const whole = v.bm % v.rows === 0 && v.bn % v.cols === 0 && v.bk % 4 === 0 && v.cols % 4 === 0;
      return (
        whole && tileInvocations(v) <= Math.min(256, caps.maxInvocations) && tileBytes(v) <= caps.maxWorkgroupStorage
      );
    }
  }
}

/**
 * A tuning as it was kept, for this adapter.
 * @param where its file, for errors
 * @throws UserError where it is no tuning, or of another adapter or driver
 */
export function readTuning(value: unknown, caps: Caps, where: string): Tuning {
  const again = "run `webrlhf tune` again";
  const { adapter, driver, products } = (typeof value === "object" && value !== null ? value : {}) as Partial<Tuning>;
  if (typeof adapter !== "string" || typeof driver !== "string" || !Array.isArray(products)) {
    throw new UserError(`${where} is no tuning of kernels: ${again}`);
  }
  if (adapter !== caps.name || driver !== (caps.driver ?? "")) {
    const is = [caps.name, caps.driver].filter(Boolean).join(", ");
    throw new UserError(`${where} is of ${[adapter, driver].filter(Boolean).join(", ")}, and this is ${is}: ${again}`);
  }
  for (const [i, one] of products.entries()) {
    const p = (typeof one === "object" && one !== null ? one : {}) as Partial<TunedProduct>;
    const sized = Array.isArray(p.sizes) && p.sizes.length === 2 && p.sizes.every((size) => isCount(size));
    const named = ["NN", "NT", "TN"].includes(p.mode as string) && (p.type === "f32" || p.type === "f16");
    if (!sized || !named || !isCount(p.tokens) || !isVariant(p.variant, caps)) {
      throw new UserError(`${where}: product ${i + 1} is none that this adapter can compute: ${again}`);
    }
    if (p.variant.family === "skinny" && (p.mode !== "NT" || p.tokens > p.variant.rows)) {
      throw new UserError(`${where}: product ${i + 1} has too many rows for its kernel: ${again}`);
    }
  }
  return { adapter, driver, products };
}

/**
 * Keeps which kernels are fastest on the open adapter, and goes by them from now on, as later programs do. Returns where.
 * @throws UserError where this runtime has no place for it
 */
export async function keepTuning(tuning: Tuning): Promise<string> {
  const store = tuningStore();
  if (store === null) throw new UserError("there is no place to keep a tuning here");
  await store.write(readTuning(tuning, caps(), "this tuning"));
  useTuning(tuning);
  return store.where;
}

onTuning(async (caps, store) => {
  useTuning(null);
  try {
    const kept = await store?.read();
    if (store && kept) useTuning(readTuning(kept, caps, store.where));
    return null;
  } catch (error) {
    return `kernels are not tuned: ${(error as Error).message}`;
  }
});
