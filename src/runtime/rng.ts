/**
 * Counter-based random numbers (Philox4x32-10, Salmon et al. 2011): a value is a pure function of
 * (seed, counters), so results depend neither on the order of calls nor on batch layout nor on the runtime.
 * Only integer arithmetic and the operations IEEE 754 fixes (+ - * / sqrt) are used, never Math.log or Math.cos,
 * whose last bits differ between engines.
 */

const M0 = 0xd2511f53;
const M1 = 0xcd9e8d57;
const W0 = 0x9e3779b9;
const W1 = 0xbb67ae85;
const TWO32 = 4294967296;

/** High 32 bits of the 64-bit product of two u32. */
function mulHigh(a: number, b: number): number {
  const a0 = a & 0xffff;
  const a1 = a >>> 16;
  const b0 = b & 0xffff;
  const b1 = b >>> 16;
  const mid = a1 * b0 + ((a0 * b0) >>> 16);
  const mid2 = a0 * b1 + (mid & 0xffff);
  return (a1 * b1 + Math.floor(mid / 65536) + (mid2 >>> 16)) >>> 0;
}

/**
 * One Philox4x32-10 block: four u32 for a two-word key and a four-word counter. `out` is filled and returned.
 */
export function philox(
  key0: number,
  key1: number,
  c0: number,
  c1: number,
  c2: number,
  c3: number,
  out: Uint32Array = new Uint32Array(4),
): Uint32Array {
  let k0 = key0 >>> 0;
  let k1 = key1 >>> 0;
  let x0 = c0 >>> 0;
  let x1 = c1 >>> 0;
  let x2 = c2 >>> 0;
  let x3 = c3 >>> 0;
  for (let round = 0; round < 10; round++) {
    const hi0 = mulHigh(M0, x0);
    const lo0 = Math.imul(M0, x0) >>> 0;
    const hi1 = mulHigh(M1, x2);
    const lo1 = Math.imul(M1, x2) >>> 0;
    x0 = (hi1 ^ x1 ^ k0) >>> 0;
    x1 = lo1;
    x2 = (hi0 ^ x3 ^ k1) >>> 0;
    x3 = lo0;
    k0 = (k0 + W0) >>> 0;
    k1 = (k1 + W1) >>> 0;
  }
  out[0] = x0;
  out[1] = x1;
  out[2] = x2;
  out[3] = x3;
  return out;
}

const scratch = new Uint32Array(4);

/**
 * A u32 for (seed, counters). `seed` is an integer of up to 53 bits, up to four counters are u32; missing counters
 * are zero, so give callers that share a seed different streams (see `streamId`).
 */
export function uint32(seed: number, c0 = 0, c1 = 0, c2 = 0, c3 = 0): number {
  return philox(seed >>> 0, Math.floor(seed / TWO32), c0, c1, c2, c3, scratch)[0];
}

/** Uniform in [0, 1), a multiple of 2^-32. */
export function uniform(seed: number, c0 = 0, c1 = 0, c2 = 0, c3 = 0): number {
  return uint32(seed, c0, c1, c2, c3) / TWO32;
}

/** Uniform integer in [0, n), n <= 2^32. */
export function randomInt(n: number, seed: number, c0 = 0, c1 = 0, c2 = 0, c3 = 0): number {
  return scaleToInt(uint32(seed, c0, c1, c2, c3), n);
}

/** floor(u * n / 2^32), exact for every u32 u and n <= 2^32. */
function scaleToInt(u: number, n: number): number {
  return n <= 0x200000 ? Math.floor((u * n) / TWO32) : mulHigh(u, n >>> 0);
}

/** Standard normal (inverse distribution function, relative error below 1.2e-9), |x| < 6.4. */
export function normal(seed: number, c0 = 0, c1 = 0, c2 = 0, c3 = 0): number {
  return normalQuantile((uint32(seed, c0, c1, c2, c3) + 0.5) / TWO32);
}

/** A random ordering of 0..n-1 (Fisher-Yates), a pure function of (n, seed, stream). */
export function permutation(n: number, seed: number, stream = 0): Uint32Array {
  const order = new Uint32Array(n);
  for (let i = 0; i < n; i++) order[i] = i;
  for (let i = n - 1; i > 0; i--) {
    const j = randomInt(i + 1, seed, i, stream, PERMUTATION);
    const t = order[i];
    order[i] = order[j];
    order[j] = t;
  }
  return order;
}

/** A u32 that stands for a name (FNV-1a over UTF-16 units), for use as a counter: `uniform(seed, i, streamId("split"))`. */
export function streamId(name: string): number {
  let h = 0x811c9dc5;
  for (let i = 0; i < name.length; i++) h = Math.imul(h ^ name.charCodeAt(i), 0x01000193);
  return h >>> 0;
}

const PERMUTATION = streamId("permutation");

/**
 * A sequence of draws for code that takes a variable number of them: draw k is (seed, k, a, b, c).
 */
export class RandomStream {
  private position = 0;
  private readonly seed: number;
  private readonly a: number;
  private readonly b: number;
  private readonly c: number;

  constructor(seed: number, a = 0, b = 0, c = 0) {
    this.seed = seed;
    this.a = a;
    this.b = b;
    this.c = c;
  }

  uint32(): number {
    return uint32(this.seed, this.position++, this.a, this.b, this.c);
  }

  /** Uniform in [0, 1). */
  uniform(): number {
    return this.uint32() / TWO32;
  }

  /** Uniform integer in [0, n). */
  int(n: number): number {
    return scaleToInt(this.uint32(), n);
  }

  /** True with probability p. */
  chance(p: number): boolean {
    return this.uniform() < p;
  }

  pick<T>(items: readonly T[]): T {
    return items[this.int(items.length)];
  }

  normal(): number {
    return normalQuantile((this.uint32() + 0.5) / TWO32);
  }
}

/** Inverse of the standard normal distribution function (rational approximation by P. Acklam). */
function normalQuantile(p: number): number {
  const tail = 0.02425;
  if (p < tail) return tailQuantile(p);
  if (p > 1 - tail) return -tailQuantile(1 - p);
  const q = p - 0.5;
  const r = q * q;
  const top =
    (((((-39.69683028665376 * r + 220.9460984245205) * r - 275.9285104469687) * r + 138.357751867269) * r -
      30.66479806614716) *
      r +
      2.506628277459239) *
    q;
  const bottom =
    ((((-54.47609879822406 * r + 161.5858368580409) * r - 155.6989798598866) * r + 66.80131188771972) * r -
      13.28068155288572) *
      r +
    1;
  return top / bottom;
}

function tailQuantile(p: number): number {
  const q = Math.sqrt(-2 * naturalLog(p));
  const top =
    ((((-0.007784894002430293 * q - 0.3223964580411365) * q - 2.400758277161838) * q - 2.549732539343734) * q +
      4.374664141464968) *
      q +
    2.938163982698783;
  const bottom =
    (((0.007784695709041462 * q + 0.3224671290700398) * q + 2.445134137142996) * q + 3.754408661907416) * q + 1;
  return top / bottom;
}

/** ln(x) for 0 < x < 1 from exact operations only: x = m 2^-e with m in [0.75, 1.5), ln m = 2 atanh((m-1)/(m+1)). */
function naturalLog(x: number): number {
  let m = x;
  let e = 0;
  while (m < 0.75) {
    m *= 2;
    e++;
  }
  const t = (m - 1) / (m + 1);
  const t2 = t * t;
  let sum = 0;
  for (let k = 23; k >= 1; k -= 2) sum = sum * t2 + 1 / k;
  return 2 * t * sum - e * Math.LN2;
}
