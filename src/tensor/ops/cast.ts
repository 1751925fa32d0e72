/** Between f32 and f16. */
import { kernel } from "../../gpu/kernel.ts";
import { run } from "../../gpu/stream.ts";
import { CAST } from "../../shaders/cast.wgsl.ts";
import { empty, record, type Tensor } from "../core.ts";
import { PER, type Values, vectors, WG } from "../raw.ts";

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

/** Writes values in the other type; not recorded. */
export const castInto = (from: Values, to: Values): void => void convert(from, to, false);

function convert<To extends Values>(from: Values, to: To, ACC: boolean): To {
  const { S, n, groups } = vectors(from.size, from.dtype);
  const { S: R } = vectors(to.size, to.dtype);
  run(castKernel, { S, R, WG, PER, ACC }, [from.view, to.view], [n], groups);
  return to;
}
