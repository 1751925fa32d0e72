/** Conversions between 32-bit floats and the two 16-bit formats, on the bit patterns. */

const f32 = new Float32Array(1);
const bits = new Uint32Array(f32.buffer);

/** The value of an IEEE binary16 pattern; subnormals, infinities and NaN included. Exact. */
export function f16ToF32(h: number): number {
  const sign = h & 0x8000 ? -1 : 1;
  const exponent = (h >>> 10) & 0x1f;
  const fraction = h & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return sign * (1024 + fraction) * 2 ** (exponent - 25);
}

/** The binary16 pattern nearest to x, ties to even; beyond 65,520 infinity. */
export function f32ToF16(x: number): number {
  f32[0] = x;
  const u = bits[0];
  const sign = (u >>> 16) & 0x8000;
  const magnitude = u & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00;
  if (magnitude >= 0x477ff000) return sign | 0x7c00;
  if (magnitude < 0x38800000) {
    // Subnormal: counted in units of 2^-24.
    const units = Math.abs(f32[0]) * 2 ** 24;
    const floor = Math.floor(units);
    const rest = units - floor;
    return sign | (floor + (rest > 0.5 || (rest === 0.5 && floor & 1) ? 1 : 0));
  }
  // Round the 13 bits that go; a carry runs into the exponent, as it should.
  const rounded = magnitude + 0xfff + ((magnitude >>> 13) & 1);
  return sign | ((rounded >>> 13) - (112 << 10));
}

/** The value of a bfloat16 pattern. Exact. */
export function bf16ToF32(h: number): number {
  bits[0] = h << 16;
  return f32[0];
}

/** The bfloat16 pattern nearest to x, ties to even. */
export function f32ToBf16(x: number): number {
  f32[0] = x;
  const u = bits[0];
  if ((u & 0x7fffffff) > 0x7f800000) return (u >>> 16) | 0x40;
  return ((u + 0x7fff + ((u >>> 16) & 1)) >>> 16) & 0xffff;
}

let table: Float32Array | null = null;

/** Every binary16 pattern's value, for converting many. */
export function f16Table(): Float32Array {
  table ??= Float32Array.from({ length: 65536 }, (_, h) => f16ToF32(h));
  return table;
}

/** Values of binary16 patterns. */
export function f16sToF32(halves: Uint16Array): Float32Array<ArrayBuffer> {
  const values = f16Table();
  const out = new Float32Array(halves.length);
  for (let i = 0; i < out.length; i++) out[i] = values[halves[i]];
  return out;
}

/** Values of bfloat16 patterns. */
export function bf16sToF32(halves: Uint16Array): Float32Array<ArrayBuffer> {
  const out = new Uint32Array(halves.length);
  for (let i = 0; i < out.length; i++) out[i] = halves[i] << 16;
  return new Float32Array(out.buffer);
}

/** The binary16 patterns nearest to some values. */
export function f32sToF16(values: Float32Array): Uint16Array<ArrayBuffer> {
  const out = new Uint16Array(values.length);
  for (let i = 0; i < out.length; i++) out[i] = f32ToF16(values[i]);
  return out;
}

/** The bfloat16 patterns nearest to some values. */
export function f32sToBf16(values: Float32Array): Uint16Array<ArrayBuffer> {
  const out = new Uint16Array(values.length);
  for (let i = 0; i < out.length; i++) out[i] = f32ToBf16(values[i]);
  return out;
}
