/** Gated activations. */
import { type Gate, gluBackward, gluForward } from "../../shaders/activation.wgsl.ts";
import { gluOfParts } from "../../shaders/unsummed.wgsl.ts";
import { empty, record, type Tensor } from "../core.ts";
import { matrixShape, type RowKernel, type RowPlan, rowKernel, runRows, target, walkPlan } from "./rows.ts";
import { type Unsummed, unsummed } from "./unsummed.ts";

export type { Gate };

const kernels = (gate: Gate): { forward: RowKernel; backward: RowKernel } => ({
  forward: rowKernel({
    name: `${gate}_glu_fwd`,
    code: gluForward(gate),
    bindings: { x: "read V", h: "write V" },
    scalars: { rows: "u32", n: "u32" },
    reduces: false,
  }),
  backward: rowKernel({
    name: `${gate}_glu_bwd`,
    code: gluBackward(gate),
    bindings: { x: "read V", dh: "read V", dx: "write V" },
    scalars: { rows: "u32", n: "u32" },
    reduces: false,
  }),
});

const table: Readonly<Record<Gate, ReturnType<typeof kernels>>> = {
  silu: kernels("silu"),
  gelu_tanh: kernels("gelu_tanh"),
  gelu: kernels("gelu"),
  relu: kernels("relu"),
};

const kernelsOfParts = new Map<string, RowKernel>();

/** The same of a product that is not added up, and stays so: mostly nobody else reads it. */
function ofParts(gate: Gate, parts: Unsummed, plan: RowPlan, gateUp: Tensor, h: Tensor, rows: number): void {
  const name = `${gate}_glu_of_${parts.name}`;
  const k =
    kernelsOfParts.get(name) ??
    rowKernel({
      name,
      code: gluOfParts(gate, parts.adds),
      bindings: { ...parts.bindings, h: "write V" },
      scalars: { rows: "u32", n: "u32", splits: "u32", size: "u32" },
      reduces: false,
    });
  kernelsOfParts.set(name, k);
  const scalars = [rows, h.size / rows / plan.width, parts.splits, gateUp.size / plan.width];
  runRows(k, plan, { T: h.dtype }, [...parts.views, h.view], scalars, rows);
}

/**
 * activation(gate) * up: SwiGLU ("silu"), GeGLU ("gelu" exact, "gelu_tanh" approximated), ReGLU ("relu").
 * @param gateUp [..., 2F]: the first F columns are the gate, the last F the other factor
 * @returns [..., F]
 */
export function glu(gateUp: Tensor, activation: Gate): Tensor {
  const { forward, backward } = table[activation];
  const [rows, cols] = matrixShape(gateUp.shape);
  if (cols % 2 !== 0) throw new Error(`glu: the last axis must be even, not ${cols}`);
  const half = cols / 2;
  const plan = walkPlan(half);
  const T = gateUp.dtype;
  const n = half / plan.width;
  const shape = gateUp.shape.slice();
  shape[shape.length - 1] = half;
  const h = empty(shape, gateUp.dtype);
  const parts = unsummed(gateUp);
  if (parts) {
    ofParts(activation, parts, { ...plan, WG: 256, LANES: 256 }, gateUp, h, rows);
    return h;
  }
  runRows(forward, plan, { T }, [gateUp.view, h.view], [rows, n], rows);
  return record("glu", [gateUp], h, (dh, [sink]) => {
    const dx = target(sink, gateUp.shape, gateUp.dtype);
    if (dx) {
      runRows(backward, plan, { T, ACC: sink !== true }, [gateUp.view, dh.view, dx.view], [rows, n], rows);
    }
    return [dx];
  });
}

/** silu(gate) * up, as `glu` with "silu". */
export const swiglu = (gateUp: Tensor): Tensor => glu(gateUp, "silu");
