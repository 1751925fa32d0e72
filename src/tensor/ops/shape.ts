/** Changes of shape. Tensors are always contiguous, so a reshape is free and everything else is a kernel elsewhere. */
import { kernel } from "../../gpu/kernel.ts";
import { copy, run } from "../../gpu/stream.ts";
import { SLICE, SLICE_GRAD } from "../../shaders/slice.wgsl.ts";
import { empty, record, type Shape, type Tensor } from "../core.ts";
import { addInto, fill, place, WG } from "../raw.ts";

/** A tensor's values under another shape of equal size, in the same memory. */
export function reshape(x: Tensor, shape: Shape): Tensor {
  const size = shape.reduce((a, b) => a * b, 1);
  if (size !== x.size) throw new Error(`reshape: [${x.shape}] holds ${x.size} values, [${shape}] would hold ${size}`);
  return record("reshape", [x], x.alias(shape, "reshape"), (dy) => [dy.alias(x.shape, "reshape_grad")]);
}

/** A tensor's values without their history: no gradient flows back. */
export const detach = (x: Tensor): Tensor => x.alias(x.shape, "detach");

/** A copy with its own memory. */
export function clone(x: Tensor): Tensor {
  return record("clone", [x], addInto(fill(empty(x.shape, x.dtype, "clone"), 0), x), (dy) => [dy]);
}

/** f32 tensors one after another, flattened, in one vector. */
export function concat(parts: readonly Tensor[]): Tensor {
  const total = parts.reduce((n, t) => n + t.size, 0);
  const out = empty([total], "f32", "concat");
  const firsts: number[] = [];
  let at = 0;
  for (const part of parts) {
    if (part.dtype !== "f32") throw new Error(`concat: ${part.dtype} tensors are not put together`);
    firsts.push(at);
    place(out, part, at);
    at += part.size;
  }
  return record("concat", parts, out, (dy, sinks) =>
    parts.map(({ shape, size }, i) => {
      if (sinks[i] === false) return null;
      const dx = empty(shape, "f32", "concat_grad");
      copy(dy.view, dx.view, size * 4, firsts[i] * 4);
      return dx;
    }),
  );
}

const scalars = { n: "u32", width: "u32", stride: "u32", first: "u32" } as const;
const sliceKernel = kernel({ name: "slice", code: SLICE, bindings: { x: "read T", y: "write T" }, scalars });
const gradKernel = kernel({
  name: "slice_grad",
  code: SLICE_GRAD,
  bindings: { dy: "read T", dx: "write T" },
  scalars,
});

/**
 * Part of a tensor along one dimension, as a copy: `x[..., start:end, ...]`.
 * @param start first index, from 0
 * @param end index after the last
 * @param axis dimension that is cut. Default 0
 * @returns x's shape with end - start along the axis
 * @throws Error for an axis that x does not have, and for indices that are not 0 <= start <= end <= length
 */
export function slice(x: Tensor, start: number, end: number, axis = 0): Tensor {
  const length = x.shape[axis];
  if (length === undefined) throw new Error(`slice: [${x.shape}] has no dimension ${axis}`);
  if (!(Number.isInteger(start) && Number.isInteger(end) && 0 <= start && start <= end && end <= length)) {
    throw new Error(`slice: ${start} to ${end} of dimension ${axis} of [${x.shape}]`);
  }
  const inner = x.shape.slice(axis + 1).reduce((a, b) => a * b, 1);
  const [width, stride, first] = [(end - start) * inner, length * inner, start * inner];
  const y = empty(x.shape.with(axis, end - start), x.dtype, "slice");
  const consts = { T: x.dtype, WG };
  run(sliceKernel, consts, [x.view, y.view], [y.size, width, stride, first], Math.ceil(y.size / WG));
  return record("slice", [x], y, (dy, [sink]) => {
    const dx = typeof sink === "object" ? sink : empty(x.shape, x.dtype, "slice_grad");
    const given = { ...consts, ACC: dx === sink };
    run(gradKernel, given, [dy.view, dx.view], [x.size, width, stride, first], Math.ceil(x.size / WG));
    return [dx];
  });
}
