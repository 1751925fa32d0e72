/** Rewards from an HTTP endpoint that `reward_model_path` names. */
import { httpReward } from "../../rlhf/reward/endpoint.ts";
import type { RewardFunction } from "../../rlhf/rollout.ts";
import type { Values } from "../option.ts";
import type { rewardServer } from "../options/shared.ts";

export type RewardServerChoice = Partial<Values<typeof rewardServer>>;

export const isUrl = (path: string): boolean => /^https?:\/\//.test(path);

/** The reward function behind a URL. */
export const serverReward = (url: string, o: RewardServerChoice): RewardFunction =>
  httpReward(url, {
    format: o.reward_server_format,
    batchSize: o.reward_server_batch_size,
    concurrency: o.reward_server_concurrency,
    ...(o.reward_server_timeout !== undefined && { timeoutMs: o.reward_server_timeout * 1000 }),
    retries: o.reward_server_retries,
    apiKey: o.reward_server_api_key,
  });
