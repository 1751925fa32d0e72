/**
 * Odds-ratio preference optimisation (Hong et al. 2024): fine-tunes on the chosen answers and, in the same step, moves the
 * odds away from the rejected ones. No reference.
 */
import type { CausalLM } from "../../nn/models.ts";
import { noGrad } from "../../tensor/core.ts";
import { add, scale } from "../../tensor/ops/elementwise.ts";
import { mean } from "../../tensor/ops/reduce.ts";
import type { TrainEvent } from "../events.ts";
import { oddsRatio, orpoLoss } from "../losses/reference-free.ts";
import { trainOnExamples } from "../supervised.ts";
import { trainingDefaults } from "../training.ts";
import { chosenNll } from "./dpo.ts";
import { answerSums } from "./pair-scores.ts";
import { type PairObjective, type PairTrainingOptions, pairRecipe } from "./pair-trainer.ts";

export interface OrpoOptions extends PairTrainingOptions {
  /** Weight of the odds-ratio part; the paper's lambda. Default 0.1. */
  beta?: number;
}

/** TRL's settings. */
export const orpoDefaults = { ...trainingDefaults, learningRate: 1e-6, beta: 0.1, disableDropout: true };

/** Trains the policy in place. Throws `UserError` as `trainDpo` does. */
export function trainOrpo(policy: CausalLM, options: OrpoOptions): AsyncGenerator<TrainEvent> {
  const objective = orpoObjective(options.beta ?? orpoDefaults.beta);
  return trainOnExamples(policy, options, { stage: "orpo", ...pairRecipe(policy, options, objective) });
}

/** The likelihood is of prompts and chosen answers, as in TRL. */
export function orpoObjective(beta: number): PairObjective {
  return {
    answers: { withPrompts: true },
    loss(answers) {
      const { chosenMean, rejectedMean } = answerSums(answers);
      const { ratio, logOdds } = oddsRatio(chosenMean, rejectedMean);
      const nll = chosenNll(answers, "sequence");
      const loss = add(nll, mean(orpoLoss(ratio, beta)));
      return noGrad(() => ({
        loss,
        rewards: { chosen: scale(chosenMean, beta), rejected: scale(rejectedMean, beta) },
        logps: { chosen: chosenMean, rejected: rejectedMean },
        more: { nll_loss: nll, log_odds_ratio: ratio, log_odds_chosen: logOdds },
      }));
    },
  };
}
