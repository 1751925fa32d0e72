/** Values in [-1, 1) for measurements and trials by a multiplicative congruential generator (Park and Miller 1988): cheap, the same everywhere. */
export function noise(length: number, seed: number): Float32Array<ArrayBuffer> {
  const values = new Float32Array(length);
  let state = (seed % 2147483646) + 1;
  for (let i = 0; i < length; i++) {
    state = (state * 48271) % 2147483647;
    values[i] = state / 1073741823.5 - 1;
  }
  return values;
}
