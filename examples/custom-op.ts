/**
 * An op of one's own, from its kernel to a network that learns with it: squareplus (Barron 2021, arXiv 2112.11687), a smooth
 * ReLU that needs no exponential: y = (x + sqrt(x^2 + b)) / 2. The kernel is WGSL; the rule of the gradient is made of ops.
 */

import * as ops from "webrlhf";
import { backward, checkGradient, defineOp, openDevice, ParameterStore, scope, type Tensor, tensor } from "webrlhf";
import { AdamW, Linear, Module } from "webrlhf/nn";

/** Smooth where ReLU has its corner; the larger b, the wider. */
export const squareplus = defineOp({
  name: "squareplus",
  kernel: {
    inputs: ["x"],
    params: { b: "f32" },
    // Left of zero the sum would cancel: there the formula is the same one, turned over.
    code: /* wgsl */ `
      fn value(i: u32) -> f32 {
        let root = sqrt(x[i] * x[i] + u.b);
        return select(0.5 * u.b / (root - x[i]), 0.5 * (x[i] + root), x[i] > 0.0);
      }`,
  },
  // dy/dx = y / sqrt(x^2 + b), and the root is 2 y - x.
  vjp: (dy, { inputs: [x], output: y }) => [ops.div(ops.mul(dy, y), ops.sub(ops.scale(y, 2), x))],
});

/** A network of one hidden layer with the op in its middle. */
class Network extends Module {
  readonly inner = new Linear(1, 16, { bias: true, std: 1 });
  readonly outer = new Linear(16, 1, { bias: true, std: 0.3 });

  forward(x: Tensor): Tensor {
    return this.outer.forward(squareplus(this.inner.forward(x), { b: 0.25 }));
  }
}

/** Checks the op and trains the network; gives the op's values, the gradient's error, and the losses. */
export async function main(log: (line: string) => void = console.log) {
  await openDevice();
  const x = tensor([-1000, -3, -0.5, 0, 0.5, 3, 1000]);
  const y = squareplus(x, { b: 4 });
  const values = [...(await y.read())];
  log(`squareplus at -3, 0, 3: ${[values[1], values[3], values[5]].map((v) => v.toFixed(4)).join(", ")}`);
  x.free();
  y.free();

  // Differences of the op's values stand against the rule; a wrong rule throws, and the error names the element.
  const points = tensor([-3, -1, -0.5, 0, 0.5, 1, 3]);
  const error = await checkGradient((x) => squareplus(x, { b: 1 }), [points]);
  log(`its gradient is right to ${error.toExponential(0)}`);
  points.free();

  // From here on it is an op like all others: here a network learns a sine with it.
  const network = new Network();
  const store = new ParameterStore(network.parameters(), "network").initialize(1);
  const optimizer = new AdamW(store);
  const places = Array.from({ length: 64 }, (_, i) => i / 32 - 1);
  const [inputs, goals] = [
    tensor(places, [64, 1]),
    tensor(
      places.map((p) => Math.sin(3 * p)),
      [64, 1],
    ),
  ];
  const losses: number[] = [];
  for (let step = 0; step < 200; step++) {
    const loss = scope(() => {
      const loss = ops.mean(ops.square(ops.sub(network.forward(inputs), goals)));
      backward(loss);
      optimizer.step(0.02);
      return loss;
    });
    if (step % 50 === 0 || step === 199) losses.push((await loss.read())[0]);
    loss.free();
  }
  log(`mean squared error: ${losses.map((loss) => loss.toFixed(4)).join(", ")}`);
  for (const t of [inputs, goals]) t.free();
  for (const thing of [optimizer, store]) thing.destroy();
  return { values, error, losses };
}
