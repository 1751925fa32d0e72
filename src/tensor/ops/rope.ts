/** Rotary position embedding, in Hugging Face's pairing: column i turns with column i + D/2. */
import { onClose } from "../../gpu/device.ts";
import { kernel } from "../../gpu/kernel.ts";
import { createBuffer } from "../../gpu/pool.ts";
import { run } from "../../gpu/stream.ts";
import { ROPE } from "../../shaders/rope.wgsl.ts";
import { borrow, empty, record, type Tensor } from "../core.ts";

/** Heads whose queries and keys are rotated, and by which angles. */
export interface RopeOptions {
  heads: number;
  kvHeads: number;
  /** D, a multiple of 4. */
  headDim: number;
  /** Base of the wavelengths where `frequencies` are not given. Default 10000. */
  theta?: number;
  /**
   * Radians per position of each pair, at most D/2: columns i and i + length turn together, those beyond stay. The angles
   * are tabled once per array object. Default theta^(-2i/D) for all D/2 pairs.
   */
  frequencies?: Float32Array;
  /** Factor on the rotated columns. Default 1. */
  magnitude?: number;
  /** Where the positions end, if known: refused beyond 131,072 instead of computed wrongly. */
  maxPositions?: number;
}

const LOW = 256; // positions reach LOW * HIGH
const HIGH = 512;
const WG = 64;

/** The longest sequence whose positions can be rotated. */
export const MAX_ROPE_POSITIONS: number = LOW * HIGH;

const ropeKernel = kernel({
  name: "rope",
  code: ROPE,
  bindings: { x: "read V", positions: "read u32", angles: "read F", y: "write V" },
  scalars: { n: "u32", rotated: "u32", heads: "u32", sign: "f32" },
});

/**
 * Turns each pair (i, i + D/2) of every query and key head by position * theta^(-2i/D); values pass unchanged. With
 * `frequencies`, only their columns turn, at their speeds.
 * @param qkv [N, (heads + 2 kvHeads) * D]
 * @param positions u32 [N], below 131,072
 */
export function rope(qkv: Tensor, positions: Tensor, options: RopeOptions): Tensor {
  const { heads, kvHeads, headDim, frequencies = powers(headDim, options.theta ?? 10000) } = options;
  const width = (heads + 2 * kvHeads) * headDim;
  if (headDim % 4 !== 0) throw new Error(`rope: head dimension ${headDim} is not a multiple of 4`);
  if (frequencies.length < 1 || frequencies.length > headDim / 2) {
    throw new Error(`rope: ${frequencies.length} frequencies for heads of ${headDim} columns`);
  }
  if (positions.dtype !== "u32" || qkv.size !== positions.size * width) {
    throw new Error(`rope: qkv must be [${positions.size}, ${width}] for u32 positions, not [${qkv.shape}]`);
  }
  if ((options.maxPositions ?? 0) > MAX_ROPE_POSITIONS) {
    throw new Error(`rope: angles are tabled for ${MAX_ROPE_POSITIONS} positions, not ${options.maxPositions}`);
  }
  const table = angles(frequencies, options.magnitude ?? 1);
  const y = turn(qkv, positions, options, table, 1);
  return record("rope", [qkv], y, (dy) => [turn(dy, positions, options, table, -1)]);
}

function turn(
  x: Tensor,
  positions: Tensor,
  { heads, kvHeads, headDim }: RopeOptions,
  table: Tensor,
  sign: number,
): Tensor {
  const half = table.shape[1] / 2;
  // As many columns at once as divide both the rotated half and the rest.
  const lanes = [4, 2, 1].find((n) => half % n === 0 && (headDim - 2 * half) % n === 0) as number;
  const HALF = half / lanes;
  const WIDTH = headDim / lanes;
  const vector = (type: string) => (lanes === 1 ? type : `vec${lanes}<${type}>`);
  const y = empty(x.shape, x.dtype, "rope");
  const n = positions.size * (WIDTH - HALF);
  const consts = { T: x.dtype, V: vector(x.dtype), F: vector("f32"), HALF, WIDTH, LOW, HIGH, WG };
  const buffers = [x.view, positions.view, table.view, y.view];
  run(ropeKernel, consts, buffers, [n, heads + kvHeads, heads + 2 * kvHeads, sign], Math.ceil(n / WG));
  return y;
}

const known = new Map<string, Float32Array>();

/** theta^(-2i/D), the same object for the same arguments. Transformers keeps the frequencies in f32. */
function powers(headDim: number, theta: number): Float32Array {
  const key = `${headDim} ${theta}`;
  const half = headDim / 2;
  const found = known.get(key) ?? Float32Array.from({ length: half }, (_, i) => theta ** (-i / half));
  known.set(key, found);
  return found;
}

const tables = new Map<Float32Array, Map<number, Tensor>>();
onClose({
  forget: () => tables.clear(),
  setAside() {
    const kept = [...tables];
    return () => {
      for (const [frequencies, table] of kept) tables.set(frequencies, table);
    };
  },
});

/**
 * cos and sin of positions 0..LOW-1 times `magnitude`, then of the multiples of LOW: f32 [LOW + HIGH, 2 half], computed
 * in float64.
 */
function angles(frequencies: Float32Array, magnitude: number): Tensor {
  const mine = tables.get(frequencies) ?? new Map<number, Tensor>();
  tables.set(frequencies, mine);
  const found = mine.get(magnitude);
  if (found) return found;
  const half = frequencies.length;
  const data = new Float32Array((LOW + HIGH) * 2 * half);
  for (let e = 0; e < LOW + HIGH; e++) {
    const position = e < LOW ? e : (e - LOW) * LOW;
    const factor = e < LOW ? magnitude : 1;
    for (let i = 0; i < half; i++) {
      const angle = position * frequencies[i];
      data[e * 2 * half + i] = factor * Math.cos(angle);
      data[e * 2 * half + half + i] = factor * Math.sin(angle);
    }
  }
  const buffer = createBuffer(data.byteLength, "rope angles");
  const table = borrow(buffer, [LOW + HIGH, 2 * half], "f32", "rope angles");
  table.write(data);
  mine.set(magnitude, table);
  return table;
}
