/** Softmax and log-softmax over the last axis. */
import { SOFTMAX_BWD, SOFTMAX_FWD } from "../../shaders/softmax.wgsl.ts";
import { empty, record, type Tensor } from "../core.ts";
import { matrixShape, rowKernel, rowPlan, runRows, target } from "./rows.ts";

const forward = rowKernel({
  name: "softmax_fwd",
  code: SOFTMAX_FWD,
  bindings: { x: "read V", y: "write V" },
  scalars: { rows: "u32", n: "u32" },
});
const backward = rowKernel({
  name: "softmax_bwd",
  code: SOFTMAX_BWD,
  bindings: { y: "read V", dy: "read V", dx: "write V" },
  scalars: { rows: "u32", n: "u32" },
});

/** exp(x) / sum(exp(x)) over the last axis; x [..., D]. Masked entries are very negative (-1e30), never -Infinity. */
export const softmax = (x: Tensor): Tensor => rowSoftmax("softmax", x, false);

/** x - log(sum(exp(x))) over the last axis; x [..., D]. */
export const logSoftmax = (x: Tensor): Tensor => rowSoftmax("logSoftmax", x, true);

function rowSoftmax(name: string, x: Tensor, LOG: boolean): Tensor {
  const [rows, cols] = matrixShape(x.shape);
  const plan = rowPlan(cols);
  const T = x.dtype;
  const n = cols / plan.width;
  const y = empty(x.shape, x.dtype);
  runRows(forward, plan, { T, LOG }, [x.view, y.view], [rows, n], rows);
  return record(name, [x], y, (dy, [sink]) => {
    const dx = target(sink, x.shape, x.dtype);
    if (dx) runRows(backward, plan, { T, LOG, ACC: sink !== true }, [y.view, dy.view, dx.view], [rows, n], rows);
    return [dx];
  });
}
