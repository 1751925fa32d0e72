/** Rotary position embedding, in Hugging Face's pairing: column i turns with column i + D/2. */
import { onClose } from "../../gpu/device.ts";
import { kernel } from "../../gpu/kernel.ts";
import { createBuffer } from "../../gpu/pool.ts";
import { run } from "../../gpu/stream.ts";
import { ROPE } from "../../shaders/rope.wgsl.ts";
import { record } from "../autograd.ts";
import { borrow, empty, type Tensor } from "../tensor.ts";

export interface RopeOptions {
  heads: number;
  kvHeads: number;
  /** D, a multiple of 4. */
  headDim: number;
  /** Base of the wavelengths. Default 10000. */
  theta?: number;
  /** Where the positions end, if known: refused beyond 65,536 instead of computed wrongly. */
  maxPositions?: number;
}

const LOW = 256; // positions reach LOW * LOW
const WG = 64;

const ropeKernel = kernel({
  name: "rope",
  code: ROPE,
  bindings: { x: "read V", positions: "read u32", angles: "read F", y: "write V" },
  scalars: { n: "u32", rotated: "u32", heads: "u32", sign: "f32" },
});

/**
 * Turns each pair (i, i + D/2) of every query and key head by position * theta^(-2i/D); values pass unchanged.
 * @param qkv [N, (heads + 2 kvHeads) * D]
 * @param positions u32 [N], below 65,536
 */
export function rope(qkv: Tensor, positions: Tensor, options: RopeOptions): Tensor {
  const { heads, kvHeads, headDim, theta = 10000 } = options;
  const width = (heads + 2 * kvHeads) * headDim;
  if (headDim % 4 !== 0) throw new Error(`rope: head dimension ${headDim} is not a multiple of 4`);
  if (positions.dtype !== "u32" || qkv.size !== positions.size * width) {
    throw new Error(`rope: qkv must be [${positions.size}, ${width}] for u32 positions, not [${qkv.shape}]`);
  }
  if ((options.maxPositions ?? 0) > LOW * LOW) {
    throw new Error(`rope: angles are tabled for ${LOW * LOW} positions, not ${options.maxPositions}`);
  }
  const y = turn(qkv, positions, options, theta, 1);
  return record("rope", [qkv], y, (dy) => [turn(dy, positions, options, theta, -1)]);
}

function turn(
  x: Tensor,
  positions: Tensor,
  { heads, kvHeads, headDim }: RopeOptions,
  theta: number,
  sign: number,
): Tensor {
  const lanes = headDim % 8 === 0 ? 4 : 2;
  const HALF = headDim / 2 / lanes;
  const y = empty(x.shape, x.dtype, "rope");
  const n = positions.size * HALF;
  const consts = { T: x.dtype, V: `vec${lanes}<${x.dtype}>`, F: `vec${lanes}<f32>`, HALF, LOW, WG };
  const buffers = [x.view, positions.view, angles(headDim, theta).view, y.view];
  run(ropeKernel, consts, buffers, [n, heads + kvHeads, heads + 2 * kvHeads, sign], Math.ceil(n / WG));
  return y;
}

const tables = new Map<string, Tensor>();
onClose(() => tables.clear());

/** cos and sin of positions 0..LOW-1, then of the multiples of LOW: f32 [2 LOW, 2, D/2], computed in float64. */
function angles(headDim: number, theta: number): Tensor {
  const key = `${headDim} ${theta}`;
  const known = tables.get(key);
  if (known) return known;
  const half = headDim / 2;
  const data = new Float32Array(2 * LOW * headDim);
  for (let e = 0; e < 2 * LOW; e++) {
    const position = e < LOW ? e : (e - LOW) * LOW;
    for (let i = 0; i < half; i++) {
      // Transformers keeps the frequencies in f32; starting from the same ones keeps long contexts comparable.
      const angle = position * Math.fround(theta ** (-i / half));
      data[e * headDim + i] = Math.cos(angle);
      data[e * headDim + half + i] = Math.sin(angle);
    }
  }
  const table = borrow(createBuffer(data.byteLength, "rope angles"), [2 * LOW, headDim], "f32", "rope angles");
  table.write(data);
  tables.set(key, table);
  return table;
}
