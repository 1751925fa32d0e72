/** tokenLogProbs forward and backward, against sums in float64. */
import { backward, finish, scope, sum, tensor, tokenLogProbs, zeros } from "webrlhf";
import { noise } from "webrlhf/day";
import { type Case, difference, gpuArm } from "./harness.ts";

/** Counts the three products nobody can avoid: logits, gradient of hidden, gradient of head. */
export function tokenLogProbsCase(rows: number, width: number, vocabulary: number): Case {
  const hiddenData = noise(rows * width, 5);
  const headData = noise(vocabulary * width, 6).map((x) => x * 0.2);
  const targetData = Uint32Array.from({ length: rows }, (_, i) => (i * 7919) % vocabulary);
  return {
    name: `tokenLogProbs ${rows}x${width} V=${vocabulary} fwd+bwd`,
    unit: "GFLOP/s",
    work: 6 * rows * width * vocabulary,
    tolerance: 1e-4,
    error: (result) => difference(result, reference(hiddenData, headData, targetData, width)),
    async arms() {
      const hidden = tensor(hiddenData, [rows, width]);
      const head = tensor(headData, [vocabulary, width]);
      const targets = tensor(targetData);
      for (const t of [hidden, head]) {
        t.requiresGrad = true;
        t.grad = zeros(t.shape);
      }
      const step = () => scope(() => backward(sum(tokenLogProbs(hidden, head, targets).logProbs)));
      return [
        gpuArm("webrlhf", {
          enqueue: step,
          wait: finish,
          async result() {
            step();
            return hidden.grad!.read();
          },
          dispose() {
            for (const t of [hidden, head, targets, hidden.grad, head.grad]) t?.free("the bench");
          },
        }),
      ];
    },
  };
}

/** d(sum of log-probabilities)/d(hidden): the target's head row minus the probability-weighted mean of all rows. */
function reference(hidden: Float32Array, head: Float32Array, targets: Uint32Array, width: number): Float64Array {
  const rows = targets.length;
  const vocabulary = head.length / width;
  const gradient = new Float64Array(rows * width);
  const logits = new Float64Array(vocabulary);
  for (let r = 0; r < rows; r++) {
    let largest = Number.NEGATIVE_INFINITY;
    for (let v = 0; v < vocabulary; v++) {
      let dot = 0;
      for (let d = 0; d < width; d++) dot += hidden[r * width + d] * head[v * width + d];
      logits[v] = dot;
      if (dot > largest) largest = dot;
    }
    let total = 0;
    for (let v = 0; v < vocabulary; v++) total += logits[v] = Math.exp(logits[v] - largest);
    for (let v = 0; v < vocabulary; v++) {
      const weight = (v === targets[r] ? 1 : 0) - logits[v] / total;
      for (let d = 0; d < width; d++) gradient[r * width + d] += weight * head[v * width + d];
    }
  }
  return gradient;
}
