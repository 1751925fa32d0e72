/** Which pairs to ask a labeller about next: those that a reward model is least sure of (uncertainty sampling). */
import type { PreferenceExample } from "../../data/batches.ts";
import type { ScoreModel } from "../../nn/models.ts";
import { UserError } from "../../runtime/errors.ts";
import { type AnswerScores, scorePairs } from "../scores.ts";

/**
 * The places of the `count` pairs whose answers' scores differ least, least first: under Bradley-Terry each answer then wins
 * nearly half of the time. Of equal ones the earlier comes first.
 * @param scores of the pairs' two answers, in whichever order
 * @param labelled places that are not to be asked about again
 * @returns fewer than `count` where fewer are left
 */
export function leastCertain({ chosen, rejected }: AnswerScores, count = 1, labelled: Iterable<number> = []): number[] {
  if (chosen.length !== rejected.length) throw new Error(`${chosen.length} and ${rejected.length} scores are no pairs`);
  const known = new Set(labelled);
  const gaps = chosen.map((score, i) => Math.abs(score - rejected[i]));
  const unsound = gaps.findIndex((gap) => Number.isNaN(gap));
  if (unsound >= 0)
    throw new UserError(`the scores of pair ${unsound + 1} are no numbers, so that nothing can be said of it`);
  const left = gaps.map((_, i) => i).filter((i) => !known.has(i));
  return left.sort((a, b) => gaps[a] - gaps[b] || a - b).slice(0, count);
}

/**
 * Looks for the pairs of a pool that a reward model is least sure of: see `leastCertain`. Which answer of a pair of the pool is
 * called chosen does not matter.
 */
export const choosePairs = async (
  model: ScoreModel,
  pool: readonly PreferenceExample[],
  count = 1,
  labelled: Iterable<number> = [],
): Promise<number[]> => leastCertain(await scorePairs(model, pool), count, labelled);
