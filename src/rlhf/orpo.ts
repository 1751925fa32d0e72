/**
 * Odds-ratio preference optimisation (Hong et al. 2024): fine-tunes on the chosen answers and, in the same step, moves the
 * odds away from the rejected ones. No reference.
 */
import type { CausalLM } from "../nn/models.ts";
import type { TextTokenizer } from "../nn/text-tokenizer.ts";
import { type Input, settings } from "../settings/index.ts";
import { noGrad } from "../tensor/core.ts";
import { add, scale } from "../tensor/ops/elementwise.ts";
import { mean } from "../tensor/ops/reduce.ts";
import { chosenNll, preferenceBasics } from "./dpo.ts";
import type { TrainEvent } from "./events.ts";
import { trainOnExamples } from "./examples.ts";
import type { RunOptions } from "./loop.ts";
import { oddsRatio, orpoLoss } from "./losses/reference-free.ts";
import { type PairData, type PairObjective, pairCuts, pairRecipe, pairsOf } from "./pair-trainer.ts";
import { answerSums } from "./pairs.ts";
import { preference } from "./reference.ts";

/** ORPO's settings, by TRL's names. */
export const orpo = settings("orpo", {
  ...pairCuts,
  beta: preference.float(0.1, "Weight of the odds ratio; the paper's lambda", { min: 0 }),
  ...preferenceBasics,
});

/** ORPO's settings, resolved. */
export type OrpoSettings = ReturnType<typeof orpo>;

/** Trains the policy in place. Throws `UserError` as `trainDpo` does. */
export async function* trainOrpo(
  models: { policy: CausalLM; tokenizer?: TextTokenizer },
  data: PairData,
  chosen: Input<typeof orpo.table> = {},
  run: RunOptions = {},
): AsyncGenerator<TrainEvent> {
  const o = orpo(chosen);
  const { policy } = models;
  const recipe = { stage: "orpo", ...pairRecipe(policy, o, orpoObjective(o.beta)) };
  yield* trainOnExamples(policy, await pairsOf(data, models, o), o, recipe, run);
}

/** The loss of ORPO; the likelihood is of prompts and chosen answers, as in TRL. */
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
