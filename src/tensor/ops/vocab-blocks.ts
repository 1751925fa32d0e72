/** Logits in blocks of bounded memory, so that [tokens, vocabulary] is never held: how they are cut, made, and what their gradient is. */
import { caps } from "../../gpu/device.ts";
import { type BufferView, subview } from "../../gpu/pool.ts";
import { batchInvariant } from "../../gpu/variants.ts";
import { type DType, empty, type Sink, type Tensor } from "../core.ts";
import type { Weight } from "../quantized.ts";
import { castInto } from "./cast.ts";
import { gemm, type ProductSizes } from "./gemm.ts";
import { tensorRows, weightRows } from "./row-blocks.ts";

/** Rows `row` .. of the hidden states times rows `column` .. of the head. */
export interface Block {
  row: number;
  rows: number;
  column: number;
  columns: number;
}

/** Floats of logits that are held at once: each chunk costs a GPU seven dispatches, and is to be large enough that all of it has work. */
export const budgetHere = () => (caps().kind === "hardware" ? Math.min(32 << 20, caps().maxBinding / 4) : 8 << 20);

/** Floats of logits that are kept for the backward pass instead of being computed again. */
export const KEEP = 2 << 20;

/**
 * Blocks of at most `budget` logits: all rows and a part of the vocabulary, unless there are very many rows.
 * @param widest most columns, i.e. rows of the head, that one binding holds
 * @param align rows start at multiples of this, and so at multiples of 256 bytes whatever their width
 */
export function cut(rows: number, vocab: number, budget: number, widest: number, align: number): Block[] {
  const blocks: Block[] = [];
  const down = (n: number) => Math.max(align, Math.floor(n / align) * align);
  const narrowest = Math.min(vocab, 4096); // narrower chunks waste the matmul
  // A sum over the vocabulary ends in the same bits where it is cut at the same columns.
  const sized = batchInvariant() ? Math.min(rows, 512) : rows;
  const perBlock = sized * narrowest <= budget ? sized : Math.min(sized, down(budget / narrowest));
  const together = batchInvariant() ? 512 : perBlock;
  const affordable = together * vocab <= budget ? vocab : down(budget / together);
  const columnsPerBlock = Math.min(vocab, affordable, widest);
  for (let row = 0; row < rows; row += perBlock) {
    for (let column = 0; column < vocab; column += columnsPerBlock) {
      const columns = Math.min(columnsPerBlock, vocab - column);
      blocks.push({ row, rows: Math.min(perBlock, rows - row), column, columns });
    }
  }
  return blocks;
}

/** The hidden states in the type that products read; a copy where they have another one. */
export function rounded(hidden: Tensor, type: DType, op: string): Tensor {
  if (type === "f32") return hidden;
  const out = empty(hidden.shape, type, op);
  castInto(hidden, out);
  return out;
}

/** Writes a block's logits. */
export function logitsOf(hidden: Tensor, head: Weight, { row, rows, column, columns }: Block, out: BufferView): void {
  const sizes: ProductSizes = [rows, columns, hidden.shape[hidden.shape.length - 1]];
  gemm(tensorRows(hidden, row, rows), weightRows(head, column, columns), "NT", sizes, { out });
}

/** Where the gradients of hidden states and head go, and whether they are added to what is there; null where nobody wants one. */
export interface LogitGradients {
  dHidden: Tensor | null;
  dHead: Tensor | null;
  sinkHidden: Sink;
  sinkHead: Sink;
  /** The head's may be added up later. */
  late: boolean;
}

/** Takes a block's gradient of logits [rows, columns] back to hidden states and head. */
export function logitGradients(
  dLogits: BufferView,
  hidden: Tensor,
  head: Weight,
  block: Block,
  to: LogitGradients,
): void {
  const { row, rows, column, columns } = block;
  const { dHidden, dHead, sinkHidden, sinkHead, late } = to;
  const width = hidden.shape[hidden.shape.length - 1];
  if (dHidden) {
    const out = slice(dHidden, row, rows, width);
    const accumulate = adds(sinkHidden) || column > 0;
    gemm(dLogits, weightRows(head, column, columns), "NN", [rows, width, columns], { out, accumulate });
  }
  if (dHead) {
    const out = slice(dHead, column, columns, width);
    const accumulate = adds(sinkHead) || row > 0;
    gemm(dLogits, tensorRows(hidden, row, rows), "TN", [columns, width, rows], { out, accumulate, late });
  }
}

/** Floats of the largest block. */
export const largest = (blocks: readonly Block[]) => Math.max(...blocks.map((b) => b.rows * b.columns));

/** Whether a gradient is added to what is there already. */
export const adds = (sink: Sink) => sink !== true;

/** Rows from .. from + count - 1 of a matrix with `cols` columns of 4 bytes. */
export function slice(t: Tensor, from: number, count: number, cols = 1): BufferView {
  if (from === 0 && count * cols === t.size) return t.view;
  return subview(t.view, from * cols * 4, count * cols * 4);
}
