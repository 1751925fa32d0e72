/**
 * The keystone of every trainer: log-probability and entropy per token from hidden states and the output head, without
 * ever holding [tokens, vocabulary]. Logits exist one bounded chunk at a time; the backward pass computes them again.
 */
import { LOGPROBS_BWD, LOGPROBS_FWD } from "../../shaders/logprobs.wgsl.ts";
import { empty, recordMany, scope, Tensor, willRecord } from "../core.ts";
import { mayBeLate } from "../late-sums.ts";
import { trainable, type Weight } from "../quantized.ts";
import { matrixShape, rowKernel, rowPlan, rowsPerBinding, runRows, target, walkPlan } from "./rows.ts";
import { budgetHere, cut, KEEP, largest, logitGradients, logitsOf, rounded, slice } from "./vocab-blocks.ts";

const forward = rowKernel({
  name: "logprobs_fwd",
  code: LOGPROBS_FWD,
  bindings: {
    logits: "read F",
    targets: "read u32",
    state: "write vec4f",
    logProbs: "write f32",
    entropies: "write f32",
    lses: "write f32",
    tops: "write f32",
  },
  scalars: { rows: "u32", n: "u32", base: "u32", it: "f32", cap: "f32" },
});
const backward = rowKernel({
  name: "logprobs_bwd",
  code: LOGPROBS_BWD,
  bindings: {
    logits: "write F",
    targets: "read u32",
    lses: "read f32",
    entropies: "read f32",
    dLogProbs: "read f32",
    dEntropies: "read f32",
  },
  scalars: { rows: "u32", n: "u32", base: "u32", it: "f32", cap: "f32" },
  reduces: false,
});

/** Shape of the distribution that `tokenLogProbs` takes, and the memory that it may use. */
export interface LogProbOptions {
  /** Logits are divided by this. Default 1. */
  temperature?: number;
  /** Logits z become softcap * tanh(z / softcap), before the temperature; default null, no cap. */
  softcap?: number | null;
  /** Most logits held at once, in floats (default 8 Mi = 32 MiB, on GPUs 32 Mi). */
  budget?: number;
  /** The products that make logits, and their gradients, read hidden states rounded to this; logits are f32. Default f32. */
  type?: "f32" | "f16";
}

/** Log-probability and entropy per row, both with gradients, and what they are measured against. */
export interface TokenLogProbs {
  /** ln p(target) per row, [N]. */
  logProbs: Tensor;
  /** -sum p ln p per row, [N], in nats. */
  entropy: Tensor;
  /** ln p of the most probable token per row, [N]: exactly `logProbs` where that is the target. Without a gradient. */
  top: Tensor;
}

/**
 * Log-probability of each row's target and entropy of its distribution, softmax(hidden head^T / temperature). Gradients
 * of both reach `hidden` and `head`; a head tied to the embedding table works, since gradients add up.
 * @param hidden [N, D], f32
 * @param head [V, D], f32, f16 or quantized
 * @param targets u32 [N], each below V
 */
export function tokenLogProbs(
  hidden: Tensor,
  head: Weight,
  targets: Tensor,
  options: LogProbOptions = {},
): TokenLogProbs {
  const { temperature = 1, budget = budgetHere(), type = "f32" } = options;
  const [rows, width] = matrixShape(hidden.shape);
  const [vocab, headWidth] = matrixShape(head.shape);
  if (width !== headWidth) throw new Error(`tokenLogProbs: hidden is [${hidden.shape}] but head is [${head.shape}]`);
  if (targets.size !== rows || targets.dtype !== "u32") {
    throw new Error(`tokenLogProbs: targets must be u32 [${rows}], not ${targets.dtype} [${targets.shape}]`);
  }
  if (!(temperature > 0)) throw new Error(`tokenLogProbs: temperature must be positive, not ${temperature}`);
  const inputs = [hidden, ...trainable(head)];
  const blocks = cut(rows, vocab, budget, rowsPerBinding(4 * width, vocab), type === "f32" ? 64 : 128);
  const it = 1 / temperature;
  const cap = options.softcap ?? 0;
  const SOFTCAP = cap > 0;
  const logProbs = empty([rows], "f32", "tokenLogProbs");
  const entropy = empty([rows], "f32", "tokenLogProbs");
  const top = empty([rows], "f32", "tokenLogProbs");
  const lse = empty([rows], "f32", "tokenLogProbs");
  const keep = blocks.length === 1 && rows * vocab <= Math.min(KEEP, budget) && willRecord(inputs);
  const kept = keep ? empty([rows, vocab], "f32", "tokenLogProbs logits") : null;

  const read = rounded(hidden, type, "tokenLogProbs");

  scope(() => {
    const state = empty([rows, 4]);
    const scratch = kept ?? empty([largest(blocks)]);
    for (const block of blocks) {
      logitsOf(read, head, block, scratch.view);
      const plan = rowPlan(block.columns);
      const one = (t: Tensor) => slice(t, block.row, block.rows);
      const buffers = [
        scratch.view,
        one(targets),
        slice(state, block.row, block.rows, 4),
        one(logProbs),
        one(entropy),
        one(lse),
        one(top),
      ];
      const scalars = [block.rows, block.columns / plan.width, block.column, it, cap];
      const consts = { SOFTCAP, FIRST: block.column === 0, LAST: block.column + block.columns === vocab };
      runRows(forward, plan, consts, buffers, scalars, block.rows);
    }
  });

  recordMany(
    "tokenLogProbs",
    inputs,
    [logProbs, entropy],
    ([dLogProbs, dEntropies], [sinkHidden, sinkHead = false]) => {
      const dHidden = target(sinkHidden, hidden.shape);
      const dHead = target(sinkHead, head.shape);
      const late = head instanceof Tensor && mayBeLate(head, sinkHead);
      const to = { dHidden, dHead, sinkHidden, sinkHead, late };
      scope(() => {
        const scratch = kept ?? empty([largest(blocks)]);
        for (const block of blocks) {
          if (!kept) logitsOf(read, head, block, scratch.view);
          const plan = walkPlan(block.columns);
          const one = (t: Tensor | null) => slice(t ?? lse, block.row, block.rows);
          const buffers = [scratch.view, one(targets), one(lse), one(entropy), one(dLogProbs), one(dEntropies)];
          const scalars = [block.rows, block.columns / plan.width, block.column, it, cap];
          runRows(backward, plan, { SOFTCAP, HAS_G: !!dLogProbs, HAS_H: !!dEntropies }, buffers, scalars, block.rows);
          logitGradients(scratch.view, read, head, block, to);
        }
      });
      return [dHidden, dHead];
    },
    [lse, ...(kept ? [kept] : []), ...(read === hidden ? [] : [read])],
  );
  return { logProbs, entropy, top };
}
