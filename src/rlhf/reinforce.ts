/**
 * REINFORCE++ (Hu et al. 2025): PPO without a critic. The advantage of a token is what its response still earns, KL penalty
 * included, whitened over all tokens of the rollout. As OpenRLHF's estimator "reinforce".
 */
import { type SettingsInput, settings } from "../settings/index.ts";
import { type CriticFreeModels, trainCriticFree } from "./critic-free.ts";
import { checkCriticFree, clipRewards, criticFreeSettings, method } from "./critic-free-settings.ts";
import type { TrainEvent } from "./events.ts";
import type { RunOptions } from "./loop.ts";
import type { PromptData } from "./sampler.ts";
import { probability, rollout } from "./settings.ts";
import { gae, whiten } from "./stats.ts";

/** REINFORCE++'s settings; those of the method itself are OpenRLHF's. */
export const reinforce = settings(
  "reinforce",
  {
    generationBatchSize: rollout.int(64, "Responses in one rollout, all prompts together", { min: 1 }),
    ...criticFreeSettings(1, 0.01, { beta1: 0.9, beta2: 0.95 }),
    ...clipRewards(10),
    gamma: method.float(1, "Discount of later rewards", probability),
  },
  (o, name) => checkCriticFree(o, name),
);

/** REINFORCE++'s settings, resolved. */
export type ReinforceSettings = ReturnType<typeof reinforce>;

/**
 * Trains the policy in place. Emits one step event per rollout.
 * @throws UserError as `trainGrpo` does
 */
export function trainReinforce(
  models: CriticFreeModels,
  data: PromptData,
  chosen: SettingsInput<typeof reinforce.table> = {},
  run: RunOptions = {},
): AsyncGenerator<TrainEvent> {
  const o = reinforce(chosen);
  const { epsilon, epsilonHigh, gamma } = o;
  return trainCriticFree(models, data, o, run, {
    stage: "reinforce",
    klInReward: true,
    clipRangeScore: o.rewardClipRange,
    averaging: "dapo",
    loss: {
      level: "token",
      epsilon,
      epsilonHigh: epsilonHigh ?? epsilon,
      delta: null,
      cispo: false,
      beta: 0,
      unbiasedKl: false,
    },
    advantages: ({ rewards }) => reinforceAdvantages(rewards, gamma),
  });
}

/** Discounted returns from every token on, whitened over all tokens. */
export function reinforceAdvantages(rewards: readonly ArrayLike<number>[], gamma: number): Float64Array[] {
  const returns = rewards.map((r) => gae(r, new Float64Array(r.length), { gamma, lambda: 1 }).returns);
  return whiten(returns);
}
