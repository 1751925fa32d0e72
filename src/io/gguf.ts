/**
 * The GGUF container, versions 2 and 3: "GGUF", version, counts, key-value metadata, tensor descriptions, and after
 * padding the tensors' data. All integers are little-endian, strings carry their length, nothing is bounded by the format
 * itself. A file comes from a stranger, so every length is held against what is left of the file before it is believed,
 * and the descriptions must explain every byte of the data.
 */
import { UserError } from "../runtime/errors.ts";
import type { OpenFile } from "../runtime/open.ts";
import { GGML_TYPES, type GgmlType } from "./ggml.ts";

export type GgufValue = number | bigint | boolean | string | string[] | boolean[] | ArrayLike<number> | bigint[];

export interface GgufTensor {
  type: GgmlType;
  /** Outermost dimension first (GGUF writes them the other way round). */
  shape: number[];
  /** First byte and the byte after the last, from the start of the file. */
  begin: number;
  end: number;
}

export interface GgufHeader {
  version: number;
  metadata: Map<string, GgufValue>;
  tensors: Map<string, GgufTensor>;
}

/** Reads everything but the tensors' data. */
export async function readGgufHeader(file: OpenFile, path: string): Promise<GgufHeader> {
  for (let window = 1 << 20; ; window *= 4) {
    const bytes = await file.read(0, Math.min(window, file.size));
    try {
      return parseGgufHeader(bytes, file.size, path);
    } catch (error) {
      // The vocabulary can make a header long: read more of the file, while there is more.
      if (!(error instanceof NeedMore) || bytes.length >= file.size) throw error;
    }
  }
}

/** The header goes on after the bytes at hand, though not after the end of the file. */
class NeedMore extends Error {}

const MAGIC = 0x46554747;
const MAX_DIMENSIONS = 4;

/**
 * Parses the start of a file.
 * @param bytes the first bytes of the file, as many as the header needs
 * @param fileSize of the whole file
 * @throws UserError when the content is not exactly a GGUF file
 */
function parseGgufHeader(bytes: Uint8Array, fileSize: number, path: string): GgufHeader {
  const fail = (what: string): never => {
    throw new UserError(`${path}: ${what}`);
  };
  const at = new Cursor(bytes, fileSize, path);
  if (fileSize < 24 || at.u32("magic") !== MAGIC) fail("not a GGUF file");
  const version = at.u32("version");
  if (version !== 2 && version !== 3) {
    fail(
      version === 1
        ? "GGUF version 1 is not read: convert it anew"
        : `GGUF version ${version} is not read (2 and 3 are)`,
    );
  }
  // The smallest tensor description has 24 bytes and the smallest pair 13.
  const tensorCount = at.count("tensor count", 24);
  const pairCount = at.count("metadata count", 13);
  const metadata = new Map<string, GgufValue>();
  for (let i = 0; i < pairCount; i++) {
    const key = at.string("metadata key");
    if (metadata.has(key)) fail(`metadata ${show(key)} occurs twice`);
    metadata.set(key, at.value(at.u32(`type of ${show(key)}`), key));
  }
  const alignment = metadata.get("general.alignment") ?? 32;
  if (typeof alignment !== "number" || alignment < 8 || alignment > 1 << 20 || alignment & (alignment - 1)) {
    return fail(`general.alignment must be a power of two of at least 8, not ${show(String(alignment))}`);
  }
  const tensors = new Map<string, GgufTensor>();
  for (let i = 0; i < tensorCount; i++) {
    const name = at.string("tensor name");
    if (tensors.has(name)) fail(`tensor ${show(name)} occurs twice`);
    tensors.set(name, readTensor(at, name, path));
  }
  const start = Math.ceil(at.offset / alignment) * alignment;
  placeTensors(tensors, start, alignment, fileSize, path);
  return { version, metadata, tensors };
}

/** A tensor description; `begin` and `end` still count from the start of the data. */
function readTensor(at: Cursor, name: string, path: string): GgufTensor {
  const fail = (what: string): never => {
    throw new UserError(`${path}: tensor ${show(name)}: ${what}`);
  };
  const dimensions = at.u32(`dimensions of ${show(name)}`);
  if (dimensions > MAX_DIMENSIONS) fail(`it claims ${dimensions} dimensions`);
  const shape: number[] = [];
  for (let d = 0; d < dimensions; d++) shape.unshift(at.size(`shape of ${show(name)}`));
  const code = at.u32(`type of ${show(name)}`);
  const type = GGML_TYPES.get(code);
  if (!type)
    return fail(`its type (ggml type ${code}) is not read; ${[...GGML_TYPES.values()].map((t) => t.name)} are`);
  const size = shape.reduce((a, b) => a * b, 1);
  const width = shape.at(-1) ?? 1;
  if (width % type.items !== 0) fail(`rows of ${width} values do not divide into ${type.name} blocks of ${type.items}`);
  const length = (size / type.items) * type.bytes;
  const begin = at.size(`offset of ${show(name)}`);
  if (!Number.isSafeInteger(size) || !Number.isSafeInteger(begin + length)) fail(`shape [${shape}] is too large`);
  return { type, shape, begin, end: begin + length };
}

