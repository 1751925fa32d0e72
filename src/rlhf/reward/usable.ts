/** The pairs that a scorer can learn from, and what is said of the others. */

import type { PreferenceExample } from "../../data/batches.ts";
import { counted } from "../../data/counts.ts";
import { UserError } from "../../runtime/errors.ts";
import { spelled } from "../../settings/index.ts";
import type { ExampleSplits } from "../examples.ts";
import { differing, fitting } from "../pairs.ts";

/**
 * Pairs without those that are too long, where nothing says how they are to be cut, and without those to learn from whose
 * answers are the same.
 * @throws UserError where nothing is left of a part
 */
export function usablePairs(
  { train, eval: held }: ExampleSplits<PreferenceExample>,
  maxLength: number,
  o: { truncationSide: string | null },
): { parts: ExampleSplits<PreferenceExample>; notes: string[] } {
  const long =
    `an answer with its prompt has more than ${maxLength} tokens (raise ${spelled(o, "maxLength")}, or cut them with ` +
    `${spelled(o, "truncationSide")})`;
  const notes: string[] = [];
  const less = (
    all: readonly PreferenceExample[],
    left: PreferenceExample[],
    name: string,
    reason: string,
    why = reason,
  ) => {
    const out = all.length - left.length;
    if (out > 0) notes.push(`${out} of ${all.length} ${name} left out: ${why}`);
    if (out > 0 && left.length === 0) throw new UserError(`nothing is left: ${notes.at(-1)}`);
    return counted(left, all, { dropped: { [reason]: out }, ...(o.truncationSide === null && { limit: maxLength }) });
  };
  const short = less(train, fitting(train, maxLength), "pairs", "an answer is too long", long);
  const shortHeld = less(held, fitting(held, maxLength), "held-out pairs", "an answer is too long", long);
  const parts = { train: less(short, differing(short), "pairs", "both answers have the same tokens"), eval: shortHeld };
  return { parts, notes };
}
