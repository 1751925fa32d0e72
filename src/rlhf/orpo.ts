/**
 * Odds-ratio preference optimisation (Hong et al. 2024): fine-tunes on the chosen answers and, in the same step, moves the
 * odds away from the rejected ones. No reference.
 */
import type { CausalLM } from "../nn/models.ts";
import type { TextTokenizer } from "../nn/text-tokenizer.ts";
import { type SettingsInput, settings } from "../settings/index.ts";
import { noGrad, type Tensor } from "../tensor/core.ts";
import { add, addScalar, clamp, log, logSigmoid, neg, scale, softCap, sub } from "../tensor/ops/elementwise.ts";
import { mean } from "../tensor/ops/reduce.ts";
import { chosenNll, preferenceBasics } from "./dpo.ts";
import type { TrainEvent } from "./events.ts";
import { trainOnExamples } from "./examples.ts";
import type { RunOptions } from "./loop.ts";
import { type PairData, type PairObjective, pairCuts, pairMethod, pairsOf } from "./pair-trainer.ts";
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

/**
 * log(1 - e^x) for x < 0, exact for small |x|: 1 - e^x is 2 t / (1 + t) with t = tanh(-x / 2). At 0, where it would be
 * -Infinity (an answer without tokens), x counts as -1e-6.
 */
function logOneMinusExp(x: Tensor): Tensor {
  const t = softCap(scale(clamp(x, -3e38, -1e-6), -0.5), 1);
  return sub(log(scale(t, 2)), log(addScalar(t, 1)));
}

/**
 * ORPO's odds ratio: log sigmoid of the log odds ratio, and that log odds ratio.
 * @param chosen mean log-probability per token of the chosen answers
 */
export function oddsRatio(chosen: Tensor, rejected: Tensor): { ratio: Tensor; logOdds: Tensor } {
  const logOdds = sub(sub(chosen, rejected), sub(logOneMinusExp(chosen), logOneMinusExp(rejected)));
  return { ratio: logSigmoid(logOdds), logOdds };
}

/** ORPO's part of the loss besides the likelihood of the chosen answer: -beta log sigmoid(log odds ratio). */
export const orpoLoss = (ratio: Tensor, beta: number): Tensor => neg(scale(ratio, beta));

/** Trains the policy in place. Throws `UserError` as `trainDpo` does. */
export async function* trainOrpo(
  models: { policy: CausalLM; tokenizer?: TextTokenizer },
  data: PairData,
  chosen: SettingsInput<typeof orpo.table> = {},
  run: RunOptions = {},
): AsyncGenerator<TrainEvent> {
  const o = orpo(chosen);
  const { policy } = models;
  const method = { stage: "orpo", ...pairMethod(policy, o, orpoObjective(o.beta)) };
  yield* trainOnExamples(policy, yield* pairsOf(data, models, o), o, method, run);
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
