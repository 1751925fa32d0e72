/** Which prompts each iteration has. */

import { UserError } from "../../runtime/errors.ts";
import { permutation, streamId } from "../../runtime/rng.ts";
import type { Prompt } from "../sampler.ts";
import type { IterateOptions } from "./options.ts";
import type { NumberedPrompt } from "./sample.ts";

/** Disjoint parts of the prompts, one per iteration, in one random order. */
export function promptSlices(prompts: readonly Prompt[], options: IterateOptions): NumberedPrompt[][] {
  const { iterations, promptsPerIteration, seed } = options;
  const each = promptsPerIteration || Math.floor(prompts.length / iterations);
  if (each < 1 || each * iterations > prompts.length) {
    throw new UserError(
      `${iterations} iterations with ${Math.max(1, each)} new prompts each need ${Math.max(1, each) * iterations} prompts; ` +
        `there are ${prompts.length}`,
    );
  }
  const order = permutation(prompts.length, seed, streamId("iterate"));
  return Array.from({ length: iterations }, (_, i) =>
    [...order.subarray(i * each, (i + 1) * each)].map((id) => ({ ...prompts[id], id })),
  );
}
