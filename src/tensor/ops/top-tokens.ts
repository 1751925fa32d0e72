/** The most probable tokens of rows of logits. */
import { SLOT_TOP, SLOT_WORDS } from "../../shaders/sample.wgsl.ts";
import { empty, scope, type Tensor, tensor } from "../core.ts";
import { matrixShape, rowKernel, rowPlan, runRows } from "./rows.ts";

const topKernel = rowKernel({
  name: "slot_top",
  code: SLOT_TOP,
  bindings: { logits: "read F", slots: "read u32", state: "read u32", out: "write u32" },
  scalars: { rows: "u32", n: "u32", step: "u32", stride: "u32" },
});
/** The most probable tokens at one place, most probable first. */
export interface TopTokens {
  ids: Uint32Array;
  logProbs: Float32Array;
}

/**
 * The `top` most probable tokens of each row under the plain softmax, on the host.
 * @param logits f32 [N, V]
 */
export async function topLogProbs(logits: Tensor, top: number): Promise<TopTokens[]> {
  const [rows, vocab] = matrixShape(logits.shape);
  const out = empty([rows, top, 2], "u32", "top log-probabilities");
  scope(() => topOfRows(logits, out, top, 0, rows));
  const words = await out.readIds();
  out.free("topLogProbs");
  return Array.from({ length: rows }, (_, r) => topAt(words, r * top, top, vocab));
}

/** Enqueues the search for rows that belong to no slots, as `topTokens`; call within a scope. */
export function topOfRows(logits: Tensor, out: Tensor, top: number, step: number, stride: number): void {
  const [rows] = matrixShape(logits.shape);
  const none = tensor(new Uint32Array(Math.max(rows, SLOT_WORDS)));
  topTokens(logits, none, none, out, top, step, stride);
}

/** Enqueues the search for rows that belong to slots; `out` gets (id, log-probability) pairs by step, row and rank. */
export function topTokens(
  logits: Tensor,
  slots: Tensor,
  state: Tensor,
  out: Tensor,
  TOP: number,
  step: number,
  stride: number,
): void {
  const [rows, vocab] = matrixShape(logits.shape);
  const plan = rowPlan(vocab);
  const buffers = [logits, slots, state, out].map((t) => t.view);
  runRows(topKernel, plan, { TOP }, buffers, [rows, vocab / plan.width, step, stride], rows);
}

/** What `topTokens` wrote for one row, from its first pair on. */
export function topAt(words: Uint32Array, first: number, top: number, vocab: number): TopTokens {
  const floats = new Float32Array(words.buffer);
  const count = Math.min(top, vocab);
  return {
    ids: Uint32Array.from({ length: count }, (_, k) => words[2 * (first + k)]),
    logProbs: Float32Array.from({ length: count }, (_, k) => floats[2 * (first + k) + 1]),
  };
}
