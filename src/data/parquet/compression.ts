/**
 * The pages of a Parquet file decompressed, to exactly the size that their header says. What a format has to prove that
 * its data is whole is looked at, also where a library does not.
 */
import { crc32 } from "../../runtime/crc32.ts";
import { unzstd } from "./zstd.ts";

type Decompress = (input: Uint8Array, size: number) => Uint8Array;

/** Bytes of one page; writers make them of about one megabyte. */
export const LARGEST_PAGE = 2 ** 29;

const NAMES = ["none", "snappy", "gzip", "lzo", "brotli", "lz4", "zstd", "lz4"];

/** The way to decompress by the number of a codec. The libraries are loaded when they are needed. */
export async function decompressor(codec: number): Promise<Decompress> {
  if (codec === 0) return (input) => input;
  if (codec === 7) return (input, size) => lz4(input, new Uint8Array(size));
  if (![1, 2, 4, 6].includes(codec)) throw new Error(`its compression ${NAMES[codec] ?? codec} is not supported`);
  const { compressors } = await import("hyparquet-compressors");
  const library = { 1: compressors.SNAPPY, 2: compressors.GZIP, 4: compressors.BROTLI, 6: compressors.ZSTD }[codec];
  if (!library) throw new Error(`its compression ${NAMES[codec]} is not supported`);
  if (codec === 6) return (input, size) => unzstd((frame) => library(frame, 0), input, size);
  const check = { 1: checkSnappy, 2: checkGzip }[codec];
  return (input, size) => {
    const output = library(input, size);
    check?.(input, output);
    return output;
  };
}

/** @throws Error unless the result has the size that was promised */
export function decompressPage(decompress: Decompress, input: Uint8Array, size: number): Uint8Array {
  if (!(size >= 0 && size <= LARGEST_PAGE)) throw new Error(`a page of ${size} bytes (at most ${LARGEST_PAGE})`);
  let output: Uint8Array;
  try {
    output = size === 0 && input.length === 0 ? input : decompress(input, size);
  } catch (error) {
    throw new Error(`a page that cannot be decompressed (${(error as Error).message})`, { cause: error });
  }
  if (output.length !== size) throw new Error(`a page of ${output.length} bytes whose header says ${size}`);
  return output;
}

/** Gzip ends with a sum and the size of what it holds. */
function checkGzip(input: Uint8Array, output: Uint8Array): void {
  if (input.length < 18 || input[0] !== 0x1f || input[1] !== 0x8b) throw new Error("it is not gzip");
  const end = new DataView(input.buffer, input.byteOffset + input.length - 8, 8);
  if (end.getUint32(0, true) !== crc32(output) || end.getUint32(4, true) !== output.length) {
    throw new Error("its gzip checksum is wrong");
  }
}

/** Snappy begins with the size of what it holds. */
function checkSnappy(input: Uint8Array, output: Uint8Array): void {
  let size = 0;
  for (let i = 0; i < 5; i++) {
    size += (input[i] & 127) * 2 ** (7 * i);
    if (input[i] < 128) break;
  }
  if (size !== output.length) throw new Error(`its snappy data is ${size} bytes`);
}

/** A block of LZ4: pieces of text, each followed by a repetition of earlier text, the last one by none. */
function lz4(input: Uint8Array, output: Uint8Array): Uint8Array {
  let at = 0;
  let out = 0;
  const fail = (): never => {
    throw new Error("its lz4 data is damaged");
  };
  const more = (start: number): number => {
    let length = start;
    if (start < 15) return length;
    for (;;) {
      if (at >= input.length) fail();
      const byte = input[at++];
      length += byte;
      if (byte < 255) return length;
    }
  };
  while (at < input.length) {
    const token = input[at++];
    const literals = more(token >> 4);
    if (literals > input.length - at || literals > output.length - out) fail();
    output.set(input.subarray(at, at + literals), out);
    at += literals;
    out += literals;
    if (at === input.length) break;
    if (input.length - at < 2) fail();
    const back = input[at] + 256 * input[at + 1];
    at += 2;
    const length = more(token & 15) + 4;
    if (back === 0 || back > out || length > output.length - out) fail();
    for (let i = 0; i < length; i++, out++) output[out] = output[out - back];
  }
  if (out !== output.length) fail();
  return output;
}
