/**
 * What changed between two versions of a file of weights, without loss. A step of training moves a float32 number by a few of its
 * last bits, so that the difference of the two numbers' bits is small, and of its four bytes the upper ones are mostly 0. The bytes of
 * each place lie together, and are deflated where that makes them smaller; what did not change takes a thousandth of itself.
 *
 * After the magic number and the file's size (u32, little-endian) comes block after block, in it the four places from the lowest, each
 * a u32 with the bytes that follow, whose highest bit says that they are deflated. What is left of the file's end comes as it is.
 */

import { deflated, inflated } from "../runtime/deflate.ts";
import { joinedBytes } from "../runtime/joined-bytes.ts";

const MAGIC = 0x31445257; // "WRD1"
/** Numbers of a block. */
const BLOCK = 1 << 20;
const DEFLATED = 2 ** 31;
/** So many bytes of a place are tried first: most places that do not become smaller are known by them. */
const TRIED = 1 << 14;

/** Why a delta leads to no file. */
export class WrongDelta extends Error {
  override readonly name = "WrongDelta";
}

/**
 * What leads from one file to another of its size.
 * @returns null where that takes more than two thirds of the file, or the files differ in size
 */
export async function deltaOf(from: Uint8Array, to: Uint8Array): Promise<Uint8Array | null> {
  if (from.length !== to.length || to.length >= DEFLATED) return null;
  const [before, after] = [numbersOf(from), numbersOf(to)];
  const parts: Uint8Array[] = [bytesOf([MAGIC, to.length])];
  for (let first = 0; first < after.length; first += BLOCK) {
    const places = differences(before.subarray(first, first + BLOCK), after.subarray(first, first + BLOCK));
    for (const { bytes, deflated } of await Promise.all(places.map(smallest))) {
      parts.push(bytesOf([bytes.length + (deflated ? DEFLATED : 0)]), bytes);
    }
  }
  parts.push(to.subarray(4 * after.length));
  const size = parts.reduce((sum, { length }) => sum + length, 0);
  return 3 * size <= 2 * to.length ? joinedBytes(parts) : null;
}

/**
 * The file that a delta leads to from another one; both have the same size, and no more is made of it, whatever it says. Whether
 * it is the right one is for its hash to say.
 * @throws WrongDelta where it is none, or one of a file of another size
 */
export async function applied(from: Uint8Array, delta: Uint8Array): Promise<Uint8Array> {
  const view = new DataView(delta.buffer, delta.byteOffset, delta.byteLength);
  let at = 0;
  const u32 = () => {
    if (at + 4 > delta.length) throw new WrongDelta("it is cut off");
    at += 4;
    return view.getUint32(at - 4, true);
  };
  const take = (length: number) => {
    if (at + length > delta.length) throw new WrongDelta("it is cut off");
    at += length;
    return delta.subarray(at - length, at);
  };
  if (u32() !== MAGIC) throw new WrongDelta("it does not begin as one");
  if (u32() !== from.length) throw new WrongDelta("it is of a file of another size");
  const before = numbersOf(from);
  const bytes = new Uint8Array(from.length);
  const after = new Uint32Array(bytes.buffer, 0, before.length);
  for (let first = 0; first < before.length; first += BLOCK) {
    const length = Math.min(BLOCK, before.length - first);
    const places = Array.from({ length: 4 }, () => {
      const said = u32();
      const small = said >= DEFLATED;
      const bytes = take(small ? said - DEFLATED : said);
      if (!small && bytes.length !== length) throw new WrongDelta("a place has other numbers than the file");
      return { bytes, small };
    });
    const read = places.map(({ bytes, small }) => (small ? inflated(bytes, length) : bytes));
    const [a, b, c, d] = await Promise.all(read).catch((cause) => {
      throw new WrongDelta("a place has other numbers than the file", { cause });
    });
    for (let i = 0; i < length; i++) {
      const folded = a[i] | (b[i] << 8) | (c[i] << 16) | (d[i] << 24);
      after[first + i] = before[first + i] + ((folded >>> 1) ^ -(folded & 1));
    }
  }
  bytes.set(take(from.length - 4 * before.length), 4 * before.length);
  if (at !== delta.length) throw new WrongDelta("it goes on after its end");
  return bytes;
}

/** The whole numbers of 32 bits that a file begins with. */
const numbersOf = (file: Uint8Array): Uint32Array =>
  file.byteOffset % 4 === 0
    ? new Uint32Array(file.buffer, file.byteOffset, file.length >> 2)
    : new Uint32Array(file.slice(0, file.length & ~3).buffer);

const bytesOf = (numbers: readonly number[]): Uint8Array => new Uint8Array(Uint32Array.from(numbers).buffer);

/** The differences of numbers, with the sign as the lowest bit so that small ones have small bytes, place by place. */
function differences(before: Uint32Array, after: Uint32Array): Uint8Array[] {
  const places = Array.from({ length: 4 }, () => new Uint8Array(after.length));
  const [a, b, c, d] = places;
  for (let i = 0; i < after.length; i++) {
    const difference = (after[i] - before[i]) | 0;
    const folded = (difference << 1) ^ (difference >> 31);
    a[i] = folded;
    b[i] = folded >>> 8;
    c[i] = folded >>> 16;
    d[i] = folded >>> 24;
  }
  return places;
}

async function smallest(bytes: Uint8Array): Promise<{ bytes: Uint8Array; deflated: boolean }> {
  const middle = Math.max(0, (bytes.length - TRIED) >> 1);
  const some = bytes.subarray(middle, middle + TRIED);
  if ((await deflated(some)).length > 0.95 * some.length) return { bytes, deflated: false };
  const small = await deflated(bytes);
  return small.length < bytes.length ? { bytes: small, deflated: true } : { bytes, deflated: false };
}
