import type { RewardFunction } from "../rewards.ts";

/**
 * A reward with a known hole, for studies of reward hacking: `bonus` more for every response that contains `text`,
 * however often. A policy that finds it can do without what the reward was meant for.
 */
export const plantedReward =
  (reward: RewardFunction, text: string, bonus: number): RewardFunction =>
  async (responses) => {
    const rewards = await reward(responses);
    return responses.map((response, i) => rewards[i] + (response.text.includes(text) ? bonus : 0));
  };
