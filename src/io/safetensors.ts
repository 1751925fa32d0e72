/**
 * The safetensors format: an 8-byte little-endian header length, a JSON header
 * `{name: {dtype, shape, data_offsets: [begin, end]}, "__metadata__": {...}}`, then the tensors without gaps.
 * A header comes from a stranger, so it is checked completely before the first tensor is touched, and every
 * complaint names the file and the tensor.
 */
import { UserError } from "../runtime/errors.ts";
import { bf16sToF32, f16sToF32 } from "../runtime/half.ts";
import { BYTES, type DType, product } from "./dtypes.ts";
import { findDuplicateKey } from "./json-keys.ts";

export { type FloatType, type WriteOptions, writeSafetensors } from "./safetensors-write.ts";
export type { DType };

/** A tensor of a safetensors file in its stored type; F16 and BF16 as bit patterns. */
export type RawArray =
  | Float64Array
  | Float32Array
  | BigInt64Array
  | BigUint64Array
  | Int32Array
  | Uint32Array
  | Int16Array
  | Uint16Array
  | Int8Array
  | Uint8Array;

/** The type, shape and place of a tensor in a safetensors file. */
export interface TensorInfo {
  dtype: DType;
  shape: number[];
  /** First byte and the byte after the last, from the start of the file. */
  begin: number;
  end: number;
}

/** A tensor of a safetensors file as f32. */
export interface FloatTensor {
  dtype: DType;
  shape: number[];
  data: Float32Array<ArrayBuffer>;
}

/** A tensor of a safetensors file as it is stored. */
export interface RawTensor {
  dtype: DType;
  shape: number[];
  /** In the stored type; F16 and BF16 as their bit patterns (Uint16Array). */
  data: RawArray;
}

/** A file whose parts can be read one by one, so that a large one need not fit in memory. */
export interface RangeReader {
  size: number;
  read(offset: number, length: number): Promise<Uint8Array>;
}

/** The header of a safetensors file. */
export interface Header {
  names: string[];
  metadata: Record<string, string>;
  infos: Map<string, TensorInfo>;
}

/** A parsed safetensors file in memory. */
export interface SafeTensors extends Header {
  /** F64, F32, F16 and BF16 as f32 (may share the file's memory: do not write into it); a UserError for other types. */
  get(name: string): FloatTensor;
  /** The tensor in its stored type. */
  getRaw(name: string): RawTensor;
}

/** A file read tensor by tensor. */
export interface LazySafeTensors extends Header {
  get(name: string): Promise<FloatTensor>;
  getRaw(name: string): Promise<RawTensor>;
  /** Entries first .. last - 1 of the first dimension, as `get` gives them. */
  getRows(name: string, first: number, last: number): Promise<FloatTensor>;
}

/** The largest header that is read, as in the reference implementation. */
const MAX_HEADER = 100_000_000;

/**
 * Parses a whole safetensors file.
 * @param bytes the file's content
 * @param file its name, for error messages
 * @throws UserError when the content is not exactly a safetensors file
 */
export function parseSafetensors(bytes: Uint8Array, file: string): SafeTensors {
  const length = headerLength(bytes, bytes.length, file);
  const header = parseHeader(bytes.subarray(8, 8 + length), bytes.length, file);
  const raw = (name: string) => {
    const info = lookUp(header, name, file);
    return decode(info, bytes.subarray(info.begin, info.end));
  };
  return { ...header, getRaw: raw, get: (name) => toFloat(raw(name), name, file) };
}

/** Opens a file of any size: reads and checks the header now, tensors when they are asked for. */
export async function openSafetensors(reader: RangeReader, file: string): Promise<LazySafeTensors> {
  const length = headerLength(await reader.read(0, Math.min(8, reader.size)), reader.size, file);
  const header = parseHeader(await reader.read(8, length), reader.size, file);
  return readLazily(reader, header, file);
}

