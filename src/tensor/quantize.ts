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
import { bf16ToF32, f32ToBf16, f32ToF16 } from "../runtime/half.ts";

/** The formats in which frozen weights can be stored. */
export const quantizedFormats = ["bfloat16", "float16", "int8", "int4"] as const;
/** A format in which a frozen weight is stored. */
export type QuantizedFormat = (typeof quantizedFormats)[number];
/** How a model's weights are stored. */
export type WeightFormat = "float32" | QuantizedFormat;

/** Rows are padded to a multiple of `group`; a group takes `words` u32 and, for integers, one more with its scale. */
export const layouts: Record<QuantizedFormat, { group: number; words: number; scaled: boolean }> = {
  bfloat16: { group: 4, words: 2, scaled: false },
  float16: { group: 4, words: 2, scaled: false },
  int8: { group: 64, words: 16, scaled: true },
  int4: { group: 32, words: 4, scaled: true },
};

/**
 * How embeddings and heads are stored in a model of a format. On 101 tokens, the perplexity of SmolLM2-135M-Instruct (of a
 * file whose other weights have 4 bits already) rose by 31 % with its tied table in int4, and by 0.3 % with it in int8.
 */
export const tableFormats: Record<QuantizedFormat, QuantizedFormat> = {
  bfloat16: "bfloat16",
  float16: "float16",
  int8: "bfloat16",
  int4: "int8",
};

export interface QuantizedRows {
  data: Uint32Array<ArrayBuffer>;
  /** One per group: the bits of an f32 (int8), or of two bfloat16, low in the low half and scale in the high (int4). */
  scales: Uint32Array<ArrayBuffer> | null;
}

/** Packs whole rows of `cols` values. Throws `UserError` with `name` when the format cannot hold a value. */
export function packRows(values: Float32Array, cols: number, format: QuantizedFormat, name: string): QuantizedRows {
  const { group, words, scaled } = layouts[format];
  const groups = Math.ceil(cols / group);
  const rows = values.length / cols;
  const data = new Uint32Array(rows * groups * words);
  const scales = scaled ? new Uint32Array(rows * groups) : null;
  refuse(values, format, name);
  for (let row = 0; row < rows; row++) {
    const end = (row + 1) * cols;
    if (!scales) {
      packPairs(values, row * cols, end, data, row * groups * words, format === "bfloat16" ? f32ToBf16 : f32ToF16);
      continue;
    }
    const pack = format === "int8" ? packInt8 : packInt4;
    for (let g = 0; g < groups; g++) {
      const from = row * cols + g * group;
      const at = row * groups + g;
      scales[at] = pack(values, from, Math.min(from + group, end), data, at * words);
    }
  }
  return { data, scales };
}

const LARGEST = { bfloat16: 3.38e38, float16: 65504, int8: 3.4e38, int4: 1e38 };

function refuse(values: Float32Array, format: QuantizedFormat, name: string): void {
  const most = LARGEST[format];
  for (let i = 0; i < values.length; i++) {
    if (Math.abs(values[i]) <= most) continue;
    const hint = format === "float16" && Number.isFinite(values[i]) ? "bfloat16 has a wider range" : "use float32";
    throw new UserError(`${name} holds ${values[i]}, which ${format} cannot represent: ${hint}`);
  }
}

function packPairs(
  values: Float32Array,
  from: number,
  to: number,
  out: Uint32Array,
  word: number,
  convert: (value: number) => number,
): void {
  for (let i = 0; from + i < to; i++) out[word + (i >> 1)] |= convert(values[from + i]) << (16 * (i & 1));
}

/** A group's values from .. to - 1, symmetric around zero; returns the scale's bits. */
function packInt8(values: Float32Array, from: number, to: number, out: Uint32Array, word: number): number {
  let largest = 0;
  for (let i = from; i < to; i++) largest = Math.max(largest, Math.abs(values[i]));
  float[0] = largest / 127;
  const scale = float[0];
  const scaleBits = bits[0];
  if (scale > 0) {
    for (let i = 0; from + i < to; i++) {
      const q = Math.max(-127, Math.min(127, Math.round(values[from + i] / scale)));
      out[word + (i >> 2)] |= (q & 255) << (8 * (i & 3));
    }
  }
  return scaleBits;
}

/** From a group's smallest value to its largest in 15 steps; returns the bits of low and scale. */
function packInt4(values: Float32Array, from: number, to: number, out: Uint32Array, word: number): number {
  let [least, most] = [values[from], values[from]];
  for (let i = from + 1; i < to; i++) {
    least = Math.min(least, values[i]);
    most = Math.max(most, values[i]);
  }
  const lowBits = f32ToBf16(least);
  const low = bf16ToF32(lowBits);
  const scaleBits = f32ToBf16(Math.max(0, most - low) / 15);
  const scale = bf16ToF32(scaleBits);
  if (scale > 0) {
    for (let i = 0; from + i < to; i++) {
      const q = Math.max(0, Math.min(15, Math.round((values[from + i] - low) / scale)));
      out[word + (i >> 3)] |= q << (4 * (i & 7));
    }
  }
  return lowBits | (scaleBits << 16);
}

const float = new Float32Array(1);
const bits = new Uint32Array(float.buffer);