/** Makes offsets count from the start of the file, and checks that the tensors fill the data one after another. */
function placeTensors(
  tensors: Map<string, GgufTensor>,
  start: number,
  alignment: number,
  fileSize: number,
  path: string,
): void {
  let at = 0;
  let before = "the header";
  const padded = (n: number) => Math.ceil(n / alignment) * alignment;
  for (const [name, tensor] of [...tensors].sort(([, a], [, b]) => a.begin - b.begin || a.end - b.end)) {
    const label = `tensor ${show(name)}`;
    if (tensor.begin !== padded(at)) {
      throw new UserError(`${path}: ${label} begins at byte ${tensor.begin} of the data, ${before} ends at ${at}`);
    }
    at = tensor.end;
    before = label;
    tensor.begin += start;
    tensor.end += start;
    if (tensor.end > fileSize) {
      throw new UserError(`${path}: truncated: ${label} ends at byte ${tensor.end}, the file has ${fileSize}`);
    }
  }
  const end = start + padded(at);
  if (fileSize > end) throw new UserError(`${path}: ${fileSize - end} unexplained bytes after ${before}`);
}

const show = (text: string): string => JSON.stringify(text.length > 80 ? `${text.slice(0, 77)}...` : text);

// Bytes of each type: u8 i8 u16 i16 u32 i32 f32 bool string list u64 i64 f64; a string has at least its length.
const SIZES = [1, 1, 2, 2, 4, 4, 4, 1, 8, 0, 8, 8, 8];
const STRING = 8;
const ARRAY = 9;

/** Reads values one after another, and believes no length that the file cannot hold. */
class Cursor {
  offset = 0;
  private readonly bytes: Uint8Array;
  private readonly view: DataView;
  private readonly fileSize: number;
  private readonly path: string;

  constructor(bytes: Uint8Array, fileSize: number, path: string) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.fileSize = fileSize;
    this.path = path;
  }

  /** Steps over `length` bytes and gives where they start. */
  private take(length: number, what: string): number {
    const from = this.offset;
    if (!(length <= this.fileSize - from)) {
      throw new UserError(`${this.path}: truncated or damaged: ${what} needs ${length} bytes at byte ${from}`);
    }
    if (from + length > this.bytes.length) throw new NeedMore();
    this.offset = from + length;
    return from;
  }

  u32(what: string): number {
    return this.view.getUint32(this.take(4, what), true);
  }

  /** A 64-bit size; beyond 2^53 it cannot be one. */
  size(what: string): number {
    const value = this.view.getBigUint64(this.take(8, what), true);
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw new UserError(`${this.path}: ${what} is ${value}`);
    return Number(value);
  }

  /** A number of things of at least `least` bytes each. */
  count(what: string, least: number): number {
    const n = this.size(what);
    if (n * least > this.fileSize - this.offset) {
      throw new UserError(`${this.path}: truncated or damaged: ${what} is ${n}, more than the file can hold`);
    }
    return n;
  }

  string(what: string): string {
    const length = this.count(`length of ${what}`, 1);
    const from = this.take(length, what);
    // Vocabularies may hold broken UTF-8: such bytes become U+FFFD, as elsewhere.
    return decoder.decode(this.bytes.subarray(from, from + length));
  }

  value(type: number, key: string): GgufValue {
    const what = `metadata ${show(key)}`;
    if (type === STRING) return this.string(what);
    if (type === ARRAY) return this.array(what);
    if (!(type < SIZES.length)) throw new UserError(`${this.path}: ${what} has unknown type ${type}`);
    return this.scalar(type, this.take(SIZES[type], what), what);
  }

  private array(what: string): GgufValue {
    const type = this.u32(what);
    if (type >= SIZES.length || type === ARRAY) {
      throw new UserError(`${this.path}: ${what} is a list of unknown type ${type}`);
    }
    const length = this.count(`length of ${what}`, SIZES[type]);
    if (type === STRING) return Array.from({ length }, () => this.string(what));
    const from = this.take(length * SIZES[type], what);
    const item = (i: number) => this.scalar(type, from + i * SIZES[type], what);
    if (type === 4) return Uint32Array.from({ length }, (_, i) => item(i) as number);
    if (type === 5) return Int32Array.from({ length }, (_, i) => item(i) as number);
    if (type === 6) return Float32Array.from({ length }, (_, i) => item(i) as number);
    return Array.from({ length }, (_, i) => item(i)) as number[] | boolean[] | bigint[];
  }

  private scalar(type: number, from: number, what: string): number | bigint | boolean {
    const { view } = this;
    switch (type) {
      case 0:
        return view.getUint8(from);
      case 1:
        return view.getInt8(from);
      case 2:
        return view.getUint16(from, true);
      case 3:
        return view.getInt16(from, true);
      case 4:
        return view.getUint32(from, true);
      case 5:
        return view.getInt32(from, true);
      case 6:
        return view.getFloat32(from, true);
      case 7: {
        const byte = view.getUint8(from);
        if (byte > 1) throw new UserError(`${this.path}: ${what} is neither true nor false`);
        return byte === 1;
      }
      case 12:
        return view.getFloat64(from, true);
      default: {
        const big = type === 10 ? view.getBigUint64(from, true) : view.getBigInt64(from, true);
        const number = Number(big);
        return Number.isSafeInteger(number) ? number : big;
      }
    }
  }
}

const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
