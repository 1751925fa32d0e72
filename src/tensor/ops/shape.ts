/** Changes of shape. Tensors are always contiguous, so a reshape is free and everything else is a kernel elsewhere. */
import { copy } from "../../gpu/stream.ts";
import { empty, record, type Shape, type Tensor } from "../core.ts";
import { addInto, fill, place } from "../raw.ts";

/** The same values under another shape of equal size. */
export function reshape(x: Tensor, shape: Shape): Tensor {
  const size = shape.reduce((a, b) => a * b, 1);
  if (size !== x.size) throw new Error(`reshape: [${x.shape}] holds ${x.size} values, [${shape}] would hold ${size}`);
  return record("reshape", [x], x.alias(shape, "reshape"), (dy) => [dy.alias(x.shape, "reshape_grad")]);
}

/** The values without their history: no gradient flows back. */
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
