/** Named numbers of a step: they stay on the GPU, in one vector, until somebody reads them, mostly a step later. */
import type { AdamW } from "../nn/optimizer.ts";
import { readControl } from "../nn/optimizer.ts";
import { noGrad, scope, type Tensor } from "../tensor/core.ts";
import { concat } from "../tensor/ops/shape.ts";

/** Numbers that the parts of a step left, and how they lie in their vector: one list of names and sizes for each part. */
export interface Watched<K extends string = string> {
  readonly values: Tensor;
  readonly parts: readonly (readonly (readonly [name: K, size: number])[])[];
}

/** Numbers that were read of one part, by name: as many as the watched tensor had. */
export type WatchedNumbers<K extends string = string> = Record<K, Float32Array>;

/** Keeps the values that these tensors have now, as one part. */
export function watch<K extends string>(named: Readonly<Record<K, Tensor>>): Watched<K> {
  const entries = Object.entries(named) as [K, Tensor][];
  return {
    values: noGrad(() => concat(entries.map(([, t]) => t))),
    parts: [entries.map(([name, { size }]) => [name, size] as const)],
  };
}

/** The record of an optimizer's last step, as a part to watch. */
export const watchControl = ({ control }: AdamW): Watched<"control"> => watch({ control });

/** Reads the numbers of one name, part by part, and leaves them for others to read. */
export async function peek<K extends string>({ values, parts }: Watched<K>, wanted: K): Promise<Float32Array[]> {
  const all = await values.read();
  let at = 0;
  return parts.flat().flatMap(([name, size]) => {
    at += size;
    return name === wanted ? [all.subarray(at - size, at)] : [];
  });
}

/** The parts of several in one vector, so that one read brings them all; what it is made of may then be freed. */
export function together<K extends string>(watched: readonly Watched<K>[]): Watched<K> {
  return {
    values: noGrad(() => concat(watched.map(({ values }) => values))),
    parts: watched.flatMap(({ parts }) => parts),
  };
}

/** Reads the numbers of all parts, in their order, and frees them on the GPU. */
export async function readWatched<K extends string>({ values, parts }: Watched<K>): Promise<WatchedNumbers<K>[]> {
  const all = await values.read();
  values.free("the metrics reader");
  let at = 0;
  return parts.map((sizes) => {
    const numbers = {} as WatchedNumbers<K>;
    for (const [name, size] of sizes) {
      numbers[name] = all.subarray(at, at + size);
      at += size;
    }
    return numbers;
  });
}

/** Reads several that were not put together. */
export async function readEach<K extends string>(watched: readonly Watched<K>[]): Promise<WatchedNumbers<K>[]> {
  if (watched.length === 0) return [];
  const all = scope(() => together(watched));
  for (const { values } of watched) values.free("the metrics reader");
  return readWatched(all);
}

/** Metrics of an optimizer's last step, from its record: the gradient's norm, skipped steps, and the loss scale if there is one. */
export function controlMetrics(control: ArrayLike<number>): Record<string, number> {
  const { gradNorm, skipped, lossScale } = readControl(control, control.length);
  return { grad_norm: gradNorm, skipped_steps: skipped, ...(lossScale !== null && { loss_scale: lossScale }) };
}
