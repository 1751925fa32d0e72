/**
 * Packed sequences. There is no padding inside models: a batch is N token rows, sequences one after the other, and
 * attention looks back to the start of its own sequence. Padded layouts are the same thing with explicit starts.
 */
import { type Tensor, tensorGroup } from "./core.ts";

/** Rows per attention block: 16 for kernels of CPU adapters, 64 for those of GPUs. */
const blockSizes = [16, 64] as const;
export type BlockSize = (typeof blockSizes)[number];

/** Blocks of consecutive rows of one segment: u32 [count, 4] = first row, end row, segment start, segment end. */
export interface BlockTable {
  readonly count: number;
  readonly table: Tensor;
}

/** A batch of sequences laid out row after row, with the tables that attention and positions need; made by `packing()`. */
export interface Packing {
  /** Token rows N, including rows that belong to no sequence. */
  readonly rows: number;
  readonly lengths: readonly number[];
  /** First row of each sequence. */
  readonly starts: readonly number[];
  /** Longest sequence. */
  readonly maxLength: number;
  /** Pairs of rows (query, key) that attention visits per head. */
  readonly pairs: number;
  /** u32 [N]: index of the row inside its sequence, 0 outside of any. */
  readonly positions: Tensor;
  /**
   * The same on the host, for the gradient of learned positions.
   * @internal
   */
  readonly hostPositions: Uint32Array;
  /**
   * The work list of attention kernels, by block size. Rows outside of any sequence are blocks of empty segments.
   * @internal
   */
  readonly blocks: Readonly<Record<BlockSize, BlockTable>>;
}

/**
 * Describes a batch of sequences to the ops that mix token rows. Made once per batch; its tables follow the scope rule
 * like any tensor.
 * @param lengths tokens of each sequence (0 is allowed)
 * @param starts first row of each; default: one after the other from row 0. Must be ascending and not overlap.
 * @param rows N; default: the end of the last sequence
 * @param pads how many of each sequence's last rows are padding: they see the sequence's other rows, and no row sees them,
 *   as where a model is given an attention mask with zeros at the end; default: none
 */
export function packing(
  lengths: readonly number[],
  starts?: readonly number[],
  rows?: number,
  pads?: readonly number[],
): Packing {
  const firsts = starts ?? prefixSums(lengths);
  if (firsts.length !== lengths.length) throw new Error(`packing: ${lengths.length} lengths, ${firsts.length} starts`);
  let end = 0;
  lengths.forEach((length, i) => {
    if (!Number.isInteger(length) || length < 0) throw new Error(`packing: length ${length} of sequence ${i}`);
    if (!Number.isInteger(firsts[i]) || firsts[i] < end) {
      throw new Error(`packing: sequence ${i} starts at row ${firsts[i]}, but row ${end} is the first free one`);
    }
    end = firsts[i] + length;
  });
  const total = rows ?? end;
  if (total < end) throw new Error(`packing: ${total} rows, but the last sequence ends at row ${end}`);

  const positions = new Uint32Array(total);
  const lists = blockSizes.map((): number[] => []);
  const cover = (first: number, last: number, start: number, segmentEnd: number): void => {
    blockSizes.forEach((size, k) => {
      for (let r = first; r < last; r += size) {
        const end = Math.min(r + size, last);
        // An empty segment sits at its own block, so that no loop over it starts.
        lists[k].push(r, end, segmentEnd > start ? start : r, segmentEnd > start ? segmentEnd : r);
      }
    });
  };
  let at = 0;
  let pairs = 0;
  lengths.forEach((length, i) => {
    const first = firsts[i];
    const pad = pads?.[i] ?? 0;
    if (pad < 0 || pad > length) throw new Error(`packing: ${pad} of ${length} rows of sequence ${i} are padding`);
    const real = first + length - pad;
    cover(at, first, at, at);
    // As queries, a sequence's own rows see their keys up to themselves; as keys, all queries to the end see them.
    cover(first, real, first, first + length);
    cover(real, first + length, first, real);
    for (let p = 0; p < length; p++) {
      positions[first + p] = p;
    }
    at = first + length;
    pairs += (length * (length + 1)) / 2;
  });
  cover(at, total, at, at);

  const [gpuPositions, ...tables] = tensorGroup([
    { data: positions },
    ...lists.map((list) => ({ data: Uint32Array.from(list), shape: [list.length / 4, 4] })),
  ]);
  const blocks = {} as Record<BlockSize, BlockTable>;
  blockSizes.forEach((size, k) => {
    blocks[size] = { count: lists[k].length / 4, table: tables[k] };
  });
  return {
    rows: total,
    lengths,
    starts: firsts,
    maxLength: lengths.reduce((a, b) => Math.max(a, b), 0),
    pairs,
    positions: gpuPositions,
    hostPositions: positions,
    blocks,
  };
}

function prefixSums(lengths: readonly number[]): number[] {
  let at = 0;
  return lengths.map((length) => {
    at += length;
    return at - length;
  });
}
