import { type Tensor, tensor } from "../core.ts";
import { gatherRows } from "./embedding.ts";
import { reshape } from "./shape.ts";

/** Elements of a tensor by their places in row-major order, as a vector; differentiable. */
export function elements(x: Tensor, places: Uint32Array): Tensor {
  return reshape(gatherRows(reshape(x, [x.size, 1]), tensor(places), places), [places.length]);
}

/** `count` consecutive elements from place `first` on, as a vector; differentiable. */
export const range = (x: Tensor, first: number, count: number): Tensor =>
  elements(
    x,
    Uint32Array.from({ length: count }, (_, i) => first + i),
  );
