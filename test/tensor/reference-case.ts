/** Holds one op of a fixture file against webrlhf: values, then gradients under given upstream gradients. */
import { add, backward, full, noGrad, scope, type Tensor, tensor, zeros } from "webrlhf";
import { recordMany } from "../../src/tensor/core.ts";
import { type FixtureArray, values } from "../fixture.ts";
import { expectClose } from "../helpers.ts";

export interface ReferenceCase {
  name: string;
  op: string;
  // biome-ignore lint/suspicious/noExplicitAny: each op has its own arguments
  args: any;
  /** Of attention cases. */
  packing: { lengths: number[]; starts: number[]; rows: number };
  inputs: FixtureArray[];
  outputs: FixtureArray[];
  dys: FixtureArray[];
  grads: (FixtureArray | null)[];
}

export type Apply = (inputs: Tensor[], reference: ReferenceCase) => Tensor | Tensor[];

/** Relative to the largest reference value of each array. */
export interface Tolerance {
  value: number;
  gradient: number;
}

/** Where a gradient goes: added into a parameter's, which holds something already, or to a preceding op, as a new tensor. */
export type Sinks = "parameter" | "op";

export async function checkCase(
  reference: ReferenceCase,
  apply: Apply,
  tolerance: Tolerance,
  sinks: Sinks[] = ["parameter", "op"],
): Promise<void> {
  for (const sink of sinks) {
    const behindAnOp = sink === "op";
    const before = behindAnOp ? 0 : 0.5;
    scope(() => poison(reference));
    const { outputs, grads } = scope(() => differentiate(reference, apply, behindAnOp, before));
    const label = ` (into the ${sink})`;
    for (const [i, y] of outputs.entries()) {
      const expected = values(reference.outputs[i]);
      expectClose(await y.read(), expected, tolerance.value, 1e-7, `output ${i}${label}`);
    }
    for (const [i, grad] of grads.entries()) {
      const want = reference.grads[i];
      const expected = want ? values(want) : new Float32Array(grad.size);
      const found = (await grad.read()).map((v) => v - before);
      // what was there before costs digits of its own
      expectClose(found, expected, tolerance.gradient, before * 2e-7 + 1e-7, `gradient of input ${i}${label}`);
    }
    for (const t of [...outputs, ...grads]) t.free("the test");
  }
}

/** Leaves NaN in the pool's free buffers, so that an op which forgets to write an element is found out. */
function poison({ inputs, outputs }: ReferenceCase): void {
  for (const { shape } of [...inputs, ...inputs, ...outputs, ...outputs]) full(shape, Number.NaN);
}

function differentiate(reference: ReferenceCase, apply: Apply, behindAnOp: boolean, before: number) {
  const leaves = reference.inputs.map((a) => tensor(values(a), a.shape));
  const floats = leaves.filter((t) => t.dtype === "f32");
  for (const leaf of floats) {
    leaf.requiresGrad = true;
    leaf.grad = full(leaf.shape, before);
  }
  const inputs = leaves.map((t) => (behindAnOp && t.dtype === "f32" ? add(t, zeros([1])) : t));
  const result = apply(inputs, reference);
  const outputs = Array.isArray(result) ? result : [result];
  const loss = zeros([1]);
  const dys = reference.dys.map((a, i) => tensor(values(a), outputs[i].shape));
  recordMany("given gradients", outputs, [loss], () => dys);
  // backward() frees what it passes: keep copies of the outputs
  const kept = noGrad(() => outputs.map((t) => add(t, zeros([1]))));
  backward(loss);
  return { outputs: kept, grads: floats.map((t) => t.grad as Tensor) };
}
