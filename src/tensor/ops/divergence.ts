/**
 * How far a student's next-token distributions are from a teacher's, over the whole vocabulary, from the hidden states and heads
 * of both. Logits of the two exist one bounded chunk at a time; the backward pass computes them again.
 */
import { DIVERGENCE_BWD, DIVERGENCE_MIXED, DIVERGENCE_STATS } from "../../shaders/divergence.wgsl.ts";
import { empty, recordMany, scope, Tensor, willRecord } from "../core.ts";
import { mayBeLate } from "../late-sums.ts";
import { trainable, type Weight } from "../quantized.ts";
import { fill } from "../raw.ts";
import { matrixShape, rowKernel, rowPlan, rowsPerBinding, runRows, target, walkPlan } from "./rows.ts";
import {
  adds,
  type Block,
  budgetHere,
  cut,
  KEEP,
  largest,
  logitGradients,
  logitsOf,
  rounded,
  slice,
} from "./vocab-blocks.ts";

const scalars = { rows: "u32", n: "u32", it: "f32", cap: "f32", capT: "f32", beta: "f32" } as const;
const statistics = rowKernel({
  name: "divergence_stats",
  code: DIVERGENCE_STATS,
  bindings: {
    student: "read F",
    teacher: "read F",
    state: "write vec4f",
    stats: "write vec4f",
    divergences: "write f32",
    entropies: "write f32",
  },
  scalars,
});
const mixed = rowKernel({
  name: "divergence_mixed",
  code: DIVERGENCE_MIXED,
  bindings: { student: "read F", teacher: "read F", stats: "write vec4f", divergences: "write f32" },
  scalars,
});
const backward = rowKernel({
  name: "divergence_bwd",
  code: DIVERGENCE_BWD,
  bindings: { student: "write F", teacher: "read F", stats: "read vec4f", dDivergences: "read f32" },
  scalars,
  reduces: false,
});

/** Hidden states of some rows, and the head that makes logits of them. */
export interface Predictor {
  /** [N, D], f32; the widths of two predictors may differ. */
  hidden: Tensor;
  /** [V, D], f32, f16 or quantized. */
  head: Weight;
  /** Logits z become softcap * tanh(z / softcap), before the temperature; default null, no cap. */
  softcap?: number | null;
}

/** Options of `tokenDivergence`. */
export interface DivergenceOptions {
  /** 1: KL(p || q); 0: KL(q || p); between: the generalised Jensen-Shannon divergence. Default 1. */
  beta?: number;
  /** The logits of both are divided by this. Default 1. */
  temperature?: number;
  /** Most logits held at once, in floats, half of them the teacher's (default 8 Mi = 32 MiB, on GPUs 32 Mi). */
  budget?: number;
  /** The products that make logits, and their gradients, read hidden states rounded to this; logits are f32. Default f32. */
  type?: "f32" | "f16";
}

/** Divergence per row, and the student's entropy. */
export interface TokenDivergence {
  /** [N], in nats. */
  divergence: Tensor;
  /** -sum p ln p per row, [N], in nats. Without a gradient. */
  entropy: Tensor;
}

/**
 * The divergence of each row's distributions p (student) and q (teacher), both softmax(hidden head^T / temperature), as
 * generalised by Agarwal et al. 2024 (arXiv 2306.13649, Eq. 1): beta KL(q || m) + (1 - beta) KL(p || m) with
 * m = (1 - beta) p + beta q, and at the ends 0 and 1 the two KL divergences. Gradients reach the student's `hidden` and `head`; the
 * teacher is a constant. Where the heads have different numbers of rows, the distributions are over those that both have.
 */
