/** Writing safetensors files: in one piece, or as a stream that holds a few tensors at a time. */

import { f32sToBf16, f32sToF16 } from "../runtime/half.ts";
import { BYTES, product } from "./dtypes.ts";

/** The types in which safetensors files store floats. */
export type FloatType = "F32" | "F16" | "BF16";

/** A tensor that will be written: described now, read when its turn comes. */
export interface TensorToWrite {
  name: string;
  shape: readonly number[];
  dtype: FloatType | "U32";
  read(): Promise<Float32Array | Uint32Array>;
  /** Entries first .. last - 1 of the first dimension, for tensors too large to be held whole. */
  readRows?(first: number, last: number): Promise<Float32Array | Uint32Array>;
}

/** How `writeSafetensors` stores floats. */
export interface WriteOptions {
  /** How Float32Arrays are stored; default F32. Uint32Arrays are always U32. */
  dtype?: FloatType;
}

const PYTORCH = { format: "pt" };

/**
 * The bytes of a safetensors file. Tensors are ordered by item size, then name, and the header is padded to
 * 8 bytes, so that equal tensors give equal bytes and every tensor is aligned to its item size.
 * @param metadata defaults to `{format: "pt"}`, without which older transformers refuse a file
 */
export function writeSafetensors(
  tensors: Record<string, { shape: readonly number[]; data: Float32Array | Uint32Array }>,
  metadata: Record<string, string> = PYTORCH,
  options: WriteOptions = {},
): Uint8Array<ArrayBuffer> {
  const entries = Object.entries(tensors).map(([name, { shape, data }]) => {
    const dtype = data instanceof Uint32Array ? ("U32" as const) : (options.dtype ?? "F32");
    return { name, dtype, shape, data };
  });
  const { header, sorted, size } = layOut(entries, metadata);
  const out = new Uint8Array(header.length + size);
  out.set(header);
  let at = header.length;
  for (const { name, shape, dtype, data } of sorted) {
    const bytes = encode(name, shape, dtype, data);
    out.set(bytes, at);
    at += bytes.length;
  }
  return out;
}

/** Bytes that may be read ahead of what is written: enough to keep a GPU's readback busy. */
const AHEAD = 32 << 20;
/** Larger tensors are read by rows. */
const PIECE = 16 << 20;

/** The same bytes, piece by piece; never holds much more than that, or the largest tensor that cannot be read by rows. */
export async function* streamSafetensors(
  tensors: readonly TensorToWrite[],
  metadata: Record<string, string> = PYTORCH,
): AsyncGenerator<Uint8Array> {
  const { header, sorted } = layOut(tensors, metadata);
  yield header;
  const pieces = sorted.flatMap(cut);
  const reading: Promise<Float32Array | Uint32Array>[] = [];
  let ahead = 0;
  let next = 0;
  try {
    for (const { name, shape, dtype } of pieces) {
      for (; next < pieces.length && (reading.length === 0 || ahead < AHEAD); next++) {
        const piece = pieces[next].read();
        piece.catch(() => {}); // thrown where its turn comes, unless an earlier one threw first
        reading.push(piece);
        ahead += 4 * product(pieces[next].shape);
      }
      const values = await reading[0];
      reading.shift();
      ahead -= 4 * product(shape);
      yield encode(name, shape, dtype, values);
    }
  } finally {
    await Promise.allSettled(reading); // nothing reads on behind a writer that stops early
  }
}

/** A tensor as it is, or in pieces of whole rows. */
function cut(tensor: TensorToWrite): TensorToWrite[] {
  const { shape, readRows } = tensor;
  const [rows, ...rest] = shape;
  const most = Math.max(1, Math.floor(PIECE / (4 * product(rest))));
  if (!readRows || !(rows > most)) return [tensor];
  return Array.from({ length: Math.ceil(rows / most) }, (_, i) => {
    const [first, last] = [i * most, Math.min(rows, (i + 1) * most)];
    return { ...tensor, shape: [last - first, ...rest], read: () => readRows(first, last) };
  });
}

/** The first value that is not finite, or would not be when stored so; undefined where all can be kept. */
export function firstUnstorable(data: Float32Array, dtype: FloatType): number | undefined {
  const most = dtype === "F16" ? 65520 : Number.POSITIVE_INFINITY; // from there on f16 rounds to infinity
  for (let i = 0; i < data.length; i++) if (!(Math.abs(data[i]) < most)) return data[i];
  return undefined;
}

/** Bytes that a tensor takes in a file. */
export const sizeInFile = ({ shape, dtype }: Pick<TensorToWrite, "shape" | "dtype">): number =>
  product(shape) * BYTES[dtype];

type Described = Pick<TensorToWrite, "name" | "shape" | "dtype">;

/** The file's length prefix and header, and its tensors in the order of their data. */
function layOut<T extends Described>(tensors: readonly T[], metadata: Record<string, string>) {
  const sorted = [...tensors].sort((a, b) => BYTES[b.dtype] - BYTES[a.dtype] || (a.name < b.name ? -1 : 1));
  const parts = [`"__metadata__":${JSON.stringify(metadata)}`];
  let size = 0;
  for (const tensor of sorted) {
    const { name, dtype, shape } = tensor;
    if (name === "__metadata__") throw new Error("a tensor cannot be called __metadata__");
    const end = size + sizeInFile(tensor);
    parts.push(`${JSON.stringify(name)}:${JSON.stringify({ dtype, shape, data_offsets: [size, end] })}`);
    size = end;
  }
  const text = new TextEncoder().encode(`{${parts.join(",")}}`);
  const padded = Math.ceil(text.length / 8) * 8;
  const header = new Uint8Array(8 + padded).fill(0x20);
  new DataView(header.buffer).setBigUint64(0, BigInt(padded), true);
  header.set(text, 8);
  return { header, sorted, size };
}

function encode(
  name: string,
  shape: readonly number[],
  dtype: TensorToWrite["dtype"],
  data: Float32Array | Uint32Array,
): Uint8Array {
  if (product(shape) !== data.length) {
    throw new Error(`tensor "${name}": shape [${shape}] needs ${product(shape)} values, data has ${data.length}`);
  }
  if (dtype === "F32" || dtype === "U32") return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  const half = dtype === "F16" ? f32sToF16(data as Float32Array) : f32sToBf16(data as Float32Array);
  return new Uint8Array(half.buffer);
}
