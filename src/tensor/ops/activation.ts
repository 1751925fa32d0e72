/** Gated activations. */
import { SWIGLU_BWD, SWIGLU_FWD } from "../../shaders/activation.wgsl.ts";
import { record } from "../autograd.ts";
import { empty, type Tensor } from "../tensor.ts";
import { matrixShape, rowKernel, runRows, target, walkPlan } from "./rows.ts";

const forward = rowKernel({
  name: "swiglu_fwd",
  code: SWIGLU_FWD,
  bindings: { x: "read V", h: "write V" },
  scalars: { rows: "u32", n: "u32" },
  reduces: false,
});
const backward = rowKernel({
  name: "swiglu_bwd",
  code: SWIGLU_BWD,
  bindings: { x: "read V", dh: "read V", dx: "write V" },
  scalars: { rows: "u32", n: "u32" },
  reduces: false,
});

/**
 * silu(gate) * up.
 * @param gateUp [..., 2F]: the first F columns are the gate, the last F the other factor
 * @returns [..., F]
 */
export function swiglu(gateUp: Tensor): Tensor {
  const [rows, cols] = matrixShape(gateUp.shape);
  if (cols % 2 !== 0) throw new Error(`swiglu: the last axis must be even, not ${cols}`);
  const half = cols / 2;
  const plan = walkPlan(half);
  const T = gateUp.dtype;
  const n = half / plan.width;
  const h = empty([...gateUp.shape.slice(0, -1), half], gateUp.dtype);
  runRows(forward, plan, { T }, [gateUp.view, h.view], [rows, n], rows);
  return record("swiglu", [gateUp], h, (dh, [sink]) => {
    const dx = target(sink, gateUp.shape, gateUp.dtype);
    if (dx) {
      runRows(backward, plan, { T, ACC: sink !== true }, [gateUp.view, dh.view, dx.view], [rows, n], rows);
    }
    return [dx];
  });
}
