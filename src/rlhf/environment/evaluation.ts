/** What evaluations say of episodes, beside what they say of all responses. */
import { meanInterval } from "../bootstrap.ts";
import type { Response } from "../sampler.ts";
import { average } from "../stats.ts";
import { wilson } from "../win-rate.ts";
import { episodeReward } from "./reward.ts";

/** How episodes are measured. */
export interface EpisodeMeasures {
  /** An episode whose rewards come to so much is a success; null: nobody knows. */
  successReward: number | null;
  /** Bootstrap samples of the interval of the mean score; 0 gives none. */
  resamples: number;
  seed: number;
}

/** Sums of rewards in floating point may just miss what they stand for. */
const ALMOST = 1e-6;

/**
 * Turns and tokens of episodes, the 95 % interval of their mean score and, where it is known what a success is, the part that are
 * one, with Wilson's interval.
 * @param scores what each is scored by: what the environment gave, or a mixture with that
 */
export function episodeMetrics(
  episodes: readonly Response[],
  scores: readonly number[],
  { successReward, resamples, seed }: EpisodeMeasures,
): Record<string, number> {
  const { low, high } = meanInterval(scores, { resamples, seed });
  const success =
    successReward === null ? null : average(episodes.map((e) => Number(episodeReward(e) >= successReward - ALMOST)));
  const between = success === null ? null : wilson(success, episodes.length);
  return {
    ...(low !== null && high !== null && { reward_low: low, reward_high: high }),
    ...(success !== null && between && { success_rate: success, success_low: between.low, success_high: between.high }),
    mean_turns: average(episodes.map(({ turns = [] }) => turns.length)),
    mean_episode_length: average(episodes.map(({ ids, promptLength }) => ids.length - promptLength)),
  };
}
