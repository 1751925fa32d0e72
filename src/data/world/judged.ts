/** What a judge says of two stories. */
import type { RandomStream } from "../../runtime/rng.ts";

/**
 * A pair of stories about a prompt, the better one drawn.
 * @param chance with which the judge prefers `a`
 */
export function judged(prompt: string, [a, b]: readonly [string, string], chance: number, random: RandomStream) {
  const aWins = random.uniform() < chance;
  return {
    kind: "preference" as const,
    prompt,
    chosen: aWins ? a : b,
    rejected: aWins ? b : a,
    certainty: Math.max(chance, 1 - chance),
  };
}
