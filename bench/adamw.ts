/** The fused optimizer step: gradient norm, clipping and AdamW over flat stores, bound by memory. */
import { backward, finish, mul, Parameter, ParameterStore, scope, sum, tensor } from "webrlhf";
import { noise } from "webrlhf/day";
import { AdamW } from "webrlhf/nn";
import { type Case, difference, gpuArm } from "./harness.ts";

const LR = 1e-3;
const options = { betas: [0.9, 0.999] as const, eps: 1e-8, weightDecay: 0.01, maxGradNorm: 1 };

/** AdamW reads four arrays and writes three, the norm reads the gradients once more, and they are zeroed: 36 bytes each. */
export function adamwCase(size: number): Case {
  const paramData = noise(size, 7);
  const gradData = noise(size, 8);
  return {
    name: `AdamW with clipping, ${size / 2 ** 20}M`,
    unit: "GB/s",
    work: 36 * size,
    tolerance: 1e-3,
    // In units of the learning rate, because the change is small beside the values.
    error(result) {
      const change = (values: ArrayLike<number>) => Float64Array.from(paramData, (p, i) => (values[i] - p) / LR);
      return difference(change(result), change(reference(paramData, gradData)));
    },
    async arms() {
      const parameter = new Parameter([size / 1024, 1024], { constant: 0 });
      const store = new ParameterStore([parameter], "bench parameters");
      const optimizer = new AdamW(store, options);
      const grads = tensor(gradData, parameter.shape);
      parameter.value.write(paramData);
      return [
        gpuArm("webrlhf", {
          // With gradients of zero: the same memory goes through the GPU as with others.
          enqueue: () => optimizer.step(LR),
          wait: finish,
          async result() {
            scope(() => backward(sum(mul(parameter.value, grads))));
            optimizer.step(LR);
            return parameter.value.read();
          },
          dispose() {
            optimizer.destroy();
            store.destroy();
            grads.free("the bench");
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
  const clip = Math.min(1, options.maxGradNorm / (Math.sqrt(squares) + 1e-6));
  return Float64Array.from(params, (p, i) => {
    const g = grads[i] * clip;
    return p * (1 - LR * options.weightDecay) - (LR * g) / (Math.abs(g) + options.eps);
  });
}
