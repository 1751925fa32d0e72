/**
 * Gradients of parameters that a GPU's kernels leave in parts. Nothing reads such a gradient before `backward()` has ended, so
 * that the parts of several are added up in one dispatch.
 */
import { caps } from "../gpu/device.ts";
import { type Kernel, kernel } from "../gpu/kernel.ts";
import { type BufferView, release } from "../gpu/pool.ts";
import { run } from "../gpu/stream.ts";
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
const kernels = new Map<number, Kernel>();

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
  const V = sums.every(({ size }) => size % 4 === 0) ? "vec4<f32>" : "f32";
  const sizes = sums.map(({ size }) => (V === "f32" ? size : size / 4));
  const total = sizes.reduce((a, b) => a + b, 0);
  run(
    kernelOf(sums.length),
    { V, WG },
    sums.flatMap(({ parts, into }) => [parts, into]),
    sums.flatMap(({ count }, i) => [sizes[i], count]),
    Math.ceil(total / WG),
  );
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

function kernelOf(count: number): Kernel {
  const each = Array.from({ length: count }, (_, i) => i);
  const made = kernels.get(count) ?? make();
  kernels.set(count, made);
  return made;

  function make(): Kernel {
    return kernel({
      name: `late_sums_${count}`,
      code: lateSums(count),
      bindings: Object.fromEntries(
        each.flatMap((i) => [[`parts${i}`, "read V"] as const, [`into${i}`, "write V"] as const]),
      ),
      scalars: Object.fromEntries(each.flatMap((i) => [[`size${i}`, "u32"] as const, [`count${i}`, "u32"] as const])),
    });
  }
}