/** The tensors of a file whose header is read, whatever it is written as. */
export function readLazily(reader: RangeReader, header: Header, file: string): LazySafeTensors {
  const part = async (name: string, info: TensorInfo, begin: number, end: number) => {
    const bytes = await reader.read(begin, end - begin);
    if (bytes.length !== end - begin) throw new UserError(`${file}: tensor "${name}": the file ends inside it`);
    return decode(info, bytes);
  };
  const raw = (name: string) => {
    const info = lookUp(header, name, file);
    return part(name, info, info.begin, info.end);
  };
  return {
    ...header,
    getRaw: async (name) => raw(name),
    get: async (name) => toFloat(await raw(name), name, file),
    async getRows(name, first, last) {
      const info = lookUp(header, name, file);
      const [rows, ...rest] = info.shape;
      if (!(first >= 0 && first <= last && last <= (rows ?? 0))) {
        throw new Error(`${file}: tensor "${name}" [${info.shape}] has no rows ${first} to ${last}`);
      }
      const bytes = product(rest) * BYTES[info.dtype];
      const some = { ...info, shape: [last - first, ...rest] };
      return toFloat(await part(name, some, info.begin + first * bytes, info.begin + last * bytes), name, file);
    },
  };
}

function headerLength(start: Uint8Array, size: number, file: string): number {
  if (size < 8 || start.length < 8) {
    throw new UserError(`${file}: not a safetensors file: ${size} bytes, shorter than its 8-byte header length`);
  }
  const length = new DataView(start.buffer, start.byteOffset, 8).getBigUint64(0, true);
  if (length > BigInt(MAX_HEADER)) {
    throw new UserError(
      `${file}: not a safetensors file: it claims a header of ${length} bytes (at most ${MAX_HEADER} are allowed)`,
    );
  }
  if (length > BigInt(size - 8)) {
    throw new UserError(
      `${file}: truncated: the header should have ${length} bytes, the file has ${size - 8} after its length`,
    );
  }
  return Number(length);
}

function parseHeader(bytes: Uint8Array, fileSize: number, file: string): Header {
  const fail = (what: string): never => {
    throw new UserError(`${file}: bad safetensors header: ${what}`);
  };
  const dataStart = 8 + bytes.length;
  let text = "";
  let json: unknown;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    json = JSON.parse(text);
  } catch {
    fail("not JSON");
  }
  if (!isObject(json)) return fail("not a JSON object");
  const duplicate = findDuplicateKey(text);
  if (duplicate !== undefined) fail(`"${shorten(duplicate)}" occurs twice`);

  const infos = new Map<string, TensorInfo>();
  let metadata: Record<string, string> = {};
  for (const [name, entry] of Object.entries(json)) {
    if (isBroken(name)) fail(`the name ${JSON.stringify(shorten(name))} has half a surrogate pair`);
    if (name === "__metadata__") {
      if (!isObject(entry) || Object.values(entry).some((v) => typeof v !== "string")) {
        fail("__metadata__ must map strings to strings");
      }
      if (
        Object.entries(entry as object)
          .flat()
          .some((text) => isBroken(String(text)))
      ) {
        fail("__metadata__ has text with half a surrogate pair");
      }
      metadata = entry as Record<string, string>;
    } else {
      infos.set(name, checkTensor(name, entry, dataStart, fileSize, file));
    }
  }
  checkCover(infos, dataStart, fileSize, file);
  return { names: [...infos.keys()], metadata, infos };
}

