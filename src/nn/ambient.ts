/** What a forward pass depends on besides its inputs, for as long as a function runs. */

/** The key of one forward pass's dropout masks, besides the layer. Never time, never the order of calls. */
export interface DropoutScope {
  seed: number;
  /** Optimizer step. */
  step: number;
  /** Micro-batch of the step. */
  pass: number;
}

/** The key of one optimizer step's dropout; its micro-batches are the passes. */
export type DropoutStep = Omit<DropoutScope, "pass">;

interface Ambient {
  /** Adapters drop out; null where they do not. */
  dropout: DropoutScope | null;
  /** The adapter that is on, if any. */
  adapter: { apply<R>(fn: () => R): R } | null;
}

let current: Ambient = { dropout: null, adapter: null };

/** Runs `fn` with some of what is around it changed. */
export function within<R>(change: Partial<Ambient>, fn: () => R): R {
  const before = current;
  current = { ...before, ...change };
  try {
    return fn();
  } finally {
    current = before;
  }
}

/** Runs `fn` with dropout as `scope` says, or without where it is null: training steps do so around forward passes. */
export const withDropout = <R>(scope: DropoutScope | null, fn: () => R): R => within({ dropout: scope }, fn);

/** The dropout scope that is open now. */
export const dropoutScope = (): DropoutScope | null => current.dropout;

/** `fn` as a function that can run later under the adapter and the dropout of now; for recomputing a forward pass. */
export function rerunnable<A extends unknown[], R>(fn: (...args: A) => R): (...args: A) => R {
  const { adapter, dropout } = current;
  return (...args) => {
    const run = () => withDropout(dropout, () => fn(...args));
    return adapter ? adapter.apply(run) : run();
  };
}
