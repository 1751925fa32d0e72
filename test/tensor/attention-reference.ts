import { type AttentionOptions, attention, backward, packing, scale, scope, tensor } from "webrlhf";
import type { AttentionVariant } from "../../src/gpu/variants.ts";
import { empty, recordMany } from "../../src/tensor/core.ts";
import { rotatedAttention } from "../../src/tensor/ops/rotated-attention.ts";
import { expectClose } from "../helpers.ts";
import { halves, values } from "./check.ts";

export interface AttentionCase {
  lengths: number[];
  starts: number[];
  rows: number;
  heads: number;
  kvHeads: number;
  headDim: number;
  scale?: number;
  /** Scores s become softcap * tanh(s / softcap). */
  softcap?: number;
  /** Rows see this many rows, themselves included. */
  window?: number;
  /** The last rows of each sequence that no row sees. */
  pads?: number[];
  /** Pairs of columns of queries and keys that turn with the position. */
  pairs?: number;
}

/** Causal attention over packed sequences and its gradient, row by row in float64. */
export function attentionReference(qkv: ArrayLike<number>, dout: ArrayLike<number>, c: AttentionCase) {
  const { heads: H, kvHeads: K, headDim: D } = c;
  const scale = c.scale ?? 1 / Math.sqrt(D);
  const W = (H + 2 * K) * D;
  const out = new Float64Array(c.rows * H * D);
  const dqkv = new Float64Array(c.rows * W);
  const stats = new Float64Array(c.rows * H);
  c.lengths.forEach((length, s) => {
    for (let h = 0; h < H; h++) {
      const kv = Math.floor(h / (H / K));
      const query = (row: number) => row * W + h * D;
      const key = (row: number) => row * W + (H + kv) * D;
      const value = (row: number) => row * W + (H + K + kv) * D;
      for (let r = c.starts[s]; r < c.starts[s] + length; r++) {
        const first = Math.max(c.starts[s], r + 1 - (c.window ?? Number.POSITIVE_INFINITY));
        const real = c.starts[s] + length - (c.pads?.[s] ?? 0);
        const seen = Array.from({ length: Math.max(0, Math.min(r + 1, real) - first) }, (_, i) => first + i);
        const at = (r * H + h) * D;
        const dot = (a: ArrayLike<number>, i: number, j: number) => {
          let sum = 0;
          for (let d = 0; d < D; d++) sum += a[i + d] * qkv[j + d];
          return sum;
        };
        const raw = seen.map((j) => scale * dot(qkv, query(r), key(j)));
        const cap = c.softcap;
        const scores = cap ? raw.map((x) => cap * Math.tanh(x / cap)) : raw;
        const slopes = cap ? scores.map((x) => 1 - (x / cap) ** 2) : scores.map(() => 1);
        const max = Math.max(...scores);
        const total = scores.reduce((sum, x) => sum + Math.exp(x - max), 0);
        stats[r * H + h] = max + Math.log(total);
        const p = scores.map((x) => Math.exp(x - max) / total);
        seen.forEach((j, i) => {
          for (let d = 0; d < D; d++) out[at + d] += p[i] * qkv[value(j) + d];
        });
        const dp = seen.map((j) => dot(dout, at, value(j)));
        const delta = p.reduce((sum, x, i) => sum + x * dp[i], 0);
        seen.forEach((j, i) => {
          const ds = p[i] * (dp[i] - delta) * slopes[i] * scale;
          for (let d = 0; d < D; d++) {
            dqkv[query(r) + d] += ds * qkv[key(j) + d];
            dqkv[key(j) + d] += ds * qkv[query(r) + d];
            dqkv[value(j) + d] += p[i] * dout[at + d];
          }
        });
      }
    }
  });
  return { out, dqkv, stats };
}

/** Speeds and factor of a test's rotation. */
const turning = (pairs: number) => ({
  frequencies: Float32Array.from({ length: pairs }, (_, i) => 0.9 / (i + 1)),
  magnitude: 1.25,
});

