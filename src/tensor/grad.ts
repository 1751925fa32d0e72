/** Gradients of functions of plain tensors, and how to check them. */
import { UserError } from "../runtime/errors.ts";
import { backward, noGrad, scope, Tensor, tensor, willRecord, withOwnTape, zeros } from "./core.ts";
import { mul } from "./ops/elementwise.ts";
import { sum } from "./ops/reduce.ts";
import { reshape } from "./ops/shape.ts";

/** Places, counted from 0, of the arguments that a gradient is by: one, or several. */
export type Wrt = number | readonly number[];

/** One gradient for one argument, a list for several. */
export type GradientOf<W extends Wrt> = W extends number ? Tensor : Tensor[];

/**
 * Turns f into a function that gives f's value and its gradient by some of its arguments.
 *
 *     const [loss, dw] = valueAndGrad((w: Tensor, x: Tensor) => mean(square(mul(w, x))))(w, x);
 *
 * Arguments without influence have a gradient of zeros. Neither result is recorded: there are no second derivatives.
 * @param f takes tensors and gives a tensor of one element
 * @param wrt places of the arguments. Default: the first
 * @throws UserError for arguments that are no float tensors or require a gradient themselves, and for a value that is no scalar
 */
export function valueAndGrad<A extends readonly Tensor[], const W extends Wrt = 0>(
  f: (...inputs: A) => Tensor,
  wrt: W = 0 as W,
): (...inputs: A) => [value: Tensor, gradient: GradientOf<W>] {
  const places: readonly number[] = typeof wrt === "number" ? [wrt] : wrt;
  return (...inputs) => {
    for (const place of places) {
      const input: unknown = inputs[place];
      if (!(input instanceof Tensor)) throw new UserError(`a gradient by argument ${place}, which is no tensor`);
      if (input.dtype === "u32") throw new UserError(`a gradient by argument ${place}, which holds integers`);
    }
    if (willRecord(inputs)) {
      throw new UserError(
        "an argument requires a gradient itself, and gradients are not differentiated again: call this inside noGrad(), or " +
          "use backward()",
      );
    }
    return scope(() =>
      withOwnTape(() => {
        const leaves = inputs.map((input, i) => (places.includes(i) ? leafOf(input) : input)) as unknown as A;
        const value = f(...leaves);
        if (!(value instanceof Tensor) || value.size !== 1) {
          const got = value instanceof Tensor ? `one of shape [${value.shape}]` : typeof value;
          throw new UserError(`the function must give a tensor of one element, not ${got}: sum() or mean() make one`);
        }
        if (value.requiresGrad) backward(value);
        value.requiresGrad = false;
        const gradients = places.map((place) => leaves[place].grad ?? zeros(leaves[place].shape));
        return [value, (typeof wrt === "number" ? gradients[0] : gradients) as GradientOf<W>];
      }),
    );
  };
}

/** Turns f into a function that gives its gradient by some of its arguments, as `valueAndGrad` does. */
export function grad<A extends readonly Tensor[], const W extends Wrt = 0>(
  f: (...inputs: A) => Tensor,
  wrt: W = 0 as W,
): (...inputs: A) => GradientOf<W> {
  const both = valueAndGrad(f, wrt);
  return (...inputs) => scope(() => both(...inputs)[1]);
}

function leafOf(input: Tensor): Tensor {
  const leaf = input.alias(input.shape, "an argument");
  leaf.requiresGrad = true;
  return leaf;
}

/** How `checkGradient` compares. */
export interface CheckGradientOptions {
  /** Distance of the points between which differences are taken. Default 0.02. */
  step?: number;
  /** Largest difference that is no error, relative to the gradient's size and to 1. Default 1e-3. */
  tolerance?: number;
  /** Elements of each input that are moved, spread over it. Default 64. */
  elements?: number;
}

/**
 * Compares the gradient of an op with differences of its values, by every float input: a weighted sum of the output stands
 * for the loss, and four points around each element give its derivative to fourth order.
 * @param f takes the inputs and gives a tensor of any shape; smooth around them, and the same whenever it is called
 * @returns the largest error found
 * @throws Error that names the input and the element where the two differ by more than the tolerance
 */
export async function checkGradient(
  f: (...inputs: Tensor[]) => Tensor,
  inputs: readonly Tensor[],
  { step = 0.02, tolerance = 1e-3, elements = 64 }: CheckGradientOptions = {},
): Promise<number> {
  const places = inputs.flatMap(({ dtype }, i) => (dtype === "f32" ? [i] : []));
  const weightsOf = (size: number) => Float32Array.from({ length: size }, (_, i) => 1 + 0.5 * Math.sin(1 + 7 * i));
  // The weighted sum is taken on the host in float64, so that differences see the op's own rounding only.
  const lossAt = async (args: readonly Tensor[]): Promise<number> => {
    const y = scope(() => noGrad(() => f(...args)));
    const values = await y.read();
    if (!args.includes(y)) y.free("checkGradient");
    const weights = weightsOf(values.length);
    return values.reduce((sum, v, i) => sum + v * weights[i], 0);
  };
  const gradients = scope(() =>
    withOwnTape(() => {
      const leaves = inputs.map((input, i) => (places.includes(i) ? leafOf(input) : input));
      const y = f(...leaves);
      const weighted = sum(mul(reshape(y, [y.size]), tensor(weightsOf(y.size))));
      if (weighted.requiresGrad) backward(weighted);
      return places.map((i) => leaves[i].grad ?? zeros(inputs[i].shape));
    }),
  );
  let worst = 0;
  for (const [k, i] of places.entries()) {
    const found = await gradients[k].read();
    gradients[k].free("checkGradient");
    const values = await inputs[i].read();
    const count = Math.min(elements, values.length);
    for (let e = 0; e < count; e++) {
      const at = Math.floor((e * values.length) / count);
      const moved = async (by: number): Promise<number> => {
        const other = tensor(
          values.map((v, j) => (j === at ? v + by : v)),
          inputs[i].shape,
        );
        const loss = await lossAt(inputs.map((input, j) => (j === i ? other : input)));
        other.free("checkGradient");
        return loss;
      };
      const near = (await moved(step)) - (await moved(-step));
      const far = (await moved(2 * step)) - (await moved(-2 * step));
      const expected = (8 * near - far) / (12 * step);
      const error = Math.abs(found[at] - expected) / Math.max(1, Math.abs(expected));
      if (!(error <= tolerance)) {
        throw new Error(
          `the gradient by input ${i} is wrong at element ${at} of shape [${inputs[i].shape}]: it is ${found[at]}, and ` +
            `differences give ${expected}`,
        );
      }
      worst = Math.max(worst, error);
    }
  }
  return worst;
}
