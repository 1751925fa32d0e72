/** Values for measurements: reproducible, and as spread as a model's. */
import { type Tensor, tensor } from "../tensor/core.ts";

/** Values in [-1, 1) by a multiplicative congruential generator (Park and Miller 1988). */
export function noise(length: number, seed: number): Float32Array<ArrayBuffer> {
  const values = new Float32Array(length);
  let state = (seed % 2147483646) + 1;
  for (let i = 0; i < length; i++) {
    state = (state * 48271) % 2147483647;
    values[i] = state / 1073741823.5 - 1;
  }
  return values;
}

export const noiseTensor = (shape: readonly number[], seed: number): Tensor =>
  tensor(
    noise(
      shape.reduce((a, b) => a * b, 1),
      seed,
    ),
    shape,
  );
