import type { RandomStream } from "../../src/runtime/rng.ts";

/** Numbers that break arithmetic on sizes. */
const EXTREMES = [0, 1, 7, 0x7f, 0xff, 0x7fff, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff];

/**
 * One to three of: a changed byte, a changed bit, a digit in place of a digit, an extreme 32- or 64-bit number, a cut, an
 * insertion, a removal, a piece copied over another one.
 */
export function mutate(source: Uint8Array, random: RandomStream): Uint8Array<ArrayBuffer> {
  let bytes = new Uint8Array(source);
  for (let k = 1 + random.int(3); k > 0; k--) bytes = once(bytes, random);
  return bytes;
}

function once(bytes: Uint8Array<ArrayBuffer>, random: RandomStream): Uint8Array<ArrayBuffer> {
  const at = random.int(bytes.length || 1);
  const some = Math.min(bytes.length - at, 1 + random.int(16));
  switch (random.int(9)) {
    case 0:
      bytes[at] = random.int(256);
      return bytes;
    case 1:
      bytes[at] ^= 1 << random.int(8);
      return bytes;
    case 2: {
      const digit = bytes.findIndex((byte, i) => i >= at && byte >= 0x30 && byte <= 0x39);
      if (digit >= 0) bytes[digit] = 0x30 + random.int(10);
      return bytes;
    }
    case 3:
    case 4: {
      const wide = random.int(2) === 1;
      const to = Math.max(0, Math.min(at, bytes.length - 8));
      const value = EXTREMES[random.int(EXTREMES.length)];
      const view = new DataView(bytes.buffer, bytes.byteOffset);
      if (bytes.length >= 8) {
        if (wide) view.setBigUint64(to, (BigInt(value) << 32n) | BigInt(random.int(2) ? value : 0), true);
        else view.setUint32(to, value, true);
      }
      return bytes;
    }
    case 5:
      return bytes.slice(0, at);
    case 6:
      return join(bytes.subarray(0, at + some), bytes.subarray(at));
    case 7:
      return join(bytes.subarray(0, at), bytes.subarray(at + some));
    default:
      bytes.copyWithin(random.int(bytes.length || 1), at, at + some);
      return bytes;
  }
}

function join(a: Uint8Array, b: Uint8Array): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(a.length + b.length);
  out.set(a);
  out.set(b, a.length);
  return out;
}
