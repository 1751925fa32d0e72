/**
 * Group relative policy optimisation (Shao et al. 2024, DeepSeekMath) and its variants: several responses per prompt, each
 * compared with its group; no critic. By settings it is Dr. GRPO (`lossType` "dr_grpo", `scaleRewards` "none"), DAPO
 * (`epsilonHigh` 0.28, `dynamicFiltering`), GSPO (`importanceSamplingLevel` "sequence"), CISPO or SAPO (`lossType`).
 */
import { UserError } from "../runtime/errors.ts";
import { derived, live, needs, type SettingsInput, settings, where } from "../settings/index.ts";
import { groupAdvantages, normalizeThenSum } from "./advantages.ts";
import { type CriticFreeModels, totals, trainCriticFree } from "./critic-free.ts";
import { checkCriticFree, criticFreeSettings, method, rolloutSize } from "./critic-free-settings.ts";
import type { TrainEvent } from "./events.ts";
import type { RunOptions } from "./loop.ts";
import type { Drawn } from "./refill.ts";
import { rewardParts } from "./rewards.ts";
import { type PromptData, tokenizerOf } from "./sampler.ts";
import { positive } from "./settings.ts";

/** GRPO's settings, by TRL's names. */
export const grpo = settings(
  "grpo",
  {
    ...rolloutSize,
    ...criticFreeSettings(8, 0),
    lossType: method.choice(
      ["grpo", "bnpo", "dapo", "dr_grpo", "cispo", "sapo"],
      "dapo",
      "Average over sequences of token averages (grpo), each pass's tokens (bnpo), the rollout's tokens (dapo), " +
        "or by the longest length (dr_grpo); cispo and sapo are losses of their own",
    ),
    scaleRewards: method.choice(
      ["group", "batch", "none"],
      "group",
      "Divide advantages by their group's deviation, the rollout's, or nothing",
    ),
    delta: method.float(null, "Bound of the ratio where the advantage is negative; default: none", positive),
    sapoTemperaturePos: method.float(1, "Steepness of sapo's gate where the advantage is positive", {
      ...positive,
      effect: where("lossType", "sapo"),
    }),
    sapoTemperatureNeg: method.float(1.05, "Steepness of sapo's gate where the advantage is 0 or negative", {
      ...positive,
      effect: where("lossType", "sapo"),
    }),
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
    dynamicFiltering: method.bool(
      false,
      "Leave groups whose rewards are all the same out of the update, and draw groups to other prompts in their place (DAPO)",
    ),
    maxNumGenBatches: method.int(
      derived((o: { weightSyncSteps: number }) => (o.weightSyncSteps > 1 ? 1 : 10), "10; 1 with weight_sync_steps"),
      "Draws of one rollout at most, until as many groups are there as it should have; 1 replaces none",
      { min: 1, effect: needs("dynamicFiltering") },
    ),
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
    if (lossType === "sapo" && (delta !== null || epsilonHigh !== null)) {
      const clip = delta !== null ? name("delta") : name("epsilonHigh");
      throw new UserError(
        `${clip} bounds a ratio, and ${name("lossType")} sapo has a gate instead: ${name("sapoTemperaturePos")} and ` +
          `${name("sapoTemperatureNeg")} say how steep it is`,
      );
    }
    if (o.multiObjectiveAggregation === "normalize_then_sum" && o.scaleRewards !== "group") {
      throw new UserError(
        `${name("multiObjectiveAggregation")} normalize_then_sum divides each reward by its group's deviation: ` +
          `${name("scaleRewards")} cannot be ${o.scaleRewards}`,
      );
    }
    if (o.dynamicFiltering && o.maxNumGenBatches > 1 && o.weightSyncSteps > 1) {
      throw new UserError(
        `${name("maxNumGenBatches")} ${o.maxNumGenBatches} draws again within a step, when whoever draws has an older policy: set ` +
          `${name("weightSyncSteps")} to 1, or ${name("maxNumGenBatches")} to 1`,
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
  const o = live(grpo(chosen));
  const { lossType, epsilon, epsilonHigh, delta } = o;
  const [cispo, sapo] = [lossType === "cispo", lossType === "sapo"];
  return trainCriticFree(models, data, o, run, {
    stage: "grpo",
    klInReward: false,
    clipRangeScore: null,
    averaging: lossType === "cispo" ? "dapo" : lossType === "sapo" ? "grpo" : lossType,
    loss: {
      level: o.importanceSamplingLevel,
      epsilon,
      epsilonHigh: epsilonHigh ?? epsilon,
      delta,
      cispo,
      sapo: sapo ? { positive: o.sapoTemperaturePos, negative: o.sapoTemperatureNeg } : null,
      get beta() {
        return o.beta;
      },
      unbiasedKl: o.useBiasCorrectionKl,
    },
    advantages: (rollout) => grpoAdvantages(rollout, models, o),
    dropGroupsWithoutSpread: o.dynamicFiltering,
    draws: o.dynamicFiltering ? o.maxNumGenBatches : 1,
  });
}

function grpoAdvantages(rollout: Drawn, models: CriticFreeModels, o: GrpoSettings): number[] {
  const { numGenerations, scaleRewards } = o;
  if (o.multiObjectiveAggregation === "sum_then_normalize") {
    return groupAdvantages(totals(rollout), numGenerations, scaleRewards);
  }
  const { weights } = rewardParts(models.rewards, tokenizerOf(models), o.rewardWeights);
  const all = rollout.parts.map((_, k) => weights[k] ?? 1); // the penalty for long responses comes last and counts 1
  return normalizeThenSum(rollout.parts, all, numGenerations);
}
