/** Causal attention over packed sequences in float64, as it is defined: what kernels are held against. */

interface Heads {
  heads: number;
  kvHeads: number;
  headDim: number;
}

/** A query: its weights of the keys from row `first` on, and where its head's vectors are in a row's columns. */
interface Query {
  row: number;
  head: number;
  first: number;
  weights: number[];
  query: number;
  key: number;
  value: number;
}

const widthOf = ({ heads, kvHeads, headDim }: Heads): number => (heads + 2 * kvHeads) * headDim;

function visit(qkv: ArrayLike<number>, lengths: readonly number[], shape: Heads, each: (query: Query) => void): void {
  const { heads, kvHeads, headDim: d } = shape;
  const width = widthOf(shape);
  let first = 0;
  for (const length of lengths) {
    for (let row = first; row < first + length; row++) {
      for (let head = 0; head < heads; head++) {
        const kv = Math.floor((head * kvHeads) / heads);
        const [query, key, value] = [head * d, (heads + kv) * d, (heads + kvHeads + kv) * d];
        const scores = Array.from({ length: row - first + 1 }, (_, j) => {
          let dot = 0;
          for (let i = 0; i < d; i++) dot += qkv[row * width + query + i] * qkv[(first + j) * width + key + i];
          return dot / Math.sqrt(d);
        });
        const most = scores.reduce((a, b) => Math.max(a, b));
        const exponentials = scores.map((score) => Math.exp(score - most));
        const total = exponentials.reduce((a, b) => a + b);
        each({ row, head, first, weights: exponentials.map((e) => e / total), query, key, value });
      }
    }
    first += length;
  }
}

/**
 * @param qkv [rows, (heads + 2 kvHeads) * headDim], the rows of the sequences one after another
 * @param lengths of the sequences
 * @returns [rows, heads * headDim]
 */
export function attentionInFloat64(qkv: ArrayLike<number>, lengths: readonly number[], shape: Heads): Float64Array {
  const { heads, headDim: d } = shape;
  const width = widthOf(shape);
  const rows = lengths.reduce((a, b) => a + b, 0);
  const out = new Float64Array(rows * heads * d);
  visit(qkv, lengths, shape, ({ row, head, first, weights, value }) => {
    for (const [j, weight] of weights.entries()) {
      for (let i = 0; i < d; i++) out[(row * heads + head) * d + i] += weight * qkv[(first + j) * width + value + i];
    }
  });
  return out;
}

/**
 * The gradient of `attentionInFloat64`.
 * @param dout [rows, heads * headDim]
 * @returns as qkv
 */
export function attentionGradientInFloat64(
  qkv: ArrayLike<number>,
  dout: ArrayLike<number>,
  lengths: readonly number[],
  shape: Heads,
): Float64Array {
  const { heads, headDim: d } = shape;
  const width = widthOf(shape);
  const dqkv = new Float64Array(qkv.length);
  visit(qkv, lengths, shape, ({ row, head, first, weights, query, key, value }) => {
    const at = (row * heads + head) * d;
    const mine = row * width + query;
    const slopes = weights.map((_, j) => {
      let dot = 0;
      for (let i = 0; i < d; i++) dot += dout[at + i] * qkv[(first + j) * width + value + i];
      return dot;
    });
    const mean = weights.reduce((sum, weight, j) => sum + weight * slopes[j], 0);
    for (const [j, weight] of weights.entries()) {
      const other = (first + j) * width;
      const ds = (weight * (slopes[j] - mean)) / Math.sqrt(d);
      for (let i = 0; i < d; i++) {
        dqkv[mine + i] += ds * qkv[other + key + i];
        dqkv[other + key + i] += ds * qkv[mine + i];
        dqkv[other + value + i] += weight * dout[at + i];
      }
    }
  });
  return dqkv;
}
