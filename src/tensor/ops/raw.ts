/** Unrecorded building blocks: filling, adding in place, placing, and the deterministic sum that reductions share. */
import { kernel } from "../../gpu/kernel.ts";
import { run } from "../../gpu/stream.ts";
import * as elementwise from "../../shaders/elementwise.wgsl.ts";
import { sumChunks } from "../../shaders/reduce.wgsl.ts";
import { empty, type Shape, type Tensor } from "../tensor.ts";

/** Threads per workgroup and vectors per thread of elementwise kernels (4 per thread: 1.8x over 1 on lavapipe). */
export const WG = 64;
export const PER = 4;

/** vec4 access where the size allows it: the element types for a kernel and the number of elements. */
export function vectors(size: number, type: string): { S: string; V: string; B: string; n: number; groups: number } {
  const wide = size % 4 === 0;
  const n = wide ? size / 4 : size;
  return {
    S: wide ? `vec4<${type}>` : type,
    V: wide ? "vec4<f32>" : "f32",
    B: wide ? "vec4<bool>" : "bool",
    n,
    groups: Math.ceil(n / (WG * PER)),
  };
}

const fillKernel = kernel({
  name: "fill",
  code: elementwise.fill,
  bindings: { y: "write S" },
  scalars: { n: "u32", value: "f32" },
});

/** Sets every element to `value`; returns the tensor. */
export function fill(t: Tensor, value: number): Tensor {
  const { S, n, groups } = vectors(t.size, t.dtype);
  run(fillKernel, { S, WG, PER }, [t.view], [n, value], groups);
  return t;
}

/** A tensor of zeros. */
export const zeros = (shape: Shape, madeBy = "zeros"): Tensor => fill(empty(shape, "f32", madeBy), 0);

/** A tensor of one value. */
export const full = (shape: Shape, value: number): Tensor => fill(empty(shape, "f32", "full"), value);

const addKernel = kernel({
  name: "add_into",
  code: `fn f(x: V) -> V { return x; }${elementwise.unary.replace("y[i] = S(f(V(x[i])))", "y[i] += S(V(x[i]) * u.factor)")}`,
  bindings: { x: "read S", y: "write S" },
  scalars: { n: "u32", factor: "f32" },
});

/** target += factor * source, in place; returns the target. */
export function addInto(target: Tensor, source: Tensor, factor = 1): Tensor {
  if (target.size !== source.size) throw new Error(`addInto: [${source.shape}] into [${target.shape}]`);
  const { S, V, n, groups } = vectors(target.size, target.dtype);
  run(addKernel, { S, V, WG, PER }, [source.view, target.view], [n, factor], groups);
  return target;
}

const placeKernel = kernel({
  name: "place",
  code: elementwise.place,
  bindings: { x: "read T", y: "write T" },
  scalars: { n: "u32", at: "u32" },
});

/** target[at ...] = source, flattened. */
export function place(target: Tensor, source: Tensor, at: number): void {
  if (at + source.size > target.size) throw new Error(`place: ${source.size} at ${at} in a tensor of ${target.size}`);
  const consts = { T: target.dtype, WG };
  run(placeKernel, consts, [source.view, target.view], [source.size, at], Math.ceil(source.size / WG));
}

const sumKernel = kernel({
  name: "sum",
  code: sumChunks,
  bindings: { x: "read X", y: "write f32" },
  scalars: { outer: "u32", axis: "u32", inner: "u32", chunks: "u32", chunkSize: "u32" },
});

const CHUNK = 128; // elements one thread adds: long enough to amortise it, short enough to fill a GPU

/** Sums the middle axis of x seen as [outer, axis, inner], in f32; added to `into` when given. */
export function sumMiddle(x: Tensor, outer: number, axis: number, inner: number, shape: Shape, into?: Tensor): Tensor {
  let source = x;
  let length = axis;
  for (;;) {
    const chunks = Math.ceil(length / CHUNK);
    const last = chunks <= 1;
    const out = last ? (into ?? empty(shape, "f32", "sum")) : empty([outer, chunks, inner], "f32", "sum");
    if (length === 0) return into ? out : fill(out, 0);
    const ACC = last && into !== undefined;
    const groups = Math.ceil((outer * chunks * inner) / WG);
    run(
      sumKernel,
      { X: source.dtype, WG, ACC },
      [source.view, out.view],
      [outer, length, inner, chunks, CHUNK],
      groups,
    );
    if (source !== x) source.free("sum");
    if (last) return out;
    source = out;
    length = chunks;
  }
}

/** Sums a broadcast gradient back to `shape` (aligned at the last dimension, as NumPy broadcasts). */
export function sumTo(grad: Tensor, shape: Shape): Tensor {
  const rank = grad.shape.length;
  const target = [...Array(rank - shape.length).fill(1), ...shape] as number[];
  let current = grad;
  for (let axis = 0; axis < rank; axis++) {
    const length = current.shape[axis];
    if (target[axis] === length) continue;
    const outer = current.shape.slice(0, axis).reduce((a, b) => a * b, 1);
    const inner = current.shape.slice(axis + 1).reduce((a, b) => a * b, 1);
    const reduced = current.shape.map((n, i) => (i === axis ? 1 : n));
    current = sumMiddle(current, outer, length, inner, reduced);
  }
  return current === grad && rank === shape.length ? grad : current.alias(shape, "sumTo");
}