/** Rows with their queries and keys turned by their positions, or back. */
function turned(qkv: ArrayLike<number>, c: AttentionCase, sign: number): Float64Array {
  const { heads, kvHeads, headDim, pairs = 0 } = c;
  const { frequencies, magnitude } = turning(pairs);
  const out = Float64Array.from(qkv);
  c.lengths.forEach((length, s) => {
    for (let p = 0; p < length; p++) {
      for (let h = 0; h < heads + kvHeads; h++) {
        const at = ((c.starts[s] + p) * (heads + 2 * kvHeads) + h) * headDim;
        for (let i = 0; i < pairs; i++) {
          const [co, si] = [Math.cos(p * frequencies[i]), sign * Math.sin(p * frequencies[i])].map(
            (x) => x * magnitude,
          );
          const [a, b] = [out[at + i], out[at + i + pairs]];
          out[at + i] = a * co - b * si;
          out[at + i + pairs] = b * co + a * si;
        }
      }
    }
  });
  return out;
}

/** The reference with turned queries and keys, back to before the turn. */
function reference(qkv: Float32Array, dout: Float32Array, c: AttentionCase) {
  if (!c.pairs) return attentionReference(qkv, dout, c);
  const { out, dqkv } = attentionReference(turned(qkv, c, 1), dout, c);
  return { out, dqkv: turned(dqkv, c, -1) };
}

/** Holds attention and its gradient, in this variant or the adapter's own, against the reference. */
export async function checkAttention(
  c: AttentionCase,
  seed: number,
  variant?: AttentionVariant,
  dtype: "f32" | "f16" = "f32",
): Promise<void> {
  const { heads, kvHeads, headDim, rows } = c;
  const width = (heads + 2 * kvHeads) * headDim;
  const round = dtype === "f16" ? halves : (data: Float32Array) => data;
  const qkv = round(values(rows * width, seed, 2));
  const dout = round(values(rows * heads * headDim, seed + 1));
  const p = { starts: c.starts, rows, pads: c.pads };
  const { scale: factor, softcap, window } = c;
  const options = { heads, kvHeads, headDim, scale: factor, softcap, window, variant };
  const { out, dqkv } = await gradientsOf(qkv, dout, c.lengths, options, { ...p, dtype, pairs: c.pairs });
  const exact = reference(qkv, dout, c);
  const label = `${variant ?? "default"} ${dtype} ${JSON.stringify(c)}`;
  const [rtol, gradRtol] = dtype === "f16" ? [1e-3, 2e-3] : [2e-6, 5e-6];
  expectClose(out, exact.out, rtol, 1e-7, `output, ${label}`);
  expectClose(dqkv, exact.dqkv, gradRtol, 1e-7, `gradient, ${label}`);
}

/** What attention and its gradient give. */
export async function gradientsOf(
  qkv: Float32Array,
  dout: Float32Array,
  lengths: number[],
  options: AttentionOptions,
  more: Partial<Pick<AttentionCase, "starts" | "rows" | "pads" | "pairs">> & { dtype?: "f32" | "f16" } = {},
): Promise<{ out: Float32Array; dqkv: Float32Array }> {
  const { heads, kvHeads, headDim } = options;
  const { pairs, dtype = "f16" } = more;
  const shape = [qkv.length / ((heads + 2 * kvHeads) * headDim), (heads + 2 * kvHeads) * headDim];
  const { out, dqkv } = scope(() => {
    const x = tensor(qkv, shape, dtype);
    x.requiresGrad = true;
    x.grad = tensor(new Float32Array(qkv.length), shape, dtype);
    const p = packing(lengths, more.starts, more.rows, more.pads);
    const y = pairs
      ? rotatedAttention(scale(x, 1), p, { ...options, ...turning(pairs) }) // a copy, which may be turned in place
      : attention(x, p, options);
    const copy = y.alias(y.shape, "copy");
    const loss = empty([1]);
    recordMany("loss", [y], [loss], () => [tensor(dout, y.shape, dtype)]);
    backward(loss);
    return { out: copy, dqkv: x.grad };
  });
  const read = { out: (await out.read()) as Float32Array, dqkv: (await dqkv.read()) as Float32Array };
  for (const t of [out, dqkv]) t.free("test");
  return read;
}
