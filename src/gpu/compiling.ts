/**
 * Kernels under way: drivers take up to a second for one, and compile several side by side. So nobody waits for a kernel until
 * something is read back; what is enqueued meanwhile waits in the stream.
 */
import { device, onClose, onStandIn, startWait } from "./device.ts";

/** What a kernel's pipeline is put into. */
export interface Pipelined {
  /** Null until it is compiled, and for good where it does not compile. */
  pipeline: GPUComputePipeline | null;
}

/** Called as kernels are compiled: how many of those that were begun together are done. */
export type CompileProgress = (done: number, begun: number) => void;

/** Those under way: a promise of the end of each, and how to have it at once. */
const compiling = new Map<Pipelined, { done: Promise<void>; now(): GPUComputePipeline }>();
let begun = 0; // since nothing was under way
let progress: CompileProgress | null = null;
let whenDone: (() => void) | null = null;

/** Who is told how far compiling has come; null tells nobody. */
export function onCompileProgress(listener: CompileProgress | null): void {
  progress = listener;
}

/** What is called each time that nothing is under way any more. */
export function onCompiled(listener: () => void): void {
  whenDone = listener;
}

/** Some kernel is under way. */
export const isCompiling = (): boolean => compiling.size > 0;

/** Waits for the kernels that are under way now. */
export async function compilations(): Promise<void> {
  await Promise.all([...compiling.values()].map(({ done }) => done));
}

/** Compiles what is under way here and now, one after the other, for callers that cannot wait. */
export function compileNow(): void {
  for (const [variant, { now }] of compiling) variant.pipeline ??= now();
  compiling.clear();
}

/** Begins to compile a pipeline; the promise gives the error if it cannot be. */
export function compileAside(variant: Pipelined, wanted: GPUComputePipelineDescriptor): Promise<Error | null> {
  const gpu = device();
  if (onStandIn()) {
    variant.pipeline = gpu.createComputePipeline(wanted);
    return Promise.resolve(null);
  }
  if (compiling.size === 0) begun = 0;
  begun += 1;
  const outcome = startWait(() => gpu.createComputePipelineAsync(wanted)).then(
    (pipeline) => {
      variant.pipeline ??= pipeline;
      return null;
    },
    (error: Error) => error,
  );
  const done = outcome.then(() => ended(variant));
  compiling.set(variant, { done, now: () => gpu.createComputePipeline(wanted) });
  return outcome;
}

function ended(variant: Pipelined): void {
  if (!compiling.delete(variant)) return; // compiled for who could not wait, or of a device that is gone
  progress?.(begun - compiling.size, begun);
  if (compiling.size === 0) whenDone?.();
}

onClose({
  forget() {
    compiling.clear();
  },
  setAside() {
    compileNow();
    return () => {};
  },
});
