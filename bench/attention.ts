/** Fused causal attention, forward and backward, against sums in float64. */
import { attention, backward, cast, finish, mul, packing, scope, sum, tensor } from "webrlhf";
import { noise } from "webrlhf/day";
import { type Case, difference, gpuArm } from "./harness.ts";

export interface AttentionShape {
  readonly sequences: number;
  readonly length: number;
  readonly heads: number;
  readonly headDim: number;
}

/** A forward pass is two products over the lower triangle; the backward pass is five, the scores recomputed. */
export function attentionCase(
  shape: AttentionShape,
  pass: "forward" | "forward+backward",
  type: "f32" | "f16" = "f32",
): Case {
  const { sequences, length, heads, headDim } = shape;
  const rows = sequences * length;
  const width = heads * headDim;
  const qkvData = noise(rows * 3 * width, 3);
  const dyData = noise(rows * width, 4);
  const products = pass === "forward" ? 2 : 7;
  return {
    name: `attention ${sequences}x${length} h${heads} d${headDim} ${pass === "forward" ? "fwd" : "fwd+bwd"}${type === "f16" ? " f16" : ""}`,
    unit: "GFLOP/s",
    work: products * sequences * heads * headDim * length * length,
    tolerance: type === "f16" ? 4e-3 : 1e-4, // in f16, operands and results are rounded
    error(result) {
      const expected = reference(shape, qkvData, dyData);
      return difference(result, pass === "forward" ? expected.output : expected.gradient);
    },
    async arms() {
      const qkv = tensor(qkvData, [rows, 3 * width], type);
      const dy = tensor(dyData, [rows, width]);
      const packed = packing(new Array(sequences).fill(length));
      const options = { heads, kvHeads: heads, headDim, scale: 1 / Math.sqrt(headDim) };
      if (pass === "forward+backward") {
        qkv.requiresGrad = true;
        qkv.grad = tensor(new Float32Array(qkv.size), qkv.shape, type);
      }
      const forward = () => attention(qkv, packed, options);
      const both = () => scope(() => backward(sum(mul(cast(forward(), "f32"), dy))));
      const enqueue = pass === "forward" ? () => scope(() => void forward()) : both;
      return [
        gpuArm("webrlhf", {
          enqueue,
          wait: finish,
          async result() {
            if (pass === "forward") {
              const output = scope(forward);
              const values = await output.read();
              output.free("the bench");
              return values;
            }
            both();
            return qkv.grad!.read();
          },
          dispose() {
            for (const t of [qkv, dy, qkv.grad]) t?.free("the bench");
          },
        }),
      ];
    },
  };
}

/** softmax(q k^T / sqrt(d)) v per head with a causal mask, and its gradient for the output gradient `dy`. */
function reference({ sequences, length, heads, headDim }: AttentionShape, qkv: Float32Array, dy: Float32Array) {
  const width = heads * headDim;
  const stride = 3 * width;
  const scale = 1 / Math.sqrt(headDim);
  const output = new Float64Array(sequences * length * width);
  const gradient = new Float64Array(sequences * length * stride);
  const p = new Float64Array(length);
  const dp = new Float64Array(length);
  for (let s = 0; s < sequences; s++) {
    for (let h = 0; h < heads; h++) {
      for (let i = 0; i < length; i++) {
        const q = (s * length + i) * stride + h * headDim;
        const o = (s * length + i) * width + h * headDim;
        const key = (j: number) => (s * length + j) * stride + width + h * headDim;
        let largest = Number.NEGATIVE_INFINITY;
        for (let j = 0; j <= i; j++) {
          let dot = 0;
          for (let d = 0; d < headDim; d++) dot += qkv[q + d] * qkv[key(j) + d];
          p[j] = dot * scale;
          largest = Math.max(largest, p[j]);
        }
        let total = 0;
        for (let j = 0; j <= i; j++) total += p[j] = Math.exp(p[j] - largest);
        let delta = 0;
        for (let j = 0; j <= i; j++) {
          p[j] /= total;
          const v = key(j) + width;
          dp[j] = 0;
          for (let d = 0; d < headDim; d++) {
            output[o + d] += p[j] * qkv[v + d];
            gradient[v + d] += p[j] * dy[o + d];
            dp[j] += dy[o + d] * qkv[v + d];
          }
          delta += p[j] * dp[j];
        }
        for (let j = 0; j <= i; j++) {
          const ds = p[j] * (dp[j] - delta) * scale;
          for (let d = 0; d < headDim; d++) {
            gradient[q + d] += ds * qkv[key(j) + d];
            gradient[key(j) + d] += ds * qkv[q + d];
          }
        }
      }
    }
  }
  return { output, gradient };
}
