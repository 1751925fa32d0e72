import { backward, scope, type Tensor, tensor, zeros } from "webrlhf";
import { type FixtureArray, numbers } from "./fixture.ts";

/** A loss of some arrays, then its gradient by each of them, read back. */
export async function differentiate(
  inputs: readonly (readonly number[] | FixtureArray)[],
  f: (x: Tensor[]) => Tensor,
): Promise<Float32Array[]> {
  const results = scope(() => {
    const leaves = inputs.map((x) => {
      const leaf = "shape" in x ? tensor(numbers(x), x.shape) : tensor([...x]);
      leaf.requiresGrad = true;
      leaf.grad = zeros(leaf.shape);
      return leaf;
    });
    const loss = f(leaves);
    backward(loss);
    return [loss, ...leaves.map((t) => t.grad as Tensor)];
  });
  const read = (await Promise.all(results.map((t) => t.read()))) as Float32Array[];
  for (const t of results) t.free("the test");
  return read;
}
