/** Sums and means. Every reduction adds in a fixed order, so results do not vary from run to run. */
import { full, record, sumMiddle, type Tensor } from "../core.ts";
import { mul, scale } from "./elementwise.ts";

/** The sum over one axis (removed from the shape; negative counts from the end), or over everything, giving shape [1]. */
export function sum(x: Tensor, axis?: number): Tensor {
  if (x.dtype !== "f32") throw new Error(`sum: ${x.dtype} tensors are not summed`);
  const at = axis === undefined ? 0 : axis < 0 ? axis + x.shape.length : axis;
  if (axis !== undefined && !(at in x.shape)) throw new Error(`sum: no axis ${axis} in shape [${x.shape}]`);
  const whole = axis === undefined;
  const outer = whole ? 1 : x.shape.slice(0, at).reduce((a, b) => a * b, 1);
  const length = whole ? x.size : x.shape[at];
  const inner = whole ? 1 : x.shape.slice(at + 1).reduce((a, b) => a * b, 1);
  const shape = whole ? [1] : x.shape.filter((_, i) => i !== at);
  const y = sumMiddle(x, outer, length, inner, shape.length > 0 ? shape : [1]);
  return record("sum", [x], y, (dy) => {
    // Repeat dy along the axis: broadcasting against ones does it in one kernel.
    const column = dy.alias([outer, 1, inner], "sum_grad");
    const ones = full([outer, length, inner], 1);
    return [mul(column, ones).alias(x.shape, "sum_grad")];
  });
}

/** The mean over one axis, or over everything. */
export function mean(x: Tensor, axis?: number): Tensor {
  const total = sum(x, axis);
  return scale(total, total.size / x.size);
}
