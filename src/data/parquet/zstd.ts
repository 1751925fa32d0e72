/**
 * Zstandard's frames, held against what they say of themselves. The library looks neither at the sum at a frame's end nor
 * whether its blocks fill the size at its beginning: what they leave empty would be zeros.
 */
import { xxh64 } from "./xxh64.ts";

interface Frame {
  /** Where its blocks begin and end, the last one's header, and where the frame ends. */
  blocks: readonly [first: number, last: number, end: number];
  end: number;
  /** Bytes of its content; absent where it does not say. */
  size?: number;
  /** Of its content's XXH64 the lower half; absent where it has none. */
  sum?: number;
}

/** The content of all frames, of at most `size` bytes. */
export function unzstd(library: (input: Uint8Array) => Uint8Array, input: Uint8Array, size: number): Uint8Array {
  const contents: Uint8Array[] = [];
  let left = size;
  for (let at = 0; at < input.length; ) {
    const frame = frameAt(input, at);
    at = frame.end;
    if (frame.blocks[0] === frame.blocks[2]) continue; // made to be skipped
    const content = contentOf(library, input, frame, left);
    if (frame.size !== undefined && frame.size !== content.length) {
      throw new Error(`a zstd frame of ${content.length} bytes whose header says ${frame.size}`);
    }
    if (frame.sum !== undefined && frame.sum !== Number(xxh64(content) & 0xffffffffn)) {
      throw new Error("its zstd checksum is wrong");
    }
    contents.push(content);
    left -= content.length;
  }
  if (contents.length === 1) return contents[0];
  const whole = new Uint8Array(size - left);
  let to = 0;
  for (const content of contents) {
    whole.set(content, to);
    to += content.length;
  }
  return whole;
}

/** One byte goes after the content of at most `most` bytes: where it is found, the content has ended. */
function contentOf(
  library: (input: Uint8Array) => Uint8Array,
  input: Uint8Array,
  { blocks: [first, last, end] }: Frame,
  most: number,
): Uint8Array {
  const HEADER = 9; // the mark, flags for a single segment with its size in four bytes
  const marked = new Uint8Array(HEADER + end - first + 4);
  new DataView(marked.buffer).setUint32(0, 0xfd2fb528, true);
  marked[4] = 0xa0;
  new DataView(marked.buffer).setUint32(5, most + 1, true);
  marked.set(input.subarray(first, end), HEADER);
  marked[HEADER + last - first] &= 0xfe; // no more the last block
  marked.set([0x09, 0, 0, 1], HEADER + end - first); // the last block: as it is, 1 byte, which is 1
  const output = library(marked);
  return output.subarray(0, output.lastIndexOf(1));
}

function frameAt(input: Uint8Array, start: number): Frame {
  const view = new DataView(input.buffer, input.byteOffset, input.length);
  /** A number of some bytes. */
  const number = (at: number, bytes: number): number => {
    if (at + bytes > input.length) throw new Error("its zstd data is cut off");
    let value = 0;
    for (let i = bytes - 1; i >= 0; i--) value = value * 256 + view.getUint8(at + i);
    return value;
  };
  const mark = number(start, 4);
  if (mark >>> 4 === 0x184d2a5) {
    const end = start + 8 + number(start + 4, 4);
    if (end > input.length) throw new Error("its zstd data is cut off");
    return { blocks: [end, end, end], end };
  }
  if (mark !== 0xfd2fb528) throw new Error("it is not zstd");
  const flags = number(start + 4, 1);
  const single = (flags >> 5) & 1;
  const summed = (flags >> 2) & 1;
  const dictionary = [0, 1, 2, 4][flags & 3];
  let at = start + 5 + (single ? 0 : 1);
  if (flags & 8 || number(at, dictionary) !== 0) throw new Error("a zstd frame that needs what is not here");
  at += dictionary;
  const sizeBytes = flags >> 6 ? 1 << (flags >> 6) : single;
  const size = sizeBytes ? number(at, sizeBytes) + (sizeBytes === 2 ? 256 : 0) : undefined;
  const first = at + sizeBytes;
  at = first;
  for (let last = first; ; last = at) {
    const head = number(at, 3);
    at += 3 + (((head >> 1) & 3) === 1 ? 1 : head >> 3);
    if (at > input.length) throw new Error("its zstd data is cut off");
    if (head & 1) {
      const sum = summed ? number(at, 4) : undefined;
      return { blocks: [first, last, at], end: at + 4 * summed, ...(sizeBytes && { size }), ...(summed && { sum }) };
    }
  }
}
