/** The rows that a round of RAFT leaves in tables. */
import type { Response } from "../sampler.ts";
import { bestOfAll, bestOfEach } from "./rank.ts";

/** The round under LMFlow's names, from its metrics. */
export function raftRow(iteration: number, metrics: Record<string, number>): Record<string, number> {
  const row: Record<string, number> = { iteration, mean_reward: metrics.reward };
  const names = ["train_reward", "n_kept", "n_discarded", "distinct_1", "distinct_2", "mean_length"];
  for (const name of names) if (metrics[name] !== undefined) row[name] = metrics[name];
  return row;
}

/** A round's responses with what was made of them. */
interface Judged {
  /** After cleaning. */
  responses: readonly Response[];
  rewards: readonly number[];
  /** What they are ranked by. */
  scores: readonly number[];
  truth: readonly number[] | null;
  allowed: readonly boolean[];
  /** Places of those that are learned. */
  kept: readonly number[];
}

type Row = Record<string, string | number | boolean>;

/**
 * Every candidate of a round, as the table "candidates" has it. `rank` is its place among those that it competes with, 1 for the
 * best; one that was discarded has none.
 * @param together how many responses compete: those to a prompt, or null for all
 */
export function candidateRows(
  iteration: number,
  { responses, rewards, scores, truth, allowed, kept }: Judged,
  together: number | null,
): Row[] {
  const chosen = new Set(kept);
  const ranks = ranksOf(scores, allowed, together);
  return responses.map((r, i) => ({
    iteration,
    prompt_index: r.prompt,
    sample: r.sample,
    prompt: r.promptText,
    response: r.text,
    reward: rewards[i],
    ...(truth && { gold: truth[i] }),
    score: scores[i],
    ...(ranks[i] > 0 && { rank: ranks[i] }),
    discarded: !allowed[i],
    chosen: chosen.has(i),
  }));
}

/** Places by the very rules that choose; 0 for what was discarded. */
function ranksOf(scores: readonly number[], allowed: readonly boolean[], together: number | null): number[] {
  const ranks = scores.map(() => 0);
  if (together === null) {
    for (const [i, response] of bestOfAll(scores, allowed, scores.length).entries()) ranks[response] = i + 1;
    return ranks;
  }
  // Whoever is the best of those that are left has the next place.
  const left = [...allowed];
  for (let place = 1; place <= together; place++) {
    for (const response of bestOfEach(scores, left, together)) {
      ranks[response] = place;
      left[response] = false;
    }
  }
  return ranks;
}
