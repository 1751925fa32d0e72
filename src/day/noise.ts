/** Tensors for measurements. */
import { noise } from "../runtime/noise.ts";
import { type Tensor, tensor } from "../tensor/core.ts";

/** Reproducible values in [-1, 1). */
export const noiseTensor = (shape: readonly number[], seed: number): Tensor =>
  tensor(
    noise(
      shape.reduce((a, b) => a * b, 1),
      seed,
    ),
    shape,
  );
