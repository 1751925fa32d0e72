/** Matrices that are larger than one binding: an op binds them in blocks of whole rows. */
import { caps } from "../../gpu/device.ts";
import { type BufferView, subview } from "../../gpu/pool.ts";
import { bytesOf, type Tensor } from "../core.ts";
import { PackedWeight } from "../packed.ts";
import { matrixShape } from "./rows.ts";

/** Rows first .. first + count - 1, and their memory. */
export interface RowBlock {
  first: number;
  count: number;
  view: BufferView;
}

const ALIGN = 128; // rows start at multiples of 256 bytes, whatever their width and type

/** Whether one binding cannot hold the tensor. */
export const isLarge = (t: Tensor): boolean => memorySize(t) > caps().maxBinding;

const memorySize = (t: Tensor): number => (t instanceof PackedWeight ? t.memory.data.size : t.size * bytesOf(t.dtype));

/** Most rows of `bytes` bytes each that one binding holds; a multiple of 128. */
export function rowsPerBinding(bytes: number): number {
  return Math.max(ALIGN, Math.floor(caps().maxBinding / bytes / ALIGN) * ALIGN);
}

/** All rows in one block where one binding holds them, else as few blocks as it takes. */
export function rowBlocks(matrix: Tensor): RowBlock[] {
  const [rows, width] = matrixShape(matrix.shape);
  const { view } = matrix;
  if (!isLarge(matrix)) return [{ first: 0, count: rows, view }];
  const bytes = width * bytesOf(matrix.dtype);
  const most = rowsPerBinding(bytes);
  const blocks: RowBlock[] = [];
  for (let first = 0; first < rows; first += most) {
    const count = Math.min(most, rows - first);
    blocks.push({ first, count, view: subview(view, first * bytes, count * bytes) });
  }
  return blocks;
}

/** The same of a packed weight, each block being one, too. */
export function packedBlocks(weight: PackedWeight): { first: number; count: number; rows: PackedWeight }[] {
  const rows = weight.shape[0];
  if (!isLarge(weight)) return [{ first: 0, count: rows, rows: weight }];
  const most = rowsPerBinding(memorySize(weight) / rows);
  return Array.from({ length: Math.ceil(rows / most) }, (_, i) => {
    const first = i * most;
    const count = Math.min(most, rows - first);
    return { first, count, rows: weight.rows(first, count) };
  });
}
