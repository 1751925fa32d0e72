/** Writing GGUF files, version 3, as a stream that holds a few rows of a tensor at a time. */
import { joinedBytes } from "../runtime/joined-bytes.ts";
import { product } from "./dtypes.ts";
import { encodeGgml, formatNamed, type WrittenFormat } from "./ggml-quantize.ts";
import type { GgufHeader, GgufTensor, GgufValue } from "./gguf.ts";

/** A value of the metadata: whole numbers are u32, and reals say that they are f32. */
export type GgufField = number | { readonly f32: number } | boolean | string | string[] | Int32Array | Float32Array;

/** A tensor that will be written: described now, read when its turn comes. */
export interface GgufTensorToWrite {
  name: string;
  /** Outermost dimension first; the last is a multiple of the format's block. */
  shape: readonly number[];
  format: WrittenFormat;
  /** Its values in order, in pieces of whole blocks. */
  pieces(): AsyncIterable<Float32Array>;
}

const ALIGNMENT = 32;
const padded = (bytes: number): number => Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;

/** Bytes of a tensor in the file, without what pads it. */
export function sizeInGguf({ shape, format }: Pick<GgufTensorToWrite, "shape" | "format">): number {
  const { type } = formatNamed(format);
  return (product(shape) / type.items) * type.bytes;
}

/** The file, piece by piece. */
export async function* streamGguf(
  metadata: ReadonlyMap<string, GgufField>,
  tensors: readonly GgufTensorToWrite[],
): AsyncGenerator<Uint8Array> {
  yield header(metadata, tensors);
  for (const tensor of tensors) {
    const size = sizeInGguf(tensor);
    let written = 0;
    for await (const values of tensor.pieces()) {
      const bytes = encodeGgml(values, tensor.format);
      written += bytes.length;
      yield bytes;
    }
    if (written !== size) throw new Error(`tensor ${tensor.name} has ${written} bytes, not ${size}`);
    yield new Uint8Array(padded(size) - size);
  }
}

/** What a reader of the file would find in its header, but for the places of tensors. */
export function headerOf(
  metadata: ReadonlyMap<string, GgufField>,
  tensors: readonly Pick<GgufTensorToWrite, "name" | "shape" | "format">[],
): GgufHeader {
  const value = (field: GgufField): GgufValue =>
    typeof field === "object" && "f32" in field ? Math.fround(field.f32) : field;
  const described = ({ shape, format }: Pick<GgufTensorToWrite, "shape" | "format">): GgufTensor => ({
    type: formatNamed(format).type,
    shape: [...shape],
    begin: 0,
    end: 0,
  });
  return {
    version: 3,
    metadata: new Map([...metadata].map(([key, field]) => [key, value(field)])),
    tensors: new Map(tensors.map((tensor) => [tensor.name, described(tensor)])),
  };
}

function header(metadata: ReadonlyMap<string, GgufField>, tensors: readonly GgufTensorToWrite[]): Uint8Array {
  const out = new Bytes();
  out.raw(new TextEncoder().encode("GGUF"));
  out.u32(3);
  out.u64(tensors.length);
  out.u64(metadata.size);
  for (const [key, field] of metadata) {
    out.string(key);
    out.field(field);
  }
  let offset = 0;
  for (const tensor of tensors) {
    out.string(tensor.name);
    out.u32(tensor.shape.length);
    for (const size of tensor.shape.toReversed()) out.u64(size);
    out.u32(formatNamed(tensor.format).code);
    out.u64(offset);
    offset += padded(sizeInGguf(tensor));
  }
  return out.padded();
}

/** The types' numbers in the file. */
const U32 = 4;
const I32 = 5;
const F32 = 6;
const BOOL = 7;
const STRING = 8;
const LIST = 9;

class Bytes {
  private readonly parts: Uint8Array[] = [];

  raw(bytes: Uint8Array): void {
    this.parts.push(bytes);
  }

  u32(value: number): void {
    if (!(Number.isInteger(value) && value >= 0 && value < 2 ** 32)) throw new Error(`${value} is no u32`);
    this.raw(new Uint8Array(Uint32Array.of(value).buffer));
  }

  u64(value: number): void {
    this.raw(new Uint8Array(BigUint64Array.of(BigInt(value)).buffer));
  }

  string(text: string): void {
    const bytes = new TextEncoder().encode(text);
    this.u64(bytes.length);
    this.raw(bytes);
  }

  field(field: GgufField): void {
    if (typeof field === "string") {
      this.u32(STRING);
      this.string(field);
    } else if (typeof field === "boolean") {
      this.u32(BOOL);
      this.raw(Uint8Array.of(field ? 1 : 0));
    } else if (typeof field === "number") {
      this.u32(U32);
      this.u32(field);
    } else if ("f32" in field) {
      this.u32(F32);
      this.raw(new Uint8Array(Float32Array.of(field.f32).buffer));
    } else {
      this.list(field);
    }
  }

  private list(values: string[] | Int32Array | Float32Array): void {
    this.u32(LIST);
    this.u32(Array.isArray(values) ? STRING : values instanceof Int32Array ? I32 : F32);
    this.u64(values.length);
    if (Array.isArray(values)) for (const value of values) this.string(value);
    else this.raw(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
  }

  /** All of it, filled up to where the data may begin. */
  padded(): Uint8Array {
    const size = this.parts.reduce((sum, { length }) => sum + length, 0);
    return joinedBytes([...this.parts, new Uint8Array(padded(size) - size)]);
  }
}
