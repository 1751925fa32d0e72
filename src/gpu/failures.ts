/** What can happen to a GPU device in the middle of work, through nobody's mistake. */
import { UserError } from "../runtime/errors.ts";

/** The GPU device is gone: its driver was reset, its process crashed, or somebody destroyed it. */
export class DeviceLostError extends UserError {
  /** @param reason in the words of the WebGPU implementation */
  constructor(reason: string) {
    super(`the GPU device was lost (${reason.trim() || "no reason given"})`);
  }
}

/** The GPU has no memory left for what was asked. */
export class OutOfMemoryError extends UserError {
  /** What needed the memory, and how much of it. */
  readonly what: string;

  constructor(what: string) {
    super(`out of GPU memory: ${what}: use a smaller batch, a shorter context or a smaller model`);
    this.what = what;
  }
}

/** The failure of the device that an error comes of, if it comes of one: the error itself, or what caused it. */
export function deviceFailure(error: unknown): DeviceLostError | OutOfMemoryError | null {
  for (let one = error; one instanceof Error; one = one.cause) {
    if (one instanceof DeviceLostError || one instanceof OutOfMemoryError) return one;
  }
  return null;
}
