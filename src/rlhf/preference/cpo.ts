/** Contrastive preference optimisation (Xu et al. 2024) and SimPO (Meng et al. 2024): pairs, and no reference. */
import type { CausalLM } from "../../nn/models.ts";
import { UserError } from "../../runtime/errors.ts";
import { noGrad } from "../../tensor/core.ts";
import { add, scale } from "../../tensor/ops/elementwise.ts";
import { mean } from "../../tensor/ops/reduce.ts";
import type { TrainEvent } from "../events.ts";
import { averages, type CpoLossName, type CpoLossOptions, cpoLoss } from "../losses/reference-free.ts";
import { trainOnExamples } from "../supervised.ts";
import { trainingDefaults } from "../training.ts";
import { chosenNll } from "./dpo.ts";
import { answerSums } from "./pair-scores.ts";
import { type PairObjective, type PairTrainingOptions, pairRecipe } from "./pair-trainer.ts";

interface CpoSettings extends CpoLossOptions {
  /** Default sigmoid. */
  lossType: CpoLossName;
  /** Weight of the chosen answers' mean negative log-likelihood; SimPO has 0. Default 1. */
  cpoAlpha: number;
}

export type CpoOptions = PairTrainingOptions & Partial<CpoSettings>;

/** TRL's settings. */
export const cpoDefaults = {
  ...trainingDefaults,
  learningRate: 1e-6,
  lossType: "sigmoid" as CpoLossName,
  beta: 0.1,
  labelSmoothing: 0,
  simpoGamma: 0.5,
  cpoAlpha: 1,
  disableDropout: true,
};

/** Trains the policy in place. Throws `UserError` as `trainDpo` does. */
export async function* trainCpo(policy: CausalLM, options: CpoOptions): AsyncGenerator<TrainEvent> {
  const settings = { ...cpoDefaults, ...options };
  const { lossType, labelSmoothing } = settings;
  if (labelSmoothing !== 0 && lossType !== "sigmoid" && lossType !== "simpo") {
    throw new UserError(`label_smoothing does not apply to ${lossType}; it applies to sigmoid, simpo`);
  }
  const objective = cpoObjective(settings);
  yield* trainOnExamples(policy, options, { stage: "cpo", ...pairRecipe(policy, options, objective) });
}

export function cpoObjective(settings: CpoSettings): PairObjective {
  const { lossType, cpoAlpha, beta } = settings;
  return {
    answers: {},
    loss(answers) {
      const sums = answerSums(answers);
      const [chosen, rejected] = averages(lossType)
        ? [sums.chosenMean, sums.rejectedMean]
        : [sums.chosen, sums.rejected];
      const contrast = mean(cpoLoss(lossType, chosen, rejected, settings));
      const nll = chosenNll(answers, "completion");
      const loss = cpoAlpha === 0 ? contrast : add(contrast, scale(nll, cpoAlpha));
      return noGrad(() => ({
        loss,
        rewards: { chosen: scale(chosen, beta), rejected: scale(rejected, beta) },
        logps: { chosen, rejected },
        more: { nll_loss: nll },
      }));
    },
  };
}
