/**
 * The formats that frozen weights are stored in, and how f32 values become them. On the host, in whole rows: the same
 * bits in every runtime and on every adapter.
 *
 * | format   | a row of values is                                             | bits per value
 * |----------|----------------------------------------------------------------|----------------
 * | bfloat16 | pairs in u32, nearest even                                     | 16
 * | float16  | pairs in u32, nearest even                                     | 16
 * | int8     | groups of 64: q * scale, q in -127..127, an f32 scale          | 8.5
 * | int4     | groups of 32: q * scale + low, q in 0..15, both bfloat16       | 5
 *
 * Groups run along the input dimension. Rows are padded to whole groups (16-bit formats: to four values).
 */
import { UserError } from "../runtime/errors.ts";
import { floatToHalf } from "./tensor.ts";

export const packedFormats = ["bfloat16", "float16", "int8", "int4"] as const;
/** How a frozen weight is stored. */
export type PackedFormat = (typeof packedFormats)[number];
/** How a model's weights are stored. */
export type WeightFormat = "float32" | PackedFormat;

/** Rows are padded to a multiple of `group`; a group takes `words` u32 and, for integers, one more with its scale. */
export const layouts: Record<PackedFormat, { group: number; words: number; scaled: boolean }> = {
  bfloat16: { group: 4, words: 2, scaled: false },
  float16: { group: 4, words: 2, scaled: false },
  int8: { group: 64, words: 16, scaled: true },
  int4: { group: 32, words: 4, scaled: true },
};

export interface PackedRows {
  data: Uint32Array<ArrayBuffer>;
  /** One per group: the bits of an f32 (int8), or of two bfloat16, low in the low half and scale in the high (int4). */
  scales: Uint32Array<ArrayBuffer> | null;
}

/** Packs whole rows of `cols` values. Throws `UserError` with `name` when the format cannot hold a value. */
export function packRows(values: Float32Array, cols: number, format: PackedFormat, name: string): PackedRows {
  const { group, words, scaled } = layouts[format];
  const groups = Math.ceil(cols / group);
  const rows = values.length / cols;
  const data = new Uint32Array(rows * groups * words);
  const scales = scaled ? new Uint32Array(rows * groups) : null;
  const part = new Float32Array(group);
  for (let at = 0; at < rows * groups; at++) {
    const row = Math.floor(at / groups);
    const first = (at % groups) * group;
    const last = Math.min(first + group, cols);
    const given = values.subarray(row * cols + first, row * cols + last);
    part.set(given);
    part.fill(0, given.length);
    refuse(given, format, name);
    const out = data.subarray(at * words, (at + 1) * words);
    if (format === "bfloat16") packPairs(part, out, toBfloat16);
    else if (format === "float16") packPairs(part, out, floatToHalf);
    else if (scales) scales[at] = format === "int8" ? packInt8(part, out) : packInt4(part, given.length, out);
  }
  return { data, scales };
}

const LARGEST = { bfloat16: 3.38e38, float16: 65504, int8: 3.4e38, int4: 1e38 };

function refuse(values: Float32Array, format: PackedFormat, name: string): void {
  for (let i = 0; i < values.length; i++) {
    if (Math.abs(values[i]) <= LARGEST[format]) continue;
    const hint = format === "float16" && Number.isFinite(values[i]) ? "bfloat16 has a wider range" : "use float32";
    throw new UserError(`${name} holds ${values[i]}, which ${format} cannot represent: ${hint}`);
  }
}

function packPairs(values: Float32Array, out: Uint32Array, convert: (value: number) => number): void {
  for (let i = 0; i < out.length; i++) out[i] = convert(values[2 * i]) | (convert(values[2 * i + 1]) << 16);
}

/** Symmetric around zero; returns the scale's bits. */
function packInt8(values: Float32Array, out: Uint32Array): number {
  let largest = 0;
  for (const v of values) largest = Math.max(largest, Math.abs(v));
  float[0] = largest / 127;
  const scale = float[0];
  if (scale > 0) {
    for (let i = 0; i < values.length; i++) {
      const q = Math.max(-127, Math.min(127, Math.round(values[i] / scale)));
      out[i >> 2] |= (q & 255) << (8 * (i & 3));
    }
  }
  return bits[0];
}

/** From the smallest value to the largest in 15 steps; returns the bits of low and scale. Padding does not count. */
function packInt4(values: Float32Array, count: number, out: Uint32Array): number {
  let [least, most] = [values[0], values[0]];
  for (let i = 1; i < count; i++) {
    least = Math.min(least, values[i]);
    most = Math.max(most, values[i]);
  }
  const lowBits = toBfloat16(least);
  const low = fromBfloat16(lowBits);
  const scaleBits = toBfloat16(Math.max(0, most - low) / 15);
  const scale = fromBfloat16(scaleBits);
  if (scale > 0) {
    for (let i = 0; i < count; i++) {
      const q = Math.max(0, Math.min(15, Math.round((values[i] - low) / scale)));
      out[i >> 3] |= q << (4 * (i & 7));
    }
  }
  return lowBits | (scaleBits << 16);
}

/** Bits of the nearest bfloat16, ties to even; the value must be finite. */
export function toBfloat16(value: number): number {
  float[0] = value;
  const u = bits[0];
  return (u + 0x7fff + ((u >>> 16) & 1)) >>> 16;
}

export function fromBfloat16(half: number): number {
  bits[0] = half << 16;
  return float[0];
}

const float = new Float32Array(1);
const bits = new Uint32Array(float.buffer);
