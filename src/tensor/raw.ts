/**
 * Unrecorded building blocks below the tensors: filling, adding in place, placing, and the deterministic sum that
 * reductions share. They work on any values on the GPU; nothing here is differentiated, scoped or freed for the caller.
 */
import { kernel } from "../gpu/kernel.ts";
import { acquire, type BufferView, release } from "../gpu/pool.ts";
import { run } from "../gpu/stream.ts";
import * as elementwise from "../shaders/elementwise.wgsl.ts";
import { sumChunks } from "../shaders/reduce.wgsl.ts";

/** Values on the GPU as kernels see them: where they lie, how many there are, and the WGSL type of one. */
export interface Values {
  readonly view: BufferView;
  readonly size: number;
  readonly dtype: string;
}

/** Threads per workgroup and vectors per thread of elementwise kernels (4 per thread: 1.8x over 1 on lavapipe). */
export const WG = 64;
export const PER = 4;

/** The type of four of these; those of floats are the same strings each time, which kernels are found by faster. */
export const vec4Of = (type: string): string =>
  type === "f32" ? "vec4<f32>" : type === "f16" ? "vec4<f16>" : `vec4<${type}>`;

/** vec4 access where the size allows it: the element types for a kernel and the number of elements. */
export function vectors(
  size: number,
  type: string,
): { S: string; V: string; B: string; U: string; n: number; groups: number } {
  const wide = size % 4 === 0;
  const n = wide ? size / 4 : size;
  return {
    S: wide ? vec4Of(type) : type,
    V: wide ? "vec4<f32>" : "f32",
    B: wide ? "vec4<bool>" : "bool",
    U: wide ? "vec4<u32>" : "u32",
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
export function fill<V extends Values>(t: V, value: number): V {
  const { S, n, groups } = vectors(t.size, t.dtype);
  run(fillKernel, { S, WG, PER }, [t.view], [n, value], groups);
  return t;
}

const addKernel = kernel({
  name: "add_into",
  code: elementwise.addScaled,
  bindings: { x: "read S", y: "write S" },
  scalars: { n: "u32", factor: "f32" },
});

/** target += factor * source, in place; returns the target. */
export function addInto<V extends Values>(target: V, source: Values, factor = 1): V {
  if (target.size !== source.size || target.dtype !== source.dtype) {
    throw new Error(`addInto: ${source.size} ${source.dtype} values into ${target.size} ${target.dtype}`);
  }
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
export function place(target: Values, source: Values, at: number): void {
  if (at + source.size > target.size) throw new Error(`place: ${source.size} at ${at} in ${target.size} values`);
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

/** out = the sums over the middle axis of x seen as [outer, axis, inner], in f32; added to what is there when `ACC`. */
export function sumInto(out: Values, x: Values, outer: number, axis: number, inner: number, ACC: boolean): void {
  if (axis === 0) {
    if (!ACC) fill(out, 0);
    return;
  }
  let source = x;
  let length = axis;
  for (;;) {
    const chunks = Math.ceil(length / CHUNK);
    const size = outer * chunks * inner;
    const last = chunks === 1;
    const sums = last ? out : { view: acquire(size * 4, "sum"), size, dtype: "f32" };
    const consts = { X: source.dtype, WG, ACC: last && ACC };
    const scalars = [outer, length, inner, chunks, CHUNK];
    run(sumKernel, consts, [source.view, sums.view], scalars, Math.ceil(size / WG));
    if (source !== x) release(source.view);
    if (last) return;
    source = sums;
    length = chunks;
  }
}
