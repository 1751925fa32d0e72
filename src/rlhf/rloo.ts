/**
 * REINFORCE leave-one-out (Ahmadian et al. 2024): a response's reward, KL penalty included, is compared with the mean of
 * the others of its group; the probability ratio is that of the whole response. As TRL's RLOOTrainer.
 */
import { UserError } from "../runtime/errors.ts";
import { type SettingsInput, settings } from "../settings/index.ts";
import { leaveOneOut, standardize } from "./advantages.ts";
import { type CriticFreeModels, totals, trainCriticFree } from "./critic-free.ts";
import { checkCriticFree, clipRewards, criticFreeSettings, method, rolloutSize } from "./critic-free-settings.ts";
import type { TrainEvent } from "./events.ts";
import type { RunOptions } from "./loop.ts";
import type { PromptData } from "./sampler.ts";

/** RLOO's settings, by TRL's names. */
export const rloo = settings(
  "rloo",
  {
    ...rolloutSize,
    ...criticFreeSettings(2, 0.05),
    ...clipRewards(null),
    normalizeAdvantages: method.bool(
      false,
      "Divide advantages by their deviation over the rollout, the mean taken off",
    ),
  },
  (o, name) => {
    if (o.numGenerations < 2) {
      throw new UserError(
        `${name("numGenerations")} must be at least 2, not ${o.numGenerations}: RLOO compares a response with the others`,
      );
    }
    checkCriticFree(o, name);
  },
);

/** RLOO's settings, resolved. */
export type RlooSettings = ReturnType<typeof rloo>;

/**
 * Trains the policy in place. Emits one step event per rollout.
 * @throws UserError as `trainGrpo` does
 */
export function trainRloo(
  models: CriticFreeModels,
  data: PromptData,
  chosen: SettingsInput<typeof rloo.table> = {},
  run: RunOptions = {},
): AsyncGenerator<TrainEvent> {
  const o = rloo(chosen);
  const { numGenerations, epsilon, epsilonHigh } = o;
  return trainCriticFree(models, data, o, run, {
    stage: "rloo",
    klInReward: true,
    clipRangeScore: o.rewardClipRange,
    averaging: "grpo",
    loss: {
      level: "product",
      epsilon,
      epsilonHigh: epsilonHigh ?? epsilon,
      delta: null,
      cispo: false,
      beta: 0,
      unbiasedKl: false,
    },
    advantages: (rollout) => {
      const advantages = leaveOneOut(totals(rollout), numGenerations);
      return o.normalizeAdvantages ? standardize(advantages) : advantages;
    },
  });
}
