/** `linear` for a weight that is larger than one binding, in blocks of its rows: the head of a large vocabulary. */
import { subview } from "../../gpu/pool.ts";
import { copy } from "../../gpu/stream.ts";
import { empty, record, type Shape, scope, type Tensor } from "../core.ts";
import { trainable, type Weight } from "../quantized.ts";
import { gemm } from "./gemm.ts";
import { rowBlocks, weightBlocks } from "./row-blocks.ts";
import { target } from "./rows.ts";

/** y = x W^T, f32, for x [N, in] and W [out, in]; `shape` is y's. */
export function largeLinear(x: Tensor, weight: Weight, shape: Shape): Tensor {
  const [outSize, inSize] = weight.shape;
  const rows = x.size / inSize;
  const blocks = weightBlocks(weight);
  const y = empty(shape, "f32", "linear");
  scope(() => {
    for (const block of blocks) {
      const { first, count } = block;
      const part = rows === 1 ? subview(y.view, first * 4, count * 4) : empty([rows, count], "f32", "linear").view;
      gemm(x, block.rows, "NT", [rows, count, inSize], { out: part });
      if (rows > 1) forEachRow(rows, block, outSize, (at, bytes, row) => copy(part, y.view, bytes, row, at));
    }
  });
  return record("linear", [x, ...trainable(weight)], y, (dy, [sinkX, sinkW = false]) => {
    const dx = target(sinkX, x.shape, x.dtype);
    const dw = target(sinkW, weight.shape);
    const sinks = dw && rowBlocks(dw);
    scope(() => {
      blocks.forEach((block, i) => {
        const { first, count } = block;
        const part = empty([rows, count], "f32", "linear").view;
        forEachRow(rows, block, outSize, (at, bytes, row) => copy(dy.view, part, bytes, at, row));
        if (dx) {
          const accumulate = sinkX !== true || first > 0;
          gemm(part, block.rows, "NN", [rows, inSize, count], { out: dx, accumulate });
        }
        if (sinks) gemm(part, x, "TN", [count, inSize, rows], { out: sinks[i].view, accumulate: sinkW !== true });
      });
    });
    return [dx, dw];
  });
}

/** Where a row of a block stands in the whole, its length, and where it stands in the block, in bytes. */
function forEachRow(
  rows: number,
  { first, count }: { first: number; count: number },
  columns: number,
  visit: (at: number, bytes: number, row: number) => void,
): void {
  for (let r = 0; r < rows; r++) visit((r * columns + first) * 4, count * 4, r * count * 4);
}
