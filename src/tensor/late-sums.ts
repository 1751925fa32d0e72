/**
 * Gradients of parameters that a GPU's kernels leave in parts. Nothing reads such a gradient before `backward()` has ended, so
 * that the parts of several are added up in one dispatch.
 */
import { caps } from "../gpu/device.ts";
import { type Kernel, kernel, prepare } from "../gpu/kernel.ts";
import { type BufferView, release } from "../gpu/pool.ts";
import { runPrepared } from "../gpu/stream.ts";
import { lateSums } from "../shaders/late-sums.wgsl.ts";

/** `into` += the sum of `count` parts, one after the other in `parts`, each of `size` floats. */
export interface LateSum {
  /** From the pool; given back once they are added up. */
  parts: BufferView;
  count: number;
  size: number;
  into: BufferView;
}

/** Two bindings each, of the eight that every adapter has. */
const MOST = 4;
const WG = 64;

let waiting: LateSum[] = [];

/** Whether a gradient may be added up late: one that `backward()` adds to what a leaf has, on a GPU. */
export const mayBeLate = (leaf: { grad: object | null }, sink: object | boolean): boolean =>
  sink === leaf.grad && caps().kind === "hardware";

/** Adds the sum up before `backward()` ends. */
export function sumLater(sum: LateSum): void {
  if (waiting.some(({ into }) => overlap(into, sum.into))) settleSums();
  waiting.push(sum);
  if (waiting.length === MOST) settleSums();
}

const overlap = (a: BufferView, b: BufferView): boolean =>
  a.buffer === b.buffer && a.offset < b.offset + b.size && b.offset < a.offset + a.size;

/** Adds up what waits. */
export function settleSums(): void {
  const sums = takeAll();
  if (sums.length === 0) return;
  const wide = sums.every(({ size }) => size % 4 === 0);
  const buffers: BufferView[] = [];
  const scalars: number[] = [];
  let total = 0;
  for (const { parts, into, size, count } of sums) {
    const n = wide ? size / 4 : size;
    buffers.push(parts, into);
    scalars.push(n, count);
    total += n;
  }
  runPrepared((wide ? byVectors : byElements)(sums.length), buffers, scalars, Math.ceil(total / WG));
  for (const { parts } of sums) release(parts);
}

/** Forgets what waits, for a `backward()` that failed. */
export function dropSums(): void {
  for (const { parts } of takeAll()) release(parts);
}

function takeAll(): LateSum[] {
  const sums = waiting;
  waiting = [];
  return sums;
}

const kernelOf = memo((count: number): Kernel => {
  const each = Array.from({ length: count }, (_, i) => i);
  return kernel({
    name: `late_sums_${count}`,
    code: lateSums(count),
    bindings: Object.fromEntries(
      each.flatMap((i) => [[`parts${i}`, "read V"] as const, [`into${i}`, "write V"] as const]),
    ),
    scalars: Object.fromEntries(each.flatMap((i) => [[`size${i}`, "u32"] as const, [`count${i}`, "u32"] as const])),
  });
});
const byVectors = memo((count: number) => prepare(kernelOf(count), { V: "vec4<f32>", WG }));
const byElements = memo((count: number) => prepare(kernelOf(count), { V: "f32", WG }));

function memo<V>(make: (count: number) => V): (count: number) => V {
  const made: V[] = [];
  return (count) => {
    made[count] ??= make(count);
    return made[count];
  };
}