function checkTensor(name: string, entry: unknown, dataStart: number, fileSize: number, file: string): TensorInfo {
  const fail = (what: string): never => {
    throw new UserError(`${file}: tensor "${shorten(name)}": ${what}`);
  };
  if (!isObject(entry)) return fail("its header entry is not an object");
  const { dtype, shape, data_offsets: offsets } = entry;
  for (const key of Object.keys(entry)) {
    if (key !== "dtype" && key !== "shape" && key !== "data_offsets") fail(`unknown header key "${shorten(key)}"`);
  }
  if (typeof dtype !== "string" || !Object.hasOwn(BYTES, dtype)) {
    return fail(
      `dtype ${shorten(JSON.stringify(dtype) ?? "missing")} is not supported (${Object.keys(BYTES).join(", ")})`,
    );
  }
  if (!Array.isArray(shape) || !shape.every(isSize)) return fail("shape is not a list of whole numbers");
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isSize)) {
    return fail("data_offsets is not a pair of whole numbers");
  }
  const [begin, end] = offsets as [number, number];
  const available = fileSize - dataStart;
  if (begin > end) fail(`data_offsets [${begin}, ${end}] run backwards`);
  if (end > available)
    fail(`data_offsets [${begin}, ${end}] reach past the file's ${available} bytes of data (truncated?)`);
  const itemSize = BYTES[dtype as DType];
  const need = product(shape as number[]) * itemSize;
  if (need !== end - begin) {
    fail(`shape [${shorten(shape.join(", "))}] of ${dtype} needs ${need} bytes, data_offsets give ${end - begin}`);
  }
  return { dtype: dtype as DType, shape: shape as number[], begin: dataStart + begin, end: dataStart + end };
}

/** Tensors must follow one another from the first data byte to the last: neither overlaps nor unexplained bytes. */
function checkCover(infos: Map<string, TensorInfo>, dataStart: number, fileSize: number, file: string): void {
  const sorted = [...infos].sort(([, a], [, b]) => a.begin - b.begin || a.end - b.end);
  let at = dataStart;
  let before = "the header";
  for (const [name, info] of sorted) {
    const label = `"${shorten(name)}"`;
    if (info.begin < at) throw new UserError(`${file}: tensor ${label} overlaps ${before}`);
    if (info.begin > at)
      throw new UserError(`${file}: tensor ${label}: ${info.begin - at} unexplained bytes between ${before} and it`);
    at = info.end;
    before = `tensor ${label}`;
  }
  if (at !== fileSize) throw new UserError(`${file}: ${fileSize - at} unexplained bytes after ${before}`);
}

function lookUp(header: Header, name: string, file: string): TensorInfo {
  const info = header.infos.get(name);
  if (info) return info;
  throw new UserError(
    `${file}: no tensor "${name}" (it has ${header.names.length}: ${shorten(header.names.join(", "))})`,
  );
}

const ARRAYS = {
  F64: Float64Array,
  F32: Float32Array,
  I64: BigInt64Array,
  U64: BigUint64Array,
  I32: Int32Array,
  U32: Uint32Array,
  F16: Uint16Array,
  BF16: Uint16Array,
  I16: Int16Array,
  U16: Uint16Array,
  I8: Int8Array,
  U8: Uint8Array,
  BOOL: Uint8Array,
};

function decode(info: TensorInfo, bytes: Uint8Array): RawTensor {
  const aligned = bytes.byteOffset % BYTES[info.dtype] === 0 ? bytes : bytes.slice();
  const data = new ARRAYS[info.dtype](
    aligned.buffer as ArrayBuffer,
    aligned.byteOffset,
    bytes.length / BYTES[info.dtype],
  );
  return { dtype: info.dtype, shape: [...info.shape], data };
}

function toFloat(raw: RawTensor, name: string, file: string): FloatTensor {
  const { dtype, shape, data } = raw;
  if (data instanceof Float32Array) return { dtype, shape, data: data as Float32Array<ArrayBuffer> };
  if (data instanceof Float64Array) return { dtype, shape, data: Float32Array.from(data) };
  if (dtype !== "F16" && dtype !== "BF16")
    throw new UserError(`${file}: tensor "${name}" has dtype ${dtype}, a float type is needed`);
  return { dtype, shape, data: dtype === "F16" ? f16sToF32(data as Uint16Array) : bf16sToF32(data as Uint16Array) };
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Half a surrogate pair is no character: no other reader could say what such a name means. */
const isBroken = (text: string): boolean => /\p{Surrogate}/u.test(text);

function isSize(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0 && !Object.is(value, -0);
}

function shorten(text: string): string {
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}
