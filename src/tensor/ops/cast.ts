/** Between f32 and f16: how a pass in half precision takes its copies of f32 weights, and gives gradients back to them. */
import { kernel } from "../../gpu/kernel.ts";
import { run } from "../../gpu/stream.ts";
import { CAST } from "../../shaders/cast.wgsl.ts";
import { empty, record, type Tensor } from "../core.ts";
import { PER, vectors, WG } from "../raw.ts";

const castKernel = kernel({
  name: "cast",
  code: CAST,
  bindings: { x: "read S", y: "write R" },
  scalars: { n: "u32" },
});

/** The values in another type; the same tensor if they have it already. Beyond 65,504, f16 is infinite. */
export function cast(x: Tensor, dtype: "f32" | "f16"): Tensor {
  if (x.dtype === dtype) return x;
  const y = convert(x, empty(x.shape, dtype, "cast"), false);
  return record("cast", [x], y, (dy, [sink]) => {
    if (sink === false) return [null];
    return [sink === true ? convert(dy, empty(x.shape, x.dtype, "cast_grad"), false) : convert(dy, sink, true)];
  });
}

function convert(from: Tensor, to: Tensor, ACC: boolean): Tensor {
  const { S, n, groups } = vectors(from.size, from.dtype);
  const { S: R } = vectors(to.size, to.dtype);
  run(castKernel, { S, R, WG, PER, ACC }, [from.view, to.view], [n], groups);
  return to;
}
