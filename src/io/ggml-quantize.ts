/**
 * Values as ggml's formats, bit for bit as its reference rounds them: the bytes that `decode` of the same format reads.
 * Every step is rounded to f32, as there.
 */
import { f32sToBf16, f32sToF16, f32ToF16 } from "../runtime/half.ts";
import { GGML_TYPES, type GgmlType } from "./ggml.ts";

/** The formats that are written. */
export const WRITTEN = ["F32", "F16", "BF16", "Q8_0", "Q4_0"] as const;
export type WrittenFormat = (typeof WRITTEN)[number];

const SIZE = 32;

/** A format by its name, with ggml's number for it. */
export function formatNamed(name: WrittenFormat): { code: number; type: GgmlType } {
  for (const [code, type] of GGML_TYPES) if (type.name === name) return { code, type };
  throw new Error(`no format ${name}`);
}

/** The bytes of whole blocks. The values must be finite, and their number a multiple of the format's block. */
export function encodeGgml(values: Float32Array, format: WrittenFormat): Uint8Array {
  switch (format) {
    case "F32":
      return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    case "F16":
      return new Uint8Array(f32sToF16(values).buffer);
    case "BF16":
      return new Uint8Array(f32sToBf16(values).buffer);
    case "Q8_0":
      return blocks(values, 34, q8_0);
    case "Q4_0":
      return blocks(values, 18, q4_0);
  }
}

/** Writes the block of the values from index `from` on to byte `at`. */
type Block = (values: Float32Array, from: number, out: Uint8Array, at: number) => void;

function blocks(values: Float32Array, bytes: number, block: Block): Uint8Array {
  const count = values.length / SIZE;
  const out = new Uint8Array(count * bytes);
  for (let i = 0; i < count; i++) block(values, i * SIZE, out, i * bytes);
  return out;
}

const { fround } = Math;

/** d and its inverse as f32; the inverse of 0 is 0. d is stored as f16, but values are divided by the exact one. */
function scale(d: number, out: Uint8Array, at: number): number {
  const half = f32ToF16(d);
  out[at] = half;
  out[at + 1] = half >> 8;
  return d === 0 ? 0 : fround(1 / d);
}

/** d is the largest magnitude / 127; halves are rounded away from 0. */
const q8_0: Block = (values, from, out, at) => {
  let most = 0;
  for (let i = 0; i < SIZE; i++) most = Math.max(most, Math.abs(values[from + i]));
  const inverse = scale(fround(most / 127), out, at);
  for (let i = 0; i < SIZE; i++) {
    const x = fround(values[from + i] * inverse);
    out[at + 2 + i] = Math.sign(x) * Math.floor(Math.abs(x) + 0.5);
  }
};

/** d is the value of the largest magnitude / -8, so that this one becomes -8 exactly. */
const q4_0: Block = (values, from, out, at) => {
  let extreme = values[from];
  for (let i = 1; i < SIZE; i++) if (Math.abs(values[from + i]) > Math.abs(extreme)) extreme = values[from + i];
  const inverse = scale(fround(extreme / -8), out, at);
  const level = (i: number) => Math.min(15, Math.trunc(fround(fround(values[from + i] * inverse) + 8.5)));
  for (let i = 0; i < SIZE / 2; i++) out[at + 2 + i] = level(i) | (level(i + SIZE / 2) << 4);
};
