/** Matrices that are larger than one binding: an op binds them in blocks of whole rows. */
import { caps } from "../../gpu/device.ts";
import { type BufferView, subview } from "../../gpu/pool.ts";
import { borrow, bytesOf, Tensor } from "../core.ts";
import type { Weight } from "../quantized.ts";
import { matrixShape, rowsPerBinding } from "./rows.ts";

/** Rows first .. first + count - 1, and their memory. */
export interface RowBlock {
  first: number;
  count: number;
  view: BufferView;
}

/** Whether one binding cannot hold the weight. */
export const isLarge = (weight: Weight): boolean =>
  (weight instanceof Tensor ? weight.size * bytesOf(weight.dtype) : weight.memory.data.size) > caps().maxBinding;

/** All rows in one block where one binding holds them, else as few blocks as it takes. */
export function rowBlocks(matrix: Tensor): RowBlock[] {
  const [rows, width] = matrixShape(matrix.shape);
  const { view } = matrix;
  const bytes = width * bytesOf(matrix.dtype);
  const most = rowsPerBinding(bytes, rows);
  if (most === rows) return [{ first: 0, count: rows, view }];
  const blocks: RowBlock[] = [];
  for (let first = 0; first < rows; first += most) {
    const count = Math.min(most, rows - first);
    blocks.push({ first, count, view: subview(view, first * bytes, count * bytes) });
  }
  return blocks;
}

/** Blocks of a weight's rows as operands of matrix products. */
export function weightBlocks(weight: Weight): { first: number; count: number; rows: Weight }[] {
  if (!(weight instanceof Tensor)) return weight.blocks();
  return rowBlocks(weight).map(({ first, count }) => ({ first, count, rows: tensorRows(weight, first, count) }));
}

/** Rows from .. from + count - 1 of a weight, as an operand of matrix products. */
export const weightRows = (weight: Weight, from: number, count: number): Weight =>
  weight instanceof Tensor ? tensorRows(weight, from, count) : weight.rows(from, count);

/** Rows from .. from + count - 1 of a matrix, in its memory; of f16 they begin at a multiple of 128, else of 64. */
export function tensorRows(matrix: Tensor, from: number, count: number): Tensor {
  const [rows, width] = matrixShape(matrix.shape);
  if (from === 0 && count === rows) return matrix;
  const bytes = width * bytesOf(matrix.dtype);
  return borrow(subview(matrix.view, from * bytes, count * bytes), [count, width], matrix.dtype, matrix.madeBy);
}
