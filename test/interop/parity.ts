/** How far apart two trainings of one model are: measures, and the rows of docs/parity.md. */
import { expect } from "vitest";
import { diskFiles } from "webrlhf";
import type { Model } from "webrlhf/nn";

/** Tensors by name. */
export type Weights = ReadonlyMap<string, ArrayLike<number>>;

/** The largest distances of any tensor from the other program's, as shares of what is named. */
export interface Distance {
  /** |w - w'| / |w'| */
  weight: number;
  /** |w - w'| / |w' - w0|, where w0 are the weights at the start. */
  update: number;
}

const norm = (values: Iterable<number>): number => {
  let squares = 0;
  for (const x of values) squares += x * x;
  return Math.sqrt(squares);
};

const apart = (a: ArrayLike<number>, b: ArrayLike<number>): number => norm(Array.from(a, (x, i) => x - b[i]));

/** The distance of our weights from theirs. Fails where they have other tensors, or where one of theirs did not move. */
export function distance(ours: Weights, theirs: Weights, start: Weights): Distance {
  expect([...ours.keys()].sort()).toEqual([...theirs.keys()].sort());
  const each = [...theirs].map(([name, there]) => {
    const here = ours.get(name) as ArrayLike<number>;
    expect(here.length, name).toBe(there.length);
    const moved = apart(there, start.get(name) as ArrayLike<number>);
    expect(moved, `${name} was not trained`).toBeGreaterThan(0);
    const error = apart(here, there);
    return { weight: error / norm(Array.from(there)), update: error / moved };
  });
  const worst = (of: keyof Distance) => each.reduce((w, d) => (d[of] <= w ? w : d[of]), 0); // NaN is the worst
  return { weight: worst("weight"), update: worst("update") };
}

/** A model's weights as they are now. */
export const weightsOf = (model: Model): Promise<Map<string, Float32Array>> => model.store.read();

/** The weights that another program saved, as the model that opens them has them. */
export async function savedWeights<M extends Model>(
  open: (files: Awaited<ReturnType<typeof diskFiles>>, path: string) => Promise<M>,
  path: string,
): Promise<Map<string, Float32Array>> {
  const model = await open(await diskFiles(), path);
  const weights = await weightsOf(model);
  model.destroy();
  return weights;
}

/** A row of docs/parity.md. */
export interface ParityRow extends Distance {
  method: string;
  settings: string;
  /** Whose weights these are compared with, with versions. */
  other: string;
  steps: number;
}

/** "DPO, sigmoid, passes of 3" as the method and its settings. */
export function splitName(name: string): [method: string, settings: string] {
  const comma = name.indexOf(", ");
  return comma < 0 ? [name, "defaults"] : [name.slice(0, comma), name.slice(comma + 2)];
}

/** What every comparison must reach. */
export const most: Distance = { weight: 1e-4, update: 1e-3 };

/** Holds a comparison to what is promised, and writes it down where `scripts/parity.mjs` asks for it. */
export function recordParity(row: ParityRow): void {
  console.log(
    `${row.method}, ${row.settings}: weight ${row.weight.toExponential(1)}, update ${row.update.toExponential(1)}`,
  );
  expect(row.steps).toBeGreaterThanOrEqual(8);
  expect(row.weight).toBeLessThan(most.weight);
  expect(row.update).toBeLessThan(most.update);
  const file = process.env.WEBRLHF_PARITY;
  // The measures are taken in browsers, too, which have no such module.
  if (file) process.getBuiltinModule("node:fs").appendFileSync(file, `${JSON.stringify(row)}\n`);
}
