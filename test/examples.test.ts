/** Every program in examples/ runs, and finds what it claims: in Node, in Deno and in a browser. */
import { afterAll, expect, it } from "vitest";
import { preferenceLosses } from "webrlhf/rlhf";
import * as customOp from "../examples/custom-op.ts";
import * as grad101 from "../examples/grad-101.ts";

type Example = { main(log: (line: string) => void): Promise<unknown> };
type Glob = { glob(pattern: readonly string[]): Record<string, () => Promise<Example>> };

const examples = Object.entries(
  (import.meta as unknown as Glob).glob(["../examples/*.ts", "!../examples/vite.config.ts"]),
);

// The example's own loss: test files share a process, and others list the losses.
afterAll(() => void delete preferenceLosses.focal);

it.each(examples.map(([path, load]) => [path.replace("../", ""), load] as const))("%s", async (_, load) => {
  const lines: string[] = [];
  await (await load()).main((line) => lines.push(line));
  expect(lines.length).toBeGreaterThan(0);
});

it("grad-101 finds gradients and the line between the points", async () => {
  const { slopes, losses, right, error } = await grad101.main(() => {});
  expect(slopes).toEqual([2, 4, 6]);
  expect(losses).toHaveLength(100);
  expect(losses[0]).toBeCloseTo(Math.log(2), 5); // of a line that says nothing yet
  losses.slice(1).forEach((loss, i) => {
    expect(loss).toBeLessThan(losses[i]);
  });
  expect(losses[99]).toBeLessThan(0.15);
  expect(right).toBeGreaterThan(190);
  expect(error).toBeLessThan(1e-3);
});

it("custom-op computes what float64 computes, has the right gradient, and learns", async () => {
  const { values, error, losses } = await customOp.main(() => {});
  [-1000, -3, -0.5, 0, 0.5, 3, 1000].forEach((x, i) => {
    // In float64 the plain formula has digits enough even where it cancels.
    expect(values[i] / ((x + Math.sqrt(x * x + 4)) / 2)).toBeCloseTo(1, 5);
  });
  expect(error).toBeLessThan(1e-3);
  expect(losses[losses.length - 1]).toBeLessThan(0.01 * losses[0]);
});
