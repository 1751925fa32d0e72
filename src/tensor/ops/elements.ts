/** Elements of a tensor as vectors. */
import { type Tensor, tensor } from "../core.ts";
import { gatherRows } from "./embedding.ts";
import { reshape, slice } from "./shape.ts";

/** Elements of a tensor by their places in row-major order, as a vector; differentiable. */
export function elements(x: Tensor, places: Uint32Array): Tensor {
  return reshape(gatherRows(reshape(x, [x.size, 1]), tensor(places), places), [places.length]);
}

/** Consecutive elements of a tensor in row-major order, `count` from place `first` on, as a vector; differentiable. */
export const range = (x: Tensor, first: number, count: number): Tensor =>
  slice(reshape(x, [x.size]), first, first + count);
