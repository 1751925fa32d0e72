/** When adapters drop out: only inside `withDropout`, which training steps open around their forward passes. */

/** What the masks of one forward pass are keyed by, besides the layer. Never time, never the order of calls. */
export interface DropoutScope {
  seed: number;
  /** Optimizer step. */
  step: number;
  /** Micro-batch of the step. */
  pass: number;
}

let current: DropoutScope | null = null;

/** The key of one optimizer step; its micro-batches are the passes. */
export type DropoutStep = Omit<DropoutScope, "pass">;

/** Runs `fn` with dropout as `scope` says, or without where it is null. */
export function withDropout<R>(scope: DropoutScope | null, fn: () => R): R {
  const before = current;
  current = scope;
  try {
    return fn();
  } finally {
    current = before;
  }
}

/** The scope that is open now. */
export const dropoutScope = (): DropoutScope | null => current;
