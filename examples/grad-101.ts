/**
 * Gradients of plain tensors, without a model: a function gives one number, `grad` and `valueAndGrad` give its derivatives,
 * and gradient descent finds the line between two groups of points (logistic regression).
 */

import * as ops from "webrlhf";
import { checkGradient, grad, openDevice, scope, type Tensor, tensor, valueAndGrad } from "webrlhf";

/** Points in the plane, and on which side of the line 2x - y = 0.5 each is: 1 or -1. */
function somePoints(count: number): { points: number[]; sides: number[] } {
  const points = Array.from({ length: 2 * count }, (_, i) => Math.sin(1 + 12.9898 * i));
  const sides = Array.from({ length: count }, (_, i) => (2 * points[2 * i] - points[2 * i + 1] > 0.5 ? 1 : -1));
  return { points, sides };
}

/** Fits the line; gives the losses on the way, how many points are right, and the gradient's error. */
export async function main(log: (line: string) => void = console.log) {
  await openDevice();

  // grad turns a function into the function of its derivatives.
  const x = tensor([1, 2, 3]);
  const slope = grad((x: Tensor) => ops.sum(ops.square(x)))(x);
  const slopes = [...(await slope.read())]; // reading is the only thing that takes an await
  log(`the sum of squares at 1, 2, 3 has the gradient ${slopes.join(", ")}`);

  const { points, sides } = somePoints(200);
  const [inputs, signs] = [tensor(points, [200, 2]), tensor(sides, [200, 1])];
  const heights = (w: Tensor, b: Tensor) => ops.linear(inputs, w, { bias: b });
  const lossOf = (w: Tensor, b: Tensor) => ops.neg(ops.mean(ops.logSigmoid(ops.mul(signs, heights(w, b)))));

  // A tensor dies with the scope that made it, unless the scope returns it. Nothing waits in here: all is only enqueued.
  const { w, b, losses } = scope(() => {
    const lossAndGradients = valueAndGrad(lossOf, [0, 1]); // by both arguments
    let [w, b] = [ops.zeros([1, 2]), ops.zeros([1])];
    const losses: Tensor[] = [];
    for (let step = 0; step < 100; step++) {
      const [loss, [dw, db]] = lossAndGradients(w, b);
      [w, b] = [ops.sub(w, ops.scale(dw, 5)), ops.sub(b, ops.scale(db, 5))];
      losses.push(loss);
    }
    return { w, b, losses: ops.concat(losses) };
  });
  const fell = [...(await losses.read())];
  for (const step of [0, 9, 99]) log(`step ${step + 1}: loss ${fell[step].toFixed(3)}`);
  const height = heights(w, b);
  const right = (await height.read()).filter((h, i) => h * sides[i] > 0).length;
  log(`${right} of 200 points are on their side of the line`);

  // Differences of the function's values find the same gradient, or this throws.
  const error = await checkGradient(lossOf, [w, b]);
  log(`the gradient is right to ${error.toExponential(0)}`);

  // What no scope ended is freed by hand.
  for (const t of [x, slope, inputs, signs, w, b, losses, height]) t.free();
  return { slopes, losses: fell, right, error };
}
