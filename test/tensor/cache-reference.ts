/** Attention to a cache in float64. */

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
