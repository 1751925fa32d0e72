/** Contrastive preference optimisation (Xu et al. 2024) and SimPO (Meng et al. 2024): pairs, and no reference. */
import type { CausalLM } from "../nn/models.ts";
import type { TextTokenizer } from "../nn/text-tokenizer.ts";
import { UserError } from "../runtime/errors.ts";
import { type SettingsInput, settings, where } from "../settings/index.ts";
import { noGrad, type Tensor } from "../tensor/core.ts";
import { add, addScalar, relu, scale, square, sub } from "../tensor/ops/elementwise.ts";
import { mean } from "../tensor/ops/reduce.ts";
import { chosenNll, preferenceBasics } from "./dpo.ts";
import type { TrainEvent } from "./events.ts";
import { trainOnExamples } from "./examples.ts";
import type { RunOptions } from "./loop.ts";
import { smoothed } from "./losses/preference.ts";
import { type PairData, type PairObjective, pairCuts, pairMethod, pairsOf } from "./pair-trainer.ts";
import { answerSums } from "./pairs.ts";
import { preference } from "./reference.ts";
import { positive } from "./settings.ts";

/** Names of CPO's losses, for `lossType`. */
export const cpoLossNames = ["sigmoid", "hinge", "ipo", "simpo"] as const;

/** CPO's settings, by TRL's names. */
export const cpo = settings(
  "cpo",
  {
    ...pairCuts,
    lossType: preference.choice(cpoLossNames, "sigmoid", "The loss; simpo with cpo_alpha 0 is SimPO"),
    beta: preference.float(0.1, "Steepness of the loss", positive),
    labelSmoothing: preference.float(0, "Share of pairs taken to be labelled the wrong way round", {
      min: 0,
      max: 0.5,
    }),
    simpoGamma: preference.float(0.5, "Margin that simpo asks for", { min: 0, effect: where("lossType", "simpo") }),
    cpoAlpha: preference.float(1, "Weight of the chosen answers' negative log-likelihood", { min: 0 }),
    ...preferenceBasics,
  },
  ({ lossType, labelSmoothing }, name) => {
    if (labelSmoothing === 0 || lossType === "sigmoid" || lossType === "simpo") return;
    throw new UserError(`${name("labelSmoothing")} does not apply to ${lossType}; it applies to sigmoid, simpo`);
  },
);

/** CPO's settings, resolved. */
export type CpoSettings = ReturnType<typeof cpo>;

/** Settings of CPO's loss. */
export type CpoLossOptions = Pick<CpoSettings, "lossType" | "beta" | "labelSmoothing" | "simpoGamma">;

/** ipo and simpo count an answer's mean log-probability per token, the others the sum. */
const averages = ({ lossType }: CpoLossOptions): boolean => lossType === "ipo" || lossType === "simpo";

/**
 * CPO's loss of each pair, [pairs]: DPO's losses with a uniform reference; simpo is -log sigmoid(beta (w - l) - gamma).
 * @param chosen log p of the chosen answers, [pairs]: means per token for ipo and simpo, else sums; `rejected` likewise
 */
export function cpoLoss(chosen: Tensor, rejected: Tensor, o: CpoLossOptions): Tensor {
  const { lossType, beta, labelSmoothing, simpoGamma } = o;
  const delta = sub(chosen, rejected);
  if (lossType === "hinge") return relu(addScalar(scale(delta, -beta), 1));
  if (lossType === "ipo") return square(addScalar(delta, -1 / (2 * beta)));
  const x = scale(delta, beta);
  return smoothed(lossType === "simpo" ? addScalar(x, -simpoGamma) : x, labelSmoothing);
}

/** Trains the policy in place. Throws `UserError` as `trainDpo` does. */
export async function* trainCpo(
  models: { policy: CausalLM; tokenizer?: TextTokenizer },
  data: PairData,
  chosen: SettingsInput<typeof cpo.table> = {},
  run: RunOptions = {},
): AsyncGenerator<TrainEvent> {
  const o = cpo(chosen);
  const { policy } = models;
  const method = { stage: "cpo", ...pairMethod(policy, o, cpoObjective(o)) };
  yield* trainOnExamples(policy, yield* pairsOf(data, models, o), o, method, run);
}

/** The objective of CPO and SimPO: a loss of a batch of pairs that needs no reference. */
export function cpoObjective(o: CpoLossOptions & Pick<CpoSettings, "cpoAlpha">): PairObjective {
  const { cpoAlpha, beta } = o;
  return {
    answers: {},
    loss(answers) {
      const sums = answerSums(answers);
      const [chosen, rejected] = averages(o) ? [sums.chosenMean, sums.rejectedMean] : [sums.chosen, sums.rejected];
      const contrast = mean(cpoLoss(chosen, rejected, o));
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
