/**
 * The block formats of ggml's tensors and their values as f32. A format stores `items` values in `bytes` bytes; its rule
 * is written beside it, with d (scale) and m (minimum) as f16 and q as unsigned integers. All sums are exact in f64 and
 * round once to f32, so the values are those of the reference implementation.
 */
import { bf16sToF32, f16sToF32, f16Table } from "../runtime/half.ts";

export interface GgmlType {
  readonly name: string;
  /** Values per block. */
  readonly items: number;
  /** Bytes per block. */
  readonly bytes: number;
  /** Values of whole blocks. */
  decode(bytes: Uint8Array): Float32Array;
}

/** Reads one block that starts at byte `at` into `out` from index `to`. */
type Block = (bytes: Uint8Array, at: number, out: Float32Array, to: number) => void;

function blocks(name: string, items: number, size: number, block: Block): GgmlType {
  const decode = (bytes: Uint8Array) => {
    const count = bytes.length / size;
    const out = new Float32Array(count * items);
    for (let i = 0; i < count; i++) block(bytes, i * size, out, i * items);
    return out;
  };
  return { name, items, bytes: size, decode };
}

const aligned = (bytes: Uint8Array, to: number): Uint8Array => (bytes.byteOffset % to === 0 ? bytes : bytes.slice());
const halves = (bytes: Uint8Array): Uint16Array => {
  const { buffer, byteOffset, length } = aligned(bytes, 2);
  return new Uint16Array(buffer, byteOffset, length / 2);
};
const floats = (bytes: Uint8Array): Float32Array => {
  const { buffer, byteOffset, length } = aligned(bytes, 4);
  return new Float32Array(buffer, byteOffset, length / 4);
};

const half = (bytes: Uint8Array, at: number): number => f16Table()[bytes[at] | (bytes[at + 1] << 8)];
const word = (bytes: Uint8Array, at: number): number =>
  bytes[at] | (bytes[at + 1] << 8) | (bytes[at + 2] << 16) | (bytes[at + 3] << 24);
const signed = (byte: number): number => (byte << 24) >> 24;

/** d (q - 8) */
const q4_0: Block = (b, at, out, to) => {
  const d = half(b, at);
  for (let i = 0; i < 16; i++) {
    const q = b[at + 2 + i];
    out[to + i] = d * ((q & 15) - 8);
    out[to + 16 + i] = d * ((q >> 4) - 8);
  }
};

/** d q + m */
const q4_1: Block = (b, at, out, to) => {
  const d = half(b, at);
  const m = half(b, at + 2);
  for (let i = 0; i < 16; i++) {
    const q = b[at + 4 + i];
    out[to + i] = d * (q & 15) + m;
    out[to + 16 + i] = d * (q >> 4) + m;
  }
};

/** d (q - 16), the fifth bits apart */
const q5_0: Block = (b, at, out, to) => {
  const d = half(b, at);
  const high = word(b, at + 2);
  for (let i = 0; i < 16; i++) {
    const q = b[at + 6 + i];
    out[to + i] = d * (((q & 15) | (((high >>> i) & 1) << 4)) - 16);
    out[to + 16 + i] = d * (((q >> 4) | (((high >>> (i + 16)) & 1) << 4)) - 16);
  }
};

/** d q + m, the fifth bits apart */
const q5_1: Block = (b, at, out, to) => {
  const d = half(b, at);
  const m = half(b, at + 2);
  const high = word(b, at + 4);
  for (let i = 0; i < 16; i++) {
    const q = b[at + 8 + i];
    out[to + i] = d * ((q & 15) | (((high >>> i) & 1) << 4)) + m;
    out[to + 16 + i] = d * ((q >> 4) | (((high >>> (i + 16)) & 1) << 4)) + m;
  }
};

/** d q, q signed */
const q8_0: Block = (b, at, out, to) => {
  const d = half(b, at);
  for (let i = 0; i < 32; i++) out[to + i] = d * signed(b[at + 2 + i]);
};

/** Six-bit scale of group j of the K formats: eight scales and eight minima in twelve bytes. */
const scaleOf = (b: Uint8Array, at: number, j: number): number =>
  j < 4 ? b[at + j] & 63 : (b[at + j + 4] & 15) | ((b[at + j - 4] >> 6) << 4);
const minimumOf = (b: Uint8Array, at: number, j: number): number =>
  j < 4 ? b[at + j + 4] & 63 : (b[at + j + 4] >> 4) | ((b[at + j] >> 6) << 4);

/** d scale q - m minimum, in eight groups of 32 */
const q4_k: Block = (b, at, out, to) => {
  const d = half(b, at);
  const m = half(b, at + 2);
  for (let j = 0; j < 8; j++) {
    const scale = d * scaleOf(b, at + 4, j);
    const minimum = m * minimumOf(b, at + 4, j);
    const from = at + 16 + (j >> 1) * 32;
    const shift = (j & 1) * 4;
    for (let i = 0; i < 32; i++) out[to + j * 32 + i] = scale * ((b[from + i] >> shift) & 15) - minimum;
  }
};

/** As Q4_K, the fifth bits apart: bit j of a byte belongs to group j */
const q5_k: Block = (b, at, out, to) => {
  const d = half(b, at);
  const m = half(b, at + 2);
  for (let j = 0; j < 8; j++) {
    const scale = d * scaleOf(b, at + 4, j);
    const minimum = m * minimumOf(b, at + 4, j);
    const from = at + 48 + (j >> 1) * 32;
    const shift = (j & 1) * 4;
    for (let i = 0; i < 32; i++) {
      const q = ((b[from + i] >> shift) & 15) | (((b[at + 16 + i] >> j) & 1) << 4);
      out[to + j * 32 + i] = scale * q - minimum;
    }
  }
};

/** d scale (q - 32), sixteen signed scales; two halves of 128 values, four low or two high bits to a place */
const q6_k: Block = (b, at, out, to) => {
  const d = half(b, at + 208);
  for (let n = 0; n < 2; n++) {
    for (let part = 0; part < 4; part++) {
      const low = at + n * 64 + (part & 1) * 32;
      const high = at + 128 + n * 32;
      const scales = at + 192 + n * 8 + part * 2;
      const shift = (part >> 1) * 4;
      for (let i = 0; i < 32; i++) {
        const q = ((b[low + i] >> shift) & 15) | (((b[high + i] >> (2 * part)) & 3) << 4);
        out[to + n * 128 + part * 32 + i] = d * signed(b[scales + (i >> 4)]) * (q - 32);
      }
    }
  }
};

/** The formats that are read, by ggml's number. */
export const GGML_TYPES: ReadonlyMap<number, GgmlType> = new Map([
  [0, { name: "F32", items: 1, bytes: 4, decode: floats }],
  [1, { name: "F16", items: 1, bytes: 2, decode: (bytes: Uint8Array) => f16sToF32(halves(bytes)) }],
  [30, { name: "BF16", items: 1, bytes: 2, decode: (bytes: Uint8Array) => bf16sToF32(halves(bytes)) }],
  [2, blocks("Q4_0", 32, 18, q4_0)],
  [3, blocks("Q4_1", 32, 20, q4_1)],
  [6, blocks("Q5_0", 32, 22, q5_0)],
  [7, blocks("Q5_1", 32, 24, q5_1)],
  [8, blocks("Q8_0", 32, 34, q8_0)],
  [12, blocks("Q4_K", 256, 144, q4_k)],
  [13, blocks("Q5_K", 256, 176, q5_k)],
  [14, blocks("Q6_K", 256, 210, q6_k)],
]);
