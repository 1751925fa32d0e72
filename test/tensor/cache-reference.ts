/** Attention to a cache in float64, and rows to decode with one. */
import { tensor } from "webrlhf";
import { values } from "./check.ts";

export interface Case {
  lengths: number[];
  capacity: number;
  heads: number;
  kvHeads: number;
  headDim: number;
  splits?: number | undefined;
  headsTogether?: number;
  window?: number;
  softcap?: number;
  scale?: number;
  /** The slot of each row; row b has slot b where there are none. */
  slots?: number[];
}

/** What a row makes of the keys that it sees; keys and values [slots, capacity, kvHeads * headDim]. */
export function expected(
  c: Case,
  qkv: ArrayLike<number>,
  keys: ArrayLike<number>,
  stored: ArrayLike<number>,
): Float64Array {
  const { heads, kvHeads, headDim: D, capacity, window, softcap } = c;
  const width = (heads + 2 * kvHeads) * D;
  const scale = c.scale ?? 1 / Math.sqrt(D);
  const out = new Float64Array(c.lengths.length * heads * D);
  for (const [b, length] of c.lengths.entries()) {
    const count = Math.min(length, capacity);
    const first = window ? Math.max(0, count - window) : 0;
    for (let h = 0; h < heads; h++) {
      const at = (j: number) =>
        (((c.slots?.[b] ?? b) * capacity + j) * kvHeads + Math.floor((h * kvHeads) / heads)) * D;
      const scores = Array.from({ length: count - first }, (_, i) => {
        let dot = 0;
        for (let d = 0; d < D; d++) dot += qkv[b * width + h * D + d] * keys[at(first + i) + d];
        return softcap ? softcap * Math.tanh((dot * scale) / softcap) : dot * scale;
      });
      const top = scores.reduce((x, y) => Math.max(x, y), -Infinity);
      const weights = scores.map((score) => Math.exp(score - top));
      const total = weights.reduce((x, y) => x + y, 0);
      for (const [i, weight] of weights.entries()) {
        for (let d = 0; d < D; d++) out[(b * heads + h) * D + d] += (weight / total) * stored[at(first + i) + d];
      }
    }
  }
  return out;
}

/** Heads that a GPU turns and attends to in one step. */
export interface DecodingShape {
  heads: number;
  kvHeads: number;
  headDim: number;
  /** Columns that turn, in pairs; all of them where it is absent. */
  pairs?: number;
  splits: number;
  window?: number;
  softcap?: number;
}

export const decodingShapes: [string, DecodingShape][] = [
  ["heads that share keys", { heads: 4, kvHeads: 2, headDim: 16, splits: 1 }],
  ["heads that share keys, in parts", { heads: 4, kvHeads: 2, headDim: 16, splits: 3 }],
  ["one head of keys, partly rotated", { heads: 3, kvHeads: 1, headDim: 24, pairs: 8, splits: 1 }],
  ["a window and a cap", { heads: 2, kvHeads: 2, headDim: 8, window: 5, softcap: 2, splits: 2 }],
];

/** Six rows that are decoded with a cache of as many slots: of the last two, one has left its slot and one stands beyond the cache. */
export function decodingRows({ pairs, splits: _, ...shape }: DecodingShape) {
  const frequencies = Float32Array.from({ length: pairs ?? shape.headDim / 2 }, (_, i) => 0.9 / (i + 1));
  const width = (shape.heads + 2 * shape.kvHeads) * shape.headDim;
  const ids = (list: number[]) => tensor(Uint32Array.from(list));
  return {
    options: { ...shape, frequencies },
    width,
    capacity: 140,
    qkv: tensor(values(6 * width, 5, 2), [6, width]),
    positions: ids([0, 3, 64, 130, 2, 140]),
    lengths: ids([1, 4, 65, 131, 3, 141]),
    slots: ids([0, 1, 2, 3, 9, 5]),
  };
}
