/** Causal attention over packed sequences in float64, as it is defined: what kernels are held against. */

/**
 * @param qkv [rows, (heads + 2 kvHeads) * headDim], the rows of the sequences one after another
 * @param lengths of the sequences
 * @returns [rows, heads * headDim]
 */
export function attentionInFloat64(
  qkv: ArrayLike<number>,
  lengths: readonly number[],
  { heads, kvHeads, headDim: d }: { heads: number; kvHeads: number; headDim: number },
): Float64Array {
  const width = (heads + 2 * kvHeads) * d;
  const rows = lengths.reduce((a, b) => a + b, 0);
  const out = new Float64Array(rows * heads * d);
  const at = (row: number, head: number) => row * width + head * d;
  let first = 0;
  for (const length of lengths) {
    for (let row = first; row < first + length; row++) {
      for (let head = 0; head < heads; head++) {
        const kv = Math.floor((head * kvHeads) / heads);
        const scores = Array.from({ length: row - first + 1 }, (_, j) => {
          let dot = 0;
          for (let i = 0; i < d; i++) dot += qkv[at(row, head) + i] * qkv[at(first + j, heads + kv) + i];
          return dot / Math.sqrt(d);
        });
        const most = scores.reduce((a, b) => Math.max(a, b));
        const weights = scores.map((score) => Math.exp(score - most));
        const total = weights.reduce((a, b) => a + b);
        for (const [j, weight] of weights.entries()) {
          for (let i = 0; i < d; i++) {
            out[(row * heads + head) * d + i] += (weight / total) * qkv[at(first + j, heads + kvHeads + kv) + i];
          }
        }
      }
    }
    first += length;
  }
  return out;
}
