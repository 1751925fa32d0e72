/** The rewards of environments among others. */
import { UserError } from "../../runtime/errors.ts";
import type { RewardFunction, RewardParts } from "../rewards.ts";
import type { Response } from "../sampler.ts";

/**
 * The reward that an environment gave, all turns of an episode together. It stands among the rewards of a run that has an
 * environment, with a weight like any other. Throws a UserError for responses that are no episodes.
 */
export const environmentReward: RewardFunction = Object.defineProperty(
  (responses: readonly Response[]) => responses.map(episodeReward),
  "name",
  { value: "environment" },
);

/** What an episode was worth, all of its turns together. */
export function episodeReward({ turns }: Response): number {
  if (!turns)
    throw new UserError("the environment's reward is one of episodes: the responses were drawn without an environment");
  return turns.reduce((sum, { reward }) => sum + reward, 0);
}

/** A reward that a response earns before its end. */
export interface EarlierReward {
  /** The token that earns it, counted among those that the policy wrote. */
  at: number;
  amount: number;
}

/** What the turns before the last earn: each at the last token that the policy wrote in it. */
export function earlierRewards({ turns = [] }: Response, { functions, weights }: RewardParts): EarlierReward[] {
  const weight = weights[functions.indexOf(environmentReward)] ?? 0;
  let written = 0;
  return turns.slice(0, -1).flatMap(({ start, end, reward }) => {
    written += end - start;
    return reward === 0 || weight === 0 ? [] : [{ at: written - 1, amount: weight * reward }];
  });
}
