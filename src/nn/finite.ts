/** Models whose numbers are no numbers any more: nothing may be drawn of them, or measured by them, as if all were well. */
import { UserError } from "../runtime/errors.ts";
import type { Model } from "./models.ts";

/** A model gives numbers that are not finite. */
export class NonFiniteError extends UserError {
  constructor(label: string, what: string, value: number) {
    super(
      `${label} gives ${what} that are not finite (${value}): its weights hold NaN or infinity, or are so large ` +
        "that they overflow; go back to a model or a checkpoint from before",
    );
  }
}

/**
 * The error of a model whose numbers are not all finite, or null.
 * @param numbers log-probabilities of tokens that it drew or was given; or what `what` says
 */
export function nonFinite(
  { store }: Model,
  numbers: ArrayLike<number>,
  what = "log-probabilities",
): NonFiniteError | null {
  for (let i = 0; i < numbers.length; i++) {
    if (!Number.isFinite(numbers[i])) return new NonFiniteError(store.label, what, numbers[i]);
  }
  return null;
}
