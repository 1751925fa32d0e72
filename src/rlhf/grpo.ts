/**
 * Group relative policy optimisation (Shao et al. 2024, DeepSeekMath) and its variants: several responses per prompt, each
 * compared with its group; no critic. By settings it is Dr. GRPO (`lossType` "dr_grpo", `scaleRewards` "none"), DAPO
 * (`epsilonHigh` 0.28, `dynamicFiltering`), GSPO (`importanceSamplingLevel` "sequence") or CISPO (`lossType` "cispo").
 */
import { UserError } from "../runtime/errors.ts";
import { needs, type SettingsInput, settings } from "../settings/index.ts";
import { groupAdvantages, normalizeThenSum } from "./advantages.ts";
import { type CriticFreeModels, totals, trainCriticFree } from "./critic-free.ts";
import { checkCriticFree, criticFreeSettings, method, rolloutSize } from "./critic-free-settings.ts";
import type { TrainEvent } from "./events.ts";
import type { RunOptions } from "./loop.ts";
import { rewardParts } from "./rewards.ts";
import type { Rollout } from "./rollout.ts";
import { type PromptData, tokenizerOf } from "./sampler.ts";
import { positive } from "./settings.ts";

/** GRPO's settings, by TRL's names. */
export const grpo = settings(
  "grpo",
  {
    ...rolloutSize,
    ...criticFreeSettings(8, 0),
    lossType: method.choice(
      ["grpo", "bnpo", "dapo", "dr_grpo", "cispo"],
      "dapo",
      "Average over sequences of token averages (grpo), each pass's tokens (bnpo), the rollout's tokens (dapo), " +
        "or by the longest length (dr_grpo); cispo is a loss of its own",
    ),
    scaleRewards: method.choice(
      ["group", "batch", "none"],
      "group",
      "Divide advantages by their group's deviation, the rollout's, or nothing",
    ),
    delta: method.float(null, "Bound of the ratio where the advantage is negative; default: none", positive),
    importanceSamplingLevel: method.choice(
      ["token", "sequence"],
      "token",
      "The ratio is of each token, or of the whole response by its geometric mean (GSPO)",
    ),
    useBiasCorrectionKl: method.bool(true, "Multiply the KL term by the ratio, which makes its gradient unbiased", {
      effect: needs("beta"),
    }),
    multiObjectiveAggregation: method.choice(
      ["sum_then_normalize", "normalize_then_sum"],
      "sum_then_normalize",
      "With several rewards: add up, then normalise; or normalise each, then add up (GDPO)",
      { effect: needs("rewardFuncs") },
    ),
    dynamicFiltering: method.bool(false, "Leave groups whose rewards are all the same out of the update (DAPO)"),
  },
  (o, name) => {
    const { lossType, numGenerations, epsilonHigh, delta } = o;
    const cispo = lossType === "cispo";
    if (numGenerations < 2) {
      throw new UserError(`${name("numGenerations")} must be at least 2, not ${numGenerations}: GRPO compares`);
    }
    checkCriticFree(o, name);
    if (cispo && epsilonHigh === null) {
      throw new UserError(`${name("lossType")} cispo needs ${name("epsilonHigh")}, the largest ratio: try 5`);
    }
    if (cispo && delta !== null) {
      throw new UserError(
        `${name("delta")} is no part of ${name("lossType")} cispo, which has ${name("epsilonHigh")} for it`,
      );
    }
    if (o.multiObjectiveAggregation === "normalize_then_sum" && o.scaleRewards !== "group") {
      throw new UserError(
        `${name("multiObjectiveAggregation")} normalize_then_sum divides each reward by its group's deviation: ` +
          `${name("scaleRewards")} cannot be ${o.scaleRewards}`,
      );
    }
    const upper = 1 + (epsilonHigh ?? o.epsilon);
    if (delta !== null && delta <= upper) {
      throw new UserError(`${name("delta")} must be greater than 1 + ${name("epsilonHigh")} = ${upper}, not ${delta}`);
    }
  },
);

/** GRPO's settings, resolved. */
export type GrpoSettings = ReturnType<typeof grpo>;

/**
 * Trains the policy in place. Emits one step event per rollout.
 * @throws UserError for settings or data under which nothing would be learned, and for a loss that is not finite
 */
export function trainGrpo(
  models: CriticFreeModels,
  data: PromptData,
  chosen: SettingsInput<typeof grpo.table> = {},
  run: RunOptions = {},
): AsyncGenerator<TrainEvent> {
  const o = grpo(chosen);
  const { lossType, epsilon, epsilonHigh, delta } = o;
  const cispo = lossType === "cispo";
  return trainCriticFree(models, data, o, run, {
    stage: "grpo",
    klInReward: false,
    clipRangeScore: null,
    averaging: cispo ? "dapo" : lossType,
    loss: {
      level: o.importanceSamplingLevel,
      epsilon,
      epsilonHigh: epsilonHigh ?? epsilon,
      delta,
      cispo,
      beta: o.beta,
      unbiasedKl: o.useBiasCorrectionKl,
    },
    advantages: (rollout) => grpoAdvantages(rollout, models, o),
    dropGroupsWithoutSpread: o.dynamicFiltering,
  });
}

function grpoAdvantages(rollout: Rollout, models: CriticFreeModels, o: GrpoSettings): number[] {
  const { numGenerations, scaleRewards } = o;
  if (o.multiObjectiveAggregation === "sum_then_normalize") {
    return groupAdvantages(totals(rollout), numGenerations, scaleRewards);
  }
  const { weights } = rewardParts(models.rewards, tokenizerOf(models), o.rewardWeights);
  const all = rollout.parts.map((_, k) => weights[k] ?? 1); // the penalty for long responses comes last and counts 1
  return normalizeThenSum(rollout.parts, all, numGenerations);
}