export function tokenDivergence(
  student: Predictor,
  teacher: Predictor,
  options: DivergenceOptions = {},
): TokenDivergence {
  const { beta = 1, temperature = 1, budget = budgetHere(), type = "f32" } = options;
  const [rows, width] = shapeOf(student, "the student's");
  const [theirRows, theirWidth] = shapeOf(teacher, "the teacher's");
  if (rows !== theirRows) throw new Error(`tokenDivergence: ${rows} rows of the student, ${theirRows} of the teacher`);
  if (!(beta >= 0 && beta <= 1)) throw new Error(`tokenDivergence: beta must be from 0 to 1, not ${beta}`);
  if (!(temperature > 0)) throw new Error(`tokenDivergence: temperature must be positive, not ${temperature}`);
  const { hidden, head } = student;
  const vocab = Math.min(head.shape[0], teacher.head.shape[0]);
  const inputs = [hidden, teacher.hidden, ...trainable(head)]; // the teacher's are kept, and get no gradient
  const widest = rowsPerBinding(4 * Math.max(width, theirWidth), vocab);
  const blocks = cut(rows, vocab, budget / 2, widest, type === "f32" ? 64 : 128);
  const MIXED = beta > 0 && beta < 1;
  const [cap, capT] = [student.softcap ?? 0, teacher.softcap ?? 0];
  const common = { SOFTCAP: cap > 0, SOFTCAP_T: capT > 0, FORWARD: beta === 0, REVERSE: beta === 1 };
  const numbers = (block: Block, vector: number) => [
    block.rows,
    block.columns / vector,
    1 / temperature,
    cap,
    capT,
    beta,
  ];
  const divergence = empty([rows], "f32", "tokenDivergence");
  const entropy = empty([rows], "f32", "tokenDivergence");
  const stats = empty([rows, 4], "f32", "tokenDivergence");
  const keep =
    blocks.length === 1 && 2 * rows * vocab <= Math.min(KEEP, budget) && willRecord([hidden, ...trainable(head)]);
  const kept = keep ? [0, 1].map(() => empty([rows, vocab], "f32", "tokenDivergence logits")) : null;

  const [read, theirs] = [hidden, teacher.hidden].map((x) => rounded(x, type, "tokenDivergence"));
  const bothOf = (block: Block, [own, other]: readonly Tensor[]) => {
    logitsOf(read, head, block, own.view);
    logitsOf(theirs, teacher.head, block, other.view);
  };
  const scratchOf = () => kept ?? [0, 1].map(() => empty([largest(blocks)]));

  scope(() => {
    const state = empty([rows, 8]);
    const scratch = scratchOf();
    const logits = scratch.map(({ view }) => view);
    for (const block of blocks) {
      bothOf(block, scratch);
      const plan = rowPlan(block.columns);
      const { row, rows: count, column, columns } = block;
      const [ends, LAST] = [column === 0, column + columns === vocab];
      const one = (t: Tensor, cols = 1) => slice(t, row, count, cols);
      const buffers = [...logits, one(state, 8), one(stats, 4), one(divergence), one(entropy)];
      runRows(statistics, plan, { ...common, FIRST: ends, LAST }, buffers, numbers(block, plan.width), count);
      if (!MIXED || !LAST) continue;
      // The mixture is known once both sums are: the logits of the row's other blocks are computed again.
      const own = blocks.filter((other) => other.row === row);
      for (const [i, part] of own.entries()) {
        if (own.length > 1) bothOf(part, scratch);
        const how = rowPlan(part.columns);
        const consts = { SOFTCAP: common.SOFTCAP, SOFTCAP_T: common.SOFTCAP_T, LAST: i === own.length - 1 };
        const into = [...logits, one(stats, 4), one(divergence)];
        runRows(mixed, how, consts, into, numbers(part, how.width), count);
      }
    }
  });

  recordMany(
    "tokenDivergence",
    inputs,
    [divergence],
    ([dDivergence], [sinkHidden, , sinkHead = false]) => {
      const dHidden = target(sinkHidden, hidden.shape);
      const dHead = target(sinkHead, head.shape);
      if (dHead && !adds(sinkHead) && vocab < head.shape[0]) fill(dHead, 0);
      const late = head instanceof Tensor && mayBeLate(head, sinkHead);
      const to = { dHidden, dHead, sinkHidden, sinkHead, late };
      scope(() => {
        const scratch = scratchOf();
        const [logits, other] = scratch.map(({ view }) => view);
        for (const block of blocks) {
          if (!kept) bothOf(block, scratch);
          const plan = walkPlan(block.columns);
          const buffers = [logits, other, slice(stats, block.row, block.rows, 4)];
          const dy = slice(dDivergence as Tensor, block.row, block.rows);
          runRows(backward, plan, common, [...buffers, dy], numbers(block, plan.width), block.rows);
          logitGradients(logits, read, head, block, to);
        }
      });
      return [dHidden, null, dHead];
    },
    [stats, ...(kept ?? []), ...(read === hidden ? [] : [read]), ...(theirs === teacher.hidden ? [] : [theirs])],
  );
  return { divergence, entropy };
}

/** Rows and width of the hidden states. Throws where the head has another width. */
function shapeOf({ hidden, head }: Predictor, whose: string): [rows: number, width: number] {
  const [rows, width] = matrixShape(hidden.shape);
  if (matrixShape(head.shape)[1] === width) return [rows, width];
  throw new Error(`tokenDivergence: ${whose} hidden is [${hidden.shape}] but its head is [${head.shape}]`);
}
