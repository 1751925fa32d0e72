/** The fused optimizer step: gradient norm, clipping and AdamW over flat stores, bound by memory. */

import { createBuffer } from "../../../gpu/pool.ts";
import { destroyBuffers, download, finish, upload } from "../../../gpu/stream.ts";
import { adamwStep, decideStep, optimizerControl } from "../../../tensor/ops/adamw.ts";
import { type Case, difference, gpuArm, noise } from "./harness.ts";

const options = { lr: 1e-3, betas: [0.9, 0.999] as const, eps: 1e-8, weightDecay: 0.01 };
const maxNorm = 1;

/** AdamW reads four arrays and writes three, and the norm reads the gradients once more: 32 bytes per parameter. */
export function adamwCase(size: number): Case {
  const paramData = noise(size, 7);
  const gradData = noise(size, 8);
  return {
    name: `AdamW with clipping, ${size / 2 ** 20}M`,
    unit: "GB/s",
    work: 32 * size,
    tolerance: 1e-3,
    // In units of the learning rate, because the change is small beside the values.
    error(result) {
      const change = (values: ArrayLike<number>) =>
        Float64Array.from(paramData, (p, i) => (values[i] - p) / options.lr);
      return difference(change(result), change(reference(paramData, gradData)));
    },
    async arms() {
      const [params, grads, m, v] = ["params", "grads", "m", "v"].map((what) =>
        createBuffer(size * 4, `bench ${what}`),
      );
      const control = optimizerControl();
      upload(params, paramData);
      upload(grads, gradData);
      for (const moment of [m, v]) upload(moment, new Float32Array(size));
      const step = () => {
        decideStep([{ view: grads, size }], control, { maxNorm });
        adamwStep({ params, grads, m, v, size }, control, options);
      };
      return [
        gpuArm("webrlhf", {
          enqueue: step,
          wait: finish,
          async result() {
            step();
            return new Float32Array(await download(params, size * 4));
          },
          dispose() {
            control.free("the bench");
            destroyBuffers([params, grads, m, v]);
          },
        }),
      ];
    },
  };
}

/** The first step: both moments start at zero, so their bias corrections cancel the betas. */
function reference(params: Float32Array, grads: Float32Array): Float64Array {
  let squares = 0;
  for (const g of grads) squares += g * g;
  const clip = Math.min(1, maxNorm / (Math.sqrt(squares) + 1e-6));
  return Float64Array.from(params, (p, i) => {
    const g = grads[i] * clip;
    return p * (1 - options.lr * options.weightDecay) - (options.lr * g) / (Math.abs(g) + options.eps);
  });
}
