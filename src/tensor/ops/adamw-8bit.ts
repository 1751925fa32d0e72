/** AdamW with moments of 8 bits in blocks of 64 elements: a quarter of their memory, and a little more for the scales. */
import type { BufferView } from "../../gpu/pool.ts";
import { ADAMW_8BIT } from "../../shaders/adamw-8bit.wgsl.ts";
import type { Tensor } from "../core.ts";
import type { AdamOptions } from "./adamw.ts";
import { rowKernel, rowPlan, runRows } from "./rows.ts";

/** Elements that share a scale. Parameters begin at multiples of it, so that no block has two of them. */
export const BLOCK = 64;

/** The same range of the flat stores, and its moments. The views start at the range. */
export interface AdamRange8bit {
  params: BufferView;
  grads: BufferView;
  /** u32 [size / 4]: four codes each, as `v`. All zeros is a moment of zeros. */
  m: BufferView;
  v: BufferView;
  /** f32 [2 size / 64]: of each block the largest of m and of v. */
  scales: BufferView;
  /** Elements, a multiple of 64. */
  size: number;
}

const adamw8bit = rowKernel({
  name: "adamw_8bit",
  code: ADAMW_8BIT,
  bindings: { p: "write F", g: "read F", m: "write u32", v: "write u32", scales: "write f32", control: "read f32" },
  scalars: { rows: "u32", lr: "f32", keep1: "f32", keep2: "f32", eps: "f32", weightDecay: "f32" },
});

/** One AdamW update of a range, in place, of all of which the weights decay; as `adamwStep` otherwise. */
export function adamwStep8bit(range: AdamRange8bit, control: Tensor, options: AdamOptions): void {
  const { lr, betas = [0.9, 0.999], eps = 1e-8, weightDecay = 0 } = options;
  const { params, grads, m, v, scales, size } = range;
  if (size % BLOCK !== 0) throw new Error(`adamwStep8bit: ${size} elements are not whole blocks of ${BLOCK}`);
  const rows = size / BLOCK;
  const plan = rowPlan(BLOCK);
  const buffers = [params, grads, m, v, scales, control.view];
  const SEVERAL = plan.variant === "workgroup";
  runRows(adamw8bit, plan, { SEVERAL }, buffers, [rows, lr, 1 - betas[0], 1 - betas[1], eps, weightDecay], rows);
}
