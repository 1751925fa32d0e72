/** The values of a page, by the encodings that Parquet has. Every length is held against the bytes that are there. */
import type { Leaf } from "./footer.ts";
import { readRuns } from "./levels.ts";

export type Values = ArrayLike<number | bigint | boolean | Uint8Array>;

export const ENCODING = {
  plain: 0,
  plainDictionary: 2,
  runs: 3,
  delta: 5,
  deltaLength: 6,
  deltaBytes: 7,
  dictionary: 8,
  split: 9,
};
/** Bytes of a value of each type that has a fixed length. */
const WIDTH = { INT32: 4, INT64: 8, INT96: 12, FLOAT: 4, DOUBLE: 8 };

/**
 * @param dictionary the values that indices stand for, where the column has some
 * @throws Error for bytes that are not `count` values of this column
 */
export function readValues(
  bytes: Uint8Array,
  leaf: Leaf,
  encoding: number,
  count: number,
  dictionary: Values | null,
): Values {
  const { type } = leaf;
  switch (encoding) {
    case ENCODING.plain:
      return plain(bytes, leaf, count);
    case ENCODING.plainDictionary:
    case ENCODING.dictionary:
      return looked(bytes, count, dictionary);
    case ENCODING.runs:
      if (type === "BOOLEAN") return Array.from(readRuns(withLength(bytes), 1, count, 1), Boolean);
      break;
    case ENCODING.delta:
      if (type === "INT32" || type === "INT64") return readDeltas(bytes, count, type === "INT32" ? 32 : 64).values;
      break;
    case ENCODING.deltaLength:
      if (type === "BYTE_ARRAY") return readDeltaLengths(bytes, count);
      break;
    case ENCODING.deltaBytes:
      if (type === "BYTE_ARRAY" || type === "FIXED") return readDeltaBytes(bytes, leaf, count);
      break;
    case ENCODING.split:
      if (type !== "BOOLEAN" && type !== "BYTE_ARRAY" && type !== "INT96") return joined(bytes, leaf, count);
  }
  throw new Error(`encoding ${encoding} of ${type}, which there is not`);
}

const widthOf = (leaf: Leaf): number => (leaf.type === "FIXED" ? leaf.length : WIDTH[leaf.type as keyof typeof WIDTH]);

function need(bytes: Uint8Array, at: number, length: number): void {
  if (!(length >= 0 && length <= bytes.length - at)) throw new Error("values that are cut off");
}

