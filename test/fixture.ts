/** An array of a fixture file; see fixtures/README.md. */
export interface FixtureArray {
  shape: number[];
  dtype?: "u32";
  data?: (number | string)[];
  /** Base64 of little-endian float32. */
  f32?: string;
}

/** The values of a fixture array, in row-major order. */
export function values(a: FixtureArray): Float32Array | Uint32Array {
  if (a.f32 !== undefined) {
    const text = atob(a.f32);
    const bytes = Uint8Array.from(text, (c) => c.charCodeAt(0));
    return new Float32Array(bytes.buffer);
  }
  const numbers = (a.data ?? []).map(Number);
  return a.dtype === "u32" ? Uint32Array.from(numbers) : Float32Array.from(numbers);
}

/** The same in double precision, for references computed on the CPU. */
export function numbers(a: FixtureArray): number[] {
  return a.data ? a.data.map(Number) : Array.from(values(a));
}
