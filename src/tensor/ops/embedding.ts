/** Row gather (embedding tables, selecting token rows) with a deterministic gradient. */
import type { BufferView } from "../../gpu/pool.ts";
import { GATHER_ROWS, SEGMENT_SUM } from "../../shaders/embedding.wgsl.ts";
import { empty, record, scope, Tensor, tensor } from "../core.ts";
import type { Weight } from "../quantized.ts";
import { fill } from "../raw.ts";
import { rowBlocks } from "./row-blocks.ts";
import { matrixShape, rowKernel, runRows, walkPlan } from "./rows.ts";

const gather = rowKernel({
  name: "gather_rows",
  code: GATHER_ROWS,
  bindings: { table: "read V", ids: "read u32", y: "write V" },
  scalars: { rows: "u32", n: "u32", tableRows: "u32", base: "u32" },
  reduces: false,
});
const segmentSum = rowKernel({
  name: "segment_sum",
  code: SEGMENT_SUM,
  bindings: { dy: "read V", lists: "read u32", dx: "write V" },
  scalars: { segments: "u32", n: "u32", targets: "u32", order: "u32" },
  reduces: false,
});

/**
 * Rows of a table: y[i] = table[ids[i]].
 * @param table [V, D]; a quantized weight is unpacked row by row
 * @param ids u32 [N]
 * @param hostIds the same ids on the host, needed when the table is trained: the gradient adds, for each id, the rows of
 *   dy at the id's positions in a fixed order, and the lists of positions are made on the host
 * @returns [N, D]
 */
export function embedding(table: Weight, ids: Tensor, hostIds?: ArrayLike<number>): Tensor {
  return gatherOp("embedding", table, ids, hostIds);
}

/** Rows idx of x: y[i] = x[idx[i]], x [N, D], idx u32 [M]; `hostIdx` as in `embedding`. */
export function gatherRows(x: Weight, idx: Tensor, hostIdx?: ArrayLike<number>): Tensor {
  return gatherOp("gatherRows", x, idx, hostIdx);
}

function gatherOp(op: string, table: Weight, ids: Tensor, hostIds?: ArrayLike<number>): Tensor {
  const [tableRows, cols] = matrixShape(table.shape);
  if (ids.dtype !== "u32") throw new Error(`${op}: ids must be u32, not ${ids.dtype}`);
  if (hostIds) checkIds(op, hostIds, ids.size, tableRows);
  if (!(table instanceof Tensor)) return table.gather(ids);
  const plan = walkPlan(cols);
  const T = table.dtype;
  const n = cols / plan.width;
  const y = empty([ids.size, cols], table.dtype);
  for (const { first, count, view } of rowBlocks(table)) {
    const consts = { T, LAST: first + count === tableRows };
    runRows(gather, plan, consts, [view, ids.view, y.view], [ids.size, n, count, first], ids.size);
  }
  return record(op, [table], y, (dy, [sink]) => {
    if (sink === false) return [null];
    if (!hostIds) throw new Error(`${op}: the gradient needs the ids on the host; pass them as the third argument`);
    const dx = sink === true ? fill(empty(table.shape, table.dtype, op), 0) : sink;
    scope(() => addSegments(dy, positionLists(hostIds, tableRows), dx, cols));
    return [dx];
  });
}

/** For each id that occurs, where it occurs. */
interface PositionLists {
  /** The ids that occur, ascending. */
  ids: Uint32Array;
  /** starts[k] .. starts[k + 1] - 1 index `order`. */
  starts: Uint32Array;
  /** Positions sorted by id, then by position. */
  order: Uint32Array;
}

/** Counting sort of positions by id. */
export function positionLists(hostIds: ArrayLike<number>, tableRows: number): PositionLists {
  const count = new Uint32Array(tableRows);
  let different = 0;
  for (let i = 0; i < hostIds.length; i++) if (count[hostIds[i]]++ === 0) different += 1;
  const ids = new Uint32Array(different);
  const starts = new Uint32Array(different + 1);
  for (let id = 0, k = 0, end = 0; k < different; id++) {
    if (count[id] === 0) continue;
    const first = end;
    end += count[id];
    count[id] = first; // from here on: where the next position of this id goes
    ids[k] = id;
    starts[++k] = end;
  }
  const order = new Uint32Array(hostIds.length);
  for (let i = 0; i < hostIds.length; i++) order[count[hostIds[i]]++] = i;
  return { ids, starts, order };
}

const PIECE = 128; // rows one invocation adds up before the work of a frequent id is split

/** dx[ids[k]] += sum of the rows of dy at the positions of segment k. */
function addSegments(dy: Tensor, { ids, starts, order }: PositionLists, dx: Tensor, cols: number): void {
  let longest = 0;
  for (let k = 0; k < ids.length; k++) longest = Math.max(longest, starts[k + 1] - starts[k]);
  if (longest <= 2 * PIECE) {
    sumIntoTable(dy, ids, starts, order, dx, cols);
    return;
  }
  // Frequent ids: pieces in parallel, then the pieces of each id in order.
  const pieceStarts: number[] = [0];
  const idStarts: number[] = [0];
  for (let k = 0; k < ids.length; k++) {
    for (let p = starts[k]; p < starts[k + 1]; p += PIECE) pieceStarts.push(Math.min(p + PIECE, starts[k + 1]));
    idStarts.push(pieceStarts.length - 1);
  }
  const pieces = pieceStarts.length - 1;
  const partial = empty([pieces, cols], dy.dtype);
  const straight = Uint32Array.from({ length: pieces }, (_, i) => i);
  sumInto(dy, straight, new Uint32Array(pieceStarts), order, partial.view, false, cols);
  sumIntoTable(partial, ids, new Uint32Array(idStarts), straight, dx, cols);
}

/** Adds the sum of each segment to the row of its id, block by block of the table. */
function sumIntoTable(
  source: Tensor,
  ids: Uint32Array,
  starts: Uint32Array,
  order: Uint32Array,
  table: Tensor,
  cols: number,
): void {
  let from = 0;
  for (const { first, count, view } of rowBlocks(table)) {
    let to = from;
    while (to < ids.length && ids[to] < first + count) to += 1;
    if (to === from) continue;
    const rows = ids.subarray(from, to);
    sumInto(
      source,
      first === 0 ? rows : rows.map((id) => id - first),
      starts.subarray(from, to + 1),
      order,
      view,
      true,
      cols,
    );
    from = to;
  }
}

function sumInto(
  source: Tensor,
  targets: Uint32Array,
  starts: Uint32Array,
  order: Uint32Array,
  dx: BufferView,
  ACC: boolean,
  cols: number,
): void {
  const segments = targets.length;
  const lists = new Uint32Array(starts.length + segments + order.length);
  lists.set(starts);
  lists.set(targets, starts.length);
  lists.set(order, starts.length + segments);
  const plan = walkPlan(cols);
  const scalars = [segments, cols / plan.width, starts.length, starts.length + segments];
  const consts = { T: source.dtype, ACC };
  runRows(segmentSum, plan, consts, [source.view, tensor(lists).view, dx], scalars, segments);
}

function checkIds(op: string, ids: ArrayLike<number>, count: number, tableRows: number): void {
  if (ids.length !== count) throw new Error(`${op}: ${count} ids on the GPU but ${ids.length} on the host`);
  for (let i = 0; i < ids.length; i++) {
    if (!(ids[i] < tableRows)) throw new Error(`${op}: id ${ids[i]} at position ${i}, the table has ${tableRows} rows`);
  }
}