function plain(bytes: Uint8Array, leaf: Leaf, count: number): Values {
  if (leaf.type === "BOOLEAN") {
    need(bytes, 0, Math.ceil(count / 8));
    return Array.from({ length: count }, (_, i) => ((bytes[i >> 3] >> (i & 7)) & 1) === 1);
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (leaf.type === "BYTE_ARRAY") {
    let at = 0;
    return counted(bytes, count, 4, () => {
      need(bytes, at, 4);
      const length = view.getUint32(at, true);
      need(bytes, at + 4, length);
      at += 4 + length;
      return bytes.subarray(at - length, at);
    });
  }
  return fixed(bytes, leaf, count);
}

/** An array of `count` values, of which each takes so many bytes or more: none is made for fewer. */
function counted<T>(bytes: Uint8Array, count: number, least: number, make: (i: number) => T): T[] {
  need(bytes, 0, count * least);
  return Array.from({ length: count }, (_, i) => make(i));
}

function fixed(bytes: Uint8Array, leaf: Leaf, count: number): Values {
  const width = widthOf(leaf);
  need(bytes, 0, count * width);
  if (leaf.type === "FIXED" || leaf.type === "INT96") {
    return Array.from({ length: count }, (_, i) => bytes.subarray(i * width, (i + 1) * width));
  }
  const { buffer } = bytes.slice(0, count * width);
  if (leaf.type === "INT32") return new Int32Array(buffer);
  if (leaf.type === "INT64") return new BigInt64Array(buffer);
  return leaf.type === "FLOAT" ? new Float32Array(buffer) : new Float64Array(buffer);
}

function looked(bytes: Uint8Array, count: number, dictionary: Values | null): Values {
  if (!dictionary) throw new Error("indices into a dictionary that is not there");
  if (count === 0) return [];
  need(bytes, 0, 1);
  const indices = readRuns(bytes.subarray(1), bytes[0], count, dictionary.length - 1);
  return Array.from(indices, (index) => dictionary[index]);
}

/** Runs that begin with their length in bytes. */
export function withLength(bytes: Uint8Array): Uint8Array {
  need(bytes, 0, 4);
  const length = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
  need(bytes, 4, length);
  return bytes.subarray(4, 4 + length);
}

/** Bytes stored as all first ones, all second ones, and so on. */
function joined(bytes: Uint8Array, leaf: Leaf, count: number): Values {
  const width = widthOf(leaf);
  if (bytes.length !== count * width) throw new Error(`${bytes.length} bytes for ${count} values of ${width}`);
  const out = new Uint8Array(count * width);
  for (let byte = 0; byte < width; byte++) {
    for (let i = 0; i < count; i++) out[i * width + byte] = bytes[byte * count + i];
  }
  return fixed(out, leaf, count);
}

/** Differences in blocks, each with its smallest and a width per part; and where they end. */
function readDeltas(
  bytes: Uint8Array,
  count: number,
  bits: 32 | 64,
): { values: Int32Array | BigInt64Array; end: number } {
  let at = 0;
  const varint = (): bigint => {
    let value = 0n;
    for (let shift = 0n; shift < 70n; shift += 7n) {
      need(bytes, at, 1);
      const byte = bytes[at++];
      value |= BigInt(byte & 127) << shift;
      if (byte < 128) return value;
    }
    throw new Error("a number that does not end");
  };
  const zigzag = (): bigint => {
    const value = varint();
    return (value >> 1n) ^ -(value & 1n);
  };
  const [block, parts, total] = [Number(varint()), Number(varint()), Number(varint())];
  const each = block / parts;
  if (!(block > 0 && block <= 1 << 20 && block % 128 === 0 && parts > 0 && parts <= block && each % 32 === 0)) {
    throw new Error(`blocks of ${block} differences in ${parts} parts`);
  }
  if (total !== count) throw new Error(`${total} differences for ${count} values`);
  let value = zigzag();
  const values = bits === 32 ? new Int32Array(count) : new BigInt64Array(count);
  const put = (i: number) => {
    if (values instanceof Int32Array) values[i] = Number(BigInt.asIntN(32, value));
    else values[i] = value;
  };
  if (count > 0) put(0);
  for (let done = 1; done < count; ) {
    const smallest = zigzag();
    need(bytes, at, parts);
    const widths = bytes.subarray(at, at + parts);
    at += parts;
    for (let part = 0; part < parts && done < count; part++) {
      const width = widths[part];
      if (width > bits) throw new Error(`differences of ${width} bits`);
      const size = (each * width) / 8;
      need(bytes, at, size);
      for (let i = 0; i < each && done < count; i++) {
        value = BigInt.asIntN(64, value + smallest + bigBits(bytes, 8 * at + i * width, width));
        put(done++);
      }
      at += size;
    }
  }
  return { values, end: at };
}

function bigBits(bytes: Uint8Array, from: number, width: number): bigint {
  let value = 0n;
  let small = 0;
  let got = 0;
  for (let bit = from; got < width; ) {
    const low = bit & 7;
    const take = Math.min(8 - low, width - got);
    const part = (bytes[bit >> 3] >> low) & ((1 << take) - 1);
    if (width <= 48) small += part * 2 ** got;
    else value |= BigInt(part) << BigInt(got);
    got += take;
    bit += take;
  }
  return width <= 48 ? BigInt(small) : value;
}

function readDeltaLengths(bytes: Uint8Array, count: number): Uint8Array[] {
  const { values: lengths, end } = readDeltas(bytes, count, 32);
  let at = end;
  return Array.from(lengths as Int32Array, (length) => {
    need(bytes, at, length);
    at += length;
    return bytes.subarray(at - length, at);
  });
}

/** Each value begins as the one before it. */
function readDeltaBytes(bytes: Uint8Array, leaf: Leaf, count: number): Uint8Array[] {
  const { values: shared, end } = readDeltas(bytes, count, 32);
  const rest = readDeltaLengths(bytes.subarray(end), count);
  let before = new Uint8Array();
  let total = 0;
  return rest.map((tail, i) => {
    const start = shared[i] as number;
    if (!(start >= 0 && start <= before.length)) throw new Error(`${start} bytes of a value that has ${before.length}`);
    total += start + tail.length;
    if (total > LARGEST_TEXT) throw new Error(`values of ${total} bytes out of a page`);
    const value = new Uint8Array(start + tail.length);
    value.set(before.subarray(0, start));
    value.set(tail, start);
    if (leaf.type === "FIXED" && value.length !== leaf.length) throw new Error(`a value of ${value.length} bytes`);
    before = value;
    return value;
  });
}

/** Bytes that the values of one page may take together: shared beginnings could make them any number. */
const LARGEST_TEXT = 2 ** 30;
