/**
 * The kernels in the sizes that a GPU gets, run on whatever adapter there is. Only in Node: SwiftShader takes minutes to
 * compile them.
 */
import { beforeAll, describe, expect, it } from "vitest";
import { type Caps, tensor } from "webrlhf";
import type { MatmulShape } from "../../src/gpu/product.ts";
import { matmulVariant } from "../../src/gpu/variants.ts";
import { gemm } from "../../src/tensor/ops/matmul.ts";
import { expectClose, gpuReady } from "../helpers.ts";
import { values } from "../tensor/check.ts";

let hardware: Caps;
beforeAll(async () => {
  hardware = { ...(await gpuReady()), kind: "hardware", subgroupSize: 32, subgroupSizeMax: 32 };
});

/** A few elements of the product in float64: both ends of every tile, and of the matrix. */
function sample({ mode, m, n, k }: MatmulShape, a: Float32Array, b: Float32Array, tile: [number, number]) {
  const ends = (size: number, step: number) => {
    const at = new Set([0, size - 1]);
    for (let i = step; i < size; i += step) for (const x of [i - 1, i, i + 9]) if (x < size) at.add(x);
    for (let i = 1; i < size; i += 13) at.add(i);
    return [...at];
  };
  const picked: number[] = [];
  const expected: number[] = [];
  for (const i of ends(m, tile[0])) {
    for (const j of ends(n, tile[1])) {
      let sum = 0;
      for (let p = 0; p < k; p++) {
        sum += a[mode === "TN" ? p * m + i : i * k + p] * b[mode === "NT" ? j * k + p : p * n + j];
      }
      picked.push(i * n + j);
      expected.push(sum);
    }
  }
  return { picked, expected };
}

const modes = ["NN", "NT", "TN"] as const;

/** Shapes that the table gives each of its tiles: one past tiles in each direction, with and without vec4 access. */
const cases: { name: string; shapes: [m: number, n: number, k: number][] }[] = [
  {
    name: "large outputs",
    shapes: [
      [2052, 964, 20],
      [2049, 961, 33],
    ],
  },
  {
    name: "middling outputs and long sums",
    shapes: [
      [516, 580, 36],
      [68, 132, 1028],
      [67, 130, 1037],
    ],
  },
  { name: "few rows", shapes: [[9, 67, 37]] },
  {
    name: "small outputs",
    shapes: [
      [68, 36, 24],
      [131, 67, 21],
    ],
  },
];

/** Every mode with every shape where the GPU's kernels are what is tested; else one shape of each kind in one, for time's sake. */
const everything = globalThis.process.env.WEBRLHF_ADAPTER_KIND === "hardware";

// A software adapter takes long to compile them.
describe("a GPU's matrix products", { timeout: 300_000 }, () => {
  it.each(cases)("agree with float64 in the tiles for $name", async ({ name, shapes }) => {
    const turn = cases.findIndex((c) => c.name === name);
    for (const [m, n, k] of everything ? shapes : shapes.slice(0, 1)) {
      for (const mode of everything ? modes : [modes[turn % 3]]) {
        const shape = { mode, m, n, k, batch: 1 };
        const variant = matmulVariant(hardware, shape);
        if (variant.family !== "tiled") throw new Error(`${m} x ${n} x ${k} gets the family ${variant.family}`);
        expect(variant.splits > 1).toBe(k > 1000);
        const [a, b] = [values(m * k, m), values(n * k, n)];
        const [x, y] = [tensor(a, [a.length]), tensor(b, [b.length])];
        const c = gemm(x, y, mode, [m, n, k], { variant });
        const got = await c.read();
        const { picked, expected } = sample(shape, a, b, [variant.bm, variant.bn]);
        const what = `${mode} ${m} x ${n} x ${k}`;
        expectClose(
          Float32Array.from(picked, (i) => got[i]),
          expected,
          1e-6 * Math.max(4, Math.sqrt(k)),
          1e-6,
          what,
        );
        for (const t of [x, y, c]) t.free("test");
      }
    }
  });
});
