/**
 * Group relative policy optimisation (Shao et al. 2024, DeepSeekMath) and its variants: several responses per prompt, each
 * compared with its group; no critic. By options it is Dr. GRPO (`lossType` "dr_grpo", `scaleRewards` "none"), DAPO
 * (`epsilonHigh` 0.28, `dropZeroStd`), GSPO (`importanceSampling` "sequence") or CISPO (`lossType` "cispo").
 */

import { UserError } from "../../runtime/errors.ts";
import { groupAdvantages, type LossAveraging, normalizeThenSum, type ScaleRewards } from "../advantages.ts";
import type { TrainEvent } from "../events.ts";
import {
  type CriticFreeInputs,
  type CriticFreeOptions,
  criticFreeDefaults,
  type ScoredRollout,
  totals,
  trainCriticFree,
} from "./train.ts";

export interface GrpoOptions extends CriticFreeOptions {
  /** How the loss is averaged; "cispo" is a loss of its own, averaged as "dapo". */
  lossType: LossAveraging | "cispo";
  /** What a group's advantages are divided by: its own deviation, the whole rollout's, or nothing. */
  scaleRewards: ScaleRewards;
  /** Two-sided clip: upper bound of the ratio where the advantage is negative; null has none. */
  delta: number | null;
  /** Of what the probability ratio is: tokens, or whole sequences by their geometric mean (GSPO). */
  importanceSampling: "token" | "sequence";
  /** Multiplies the KL term by the ratio, so that its gradient is that of KL(policy || reference). */
  unbiasedKl: boolean;
  /** With several rewards: add them up and normalise, or normalise each and add up (GDPO). */
  aggregation: "sum_then_normalize" | "normalize_then_sum";
  /** Leaves groups whose rewards are all the same out of the update. */
  dropZeroStd: boolean;
}

/** TRL's settings, sizes apart. */
export const grpoDefaults: GrpoOptions = {
  ...criticFreeDefaults,
  lossType: "dapo",
  scaleRewards: "group",
  delta: null,
  importanceSampling: "token",
  unbiasedKl: true,
  aggregation: "sum_then_normalize",
  dropZeroStd: false,
};

/** Trains the policy in place. Emits one step event per rollout. */
export function trainGrpo(inputs: CriticFreeInputs, options: GrpoOptions): AsyncGenerator<TrainEvent> {
  const { lossType, samplesPerPrompt, epsilon, epsilonHigh, delta, importanceSampling, unbiasedKl } = options;
  const cispo = lossType === "cispo";
  if (samplesPerPrompt < 2)
    throw new UserError(`num_generations must be at least 2, not ${samplesPerPrompt}: GRPO compares`);
  if (cispo && epsilonHigh === null)
    throw new UserError("loss_type cispo needs epsilon_high, the largest ratio: try 5");
  if (cispo && delta !== null)
    throw new UserError("delta is no part of loss_type cispo, which has epsilon_high for it");
  if (options.aggregation === "normalize_then_sum" && options.scaleRewards !== "group") {
    throw new UserError(
      `multi_objective_aggregation normalize_then_sum divides each reward by its group's deviation: scale_rewards cannot be ` +
        options.scaleRewards,
    );
  }
  if (delta !== null && delta <= 1 + (epsilonHigh ?? epsilon)) {
    throw new UserError(`delta must be greater than 1 + epsilon_high = ${1 + (epsilonHigh ?? epsilon)}, not ${delta}`);
  }
  return trainCriticFree(inputs, options, {
    stage: "grpo",
    klInReward: 0,
    clipRangeScore: Number.POSITIVE_INFINITY,
    averaging: cispo ? "dapo" : lossType,
    loss: {
      level: importanceSampling,
      epsilon,
      epsilonHigh: epsilonHigh ?? epsilon,
      delta,
      cispo,
      beta: options.beta,
      unbiasedKl,
    },
    advantages: (rollout) => grpoAdvantages(rollout, options),
    dropGroupsWithoutSpread: options.dropZeroStd,
  });
}

function grpoAdvantages(rollout: ScoredRollout, options: GrpoOptions): number[] {
  const { samplesPerPrompt, scaleRewards, aggregation, rewardWeights } = options;
  if (aggregation === "sum_then_normalize") return groupAdvantages(totals(rollout), samplesPerPrompt, scaleRewards);
  return normalizeThenSum(rollout.parts, rewardWeights ?? rollout.parts.map(() => 1), samplesPerPrompt);
}
