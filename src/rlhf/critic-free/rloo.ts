/**
 * REINFORCE leave-one-out (Ahmadian et al. 2024): a response's reward, KL penalty included, is compared with the mean of
 * the others of its group; the probability ratio is that of the whole response. As TRL's RLOOTrainer.
 */

import { UserError } from "../../runtime/errors.ts";
import { leaveOneOut, standardize } from "../advantages.ts";
import type { TrainEvent } from "../events.ts";
import { type CriticFreeInputs, type CriticFreeOptions, criticFreeDefaults, totals, trainCriticFree } from "./train.ts";

export interface RlooOptions extends CriticFreeOptions {
  /** Advantages are standardised over the whole rollout. */
  normalizeAdvantages: boolean;
  /** Scores are clipped to [-clip, clip] before the KL penalty joins them. */
  clipRangeScore: number;
}

/** TRL's settings, sizes apart. */
export const rlooDefaults: RlooOptions = {
  ...criticFreeDefaults,
  samplesPerPrompt: 2,
  beta: 0.05,
  normalizeAdvantages: false,
  clipRangeScore: Number.POSITIVE_INFINITY,
};

/** Trains the policy in place. Emits one step event per rollout. */
export function trainRloo(inputs: CriticFreeInputs, options: RlooOptions): AsyncGenerator<TrainEvent> {
  const { samplesPerPrompt, epsilon, epsilonHigh } = options;
  if (samplesPerPrompt < 2) {
    throw new UserError(`num_generations must be at least 2, not ${samplesPerPrompt}: RLOO compares with the others`);
  }
  return trainCriticFree(inputs, options, {
    stage: "rloo",
    klInReward: options.beta,
    clipRangeScore: options.clipRangeScore,
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
      const advantages = leaveOneOut(totals(rollout), samplesPerPrompt);
      return options.normalizeAdvantages ? standardize(advantages) : advantages;
    },
  });
}
