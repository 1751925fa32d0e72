/** Matrix products of a model's layers: as the table chooses, and by other kernels that could do it. */
import type { MatmulVariant } from "../../gpu/product.ts";
import { tabledVariant } from "../../gpu/variants.ts";
import { noise } from "../../runtime/noise.ts";
import type { Tensor } from "../../tensor/core.ts";
import { gemm, type ProductSizes } from "../../tensor/ops/gemm.ts";
import type { DayContext, DayItem } from "../item.ts";
import { type DayModel, matrices } from "../models.ts";
import { noiseTensor } from "../noise.ts";
import { Budget, pace, rate } from "../pace.ts";

type Mode = "NN" | "NT" | "TN";

/** A product that a model needs. */
export interface DayProduct {
  readonly name: string;
  readonly mode: Mode;
  readonly sizes: ProductSizes;
}

/** A forward pass is NT, the gradient of its input NN, that of its weight TN; decoding is NT with few rows. */
export function productsOf(model: DayModel): DayProduct[] {
  const [sequences, tokens] = model.batch;
  const step = sequences * tokens;
  return Object.entries(matrices(model)).flatMap(([name, [outputs, inputs]]) => {
    // Logits of a step are never whole: the head's rows come in blocks.
    const most = name === "head" ? Math.min(step, 256) : step;
    const forward = model.rows
      .filter((rows) => rows <= most)
      .map((rows): DayProduct => ({ name, mode: "NT", sizes: [rows, outputs, inputs] }));
    return [
      ...forward,
      { name, mode: "NN", sizes: [most, inputs, outputs] },
      { name, mode: "TN", sizes: [outputs, inputs, most] },
    ] satisfies DayProduct[];
  });
}

export const shapeOf = (mode: Mode, [m, n, k]: ProductSizes): [a: number[], b: number[]] => [
  mode === "TN" ? [k, m] : [m, k],
  mode === "NT" ? [n, k] : [k, n],
];

/** Elements of an output that are computed once more in float64. */
const CHECKED = 64;

/** The largest error of some elements, beside the mean magnitude of their summands' sums. */
export function errorOf(
  { mode, sizes: [m, n, k] }: DayProduct,
  [a, b]: readonly [Float32Array, Float32Array],
  c: Float32Array,
): number {
  let worst = 0;
  for (let e = 0; e < CHECKED; e++) {
    // Corners first, then spread by a stride that shares no factor with usual sizes.
    const [i, j] = e < 4 ? [(e & 1) * (m - 1), (e >> 1) * (n - 1)] : [(e * 7919) % m, (e * 104729) % n];
    let sum = 0;
    let size = 0;
    for (let l = 0; l < k; l++) {
      const term = a[mode === "TN" ? l * m + i : i * k + l] * b[mode === "NT" ? j * k + l : l * n + j];
      sum += term;
      size += Math.abs(term);
    }
    const error = Math.abs(c[i * n + j] - sum) / size;
    if (Number.isNaN(error)) return error;
    worst = Math.max(worst, error);
  }
  return worst;
}

/** Sums of f32 in any order stay within this of the sum of magnitudes, for the lengths here. */
export const ACCEPTED = 2e-6;

export const say = ({ family, ...rest }: MatmulVariant): string =>
  [family, ...Object.entries(rest).map(([key, value]) => `${key} ${value}`)].join(" ");

/** Other ways for a CPU adapter: more or fewer rows to a load of B, and operands transposed first. All give the same bits. */
export function candidatesOnCpu({ mode, sizes: [m] }: DayProduct, chosen: MatmulVariant): MatmulVariant[] {
  if (chosen.family !== "subgroup") return [];
  const { cols, lanes } = chosen;
  const rows = [1, 4, 8, 16, 32].filter((count) => count < 2 * m || count === 1);
  const turns = mode === "TN" || m < 9 ? [false] : [false, true];
  const all = rows.flatMap((count) =>
    turns.map((turn): MatmulVariant => ({ family: "subgroup", rows: count, cols, lanes, ...(turn && { turn }) })),
  );
  return all.filter((one) => say(one) !== say(chosen));
}

/** Everything that the tables know to do with such a product on a GPU. */
export function candidates({ mode, sizes: [m, , k] }: DayProduct, chosen: MatmulVariant): MatmulVariant[] {
  const tile = (bm: number, bn: number, bk: number, cols: number, splits = 1): MatmulVariant => ({
    ...{ family: "tiled", bm, bn, bk, rows: 8, cols, splits },
  });
  const few: MatmulVariant[] =
    mode === "NT" && m <= 8
      ? [m, 4, 8].filter((rows) => rows >= m).map((rows): MatmulVariant => ({ family: "skinny", rows }))
      : [];
  const tiles = [
    tile(128, 64, 8, 8),
    tile(128, 64, 16, 4),
    tile(64, 64, 16, 4),
    tile(64, 32, 16, 4),
    tile(32, 64, 16, 4),
  ];
  const split = k >= 1024 ? [2, 4, 8, 16].map((splits) => tile(64, 64, 16, 4, splits)) : [];
  const all = new Map([...few, ...tiles, ...split].map((one) => [say(one), one]));
  all.delete(say(chosen));
  return [...all.values()];
}

export const products: DayItem = {
  name: "products",
  summary: "matrix products of the model's layers, as the table chooses and by other kernels",
  share: 100,
  async run({ caps, model, seconds, tell }: DayContext) {
    const budget = new Budget(seconds);
    const all = productsOf(model);
    for (const [at, product] of all.entries()) {
      const { name, mode, sizes } = product;
      const [m, n, k] = sizes;
      const chosen = tabledVariant(caps, { mode, m, n, k, batch: 1 });
      const others = caps.kind === "hardware" ? candidates(product, chosen) : [];
      const [shapeA, shapeB] = shapeOf(mode, sizes);
      const [a, b] = [noiseTensor(shapeA, 1), noiseTensor(shapeB, 2)];
      const values = [noise(a.size, 1), noise(b.size, 2)] as const;
      const each = budget.shareOf(all.length - at) / (2 + others.length);
      try {
        for (const [i, variant] of [chosen, ...others].entries()) {
          if (i > 0 && each < 0.002) break; // what the table chooses is timed in any case
          const c: Tensor = gemm(a, b, mode, sizes, { variant });
          const error = errorOf(product, values, (await c.read()) as Float32Array);
          c.free("the day");
          const found = await pace(() => void gemm(a, b, mode, sizes, { variant }), i === 0 ? 2 * each : each);
          tell({
            what: `${name} ${mode} ${m}x${n}x${k}`,
            unit: "GFLOP/s",
            ...rate(2 * m * n * k, found),
            how: `${i === 0 ? "the table's: " : ""}${say(variant)}`,
            // With few rows, reading the weight once is all there is to do.
            bound:
              m > 16
                ? { ceiling: "f32 multiply-adds", reached: (2e-9 * m * n * k) / found.median }
                : { ceiling: "memory", reached: (4e-9 * n * k) / found.median },
            ...(error <= ACCEPTED ? {} : { wrong: true }),
          });
        }
      } finally {
        for (const t of [a, b]) t.free("the day");
      }
    }
  },
};
