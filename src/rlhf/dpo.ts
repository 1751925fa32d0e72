/**
 * Direct preference optimisation (Rafailov et al. 2023): a policy learns from pairs of a better and a worse answer,
 * measured against a reference, with no reward model and no sampling. The losses are rows of losses/preference.ts.
 */

import type { CausalLM } from "../nn/models.ts";
import type { TextTokenizer } from "../nn/text-tokenizer.ts";
import { UserError } from "../runtime/errors.ts";
import { didYouMean, live, needs, type SettingsInput, type SettingValues, settings, where } from "../settings/index.ts";
import { noGrad, type Tensor } from "../tensor/core.ts";
import { add, mul, scale, sub } from "../tensor/ops/elementwise.ts";
import { mean, sum } from "../tensor/ops/reduce.ts";
import { segmentSums } from "../tensor/ops/segments.ts";
import { learnerSettings } from "./diloco.ts";
import type { TrainEvent } from "./events.ts";
import { trainOnExamples } from "./examples.ts";
import { inHalf } from "./half.ts";
import type { RunOptions } from "./loop.ts";
import { divergences, preferenceLoss, preferenceLosses, RunningMean } from "./losses/preference.ts";
import { type PairData, type PairLoss, type PairObjective, pairCuts, pairMethod, pairsOf } from "./pair-trainer.ts";
import { type Answers, pairScores } from "./pairs.ts";
import { preference, referencedPairs, referenceOf, referenceSync, syncSettings } from "./reference.ts";
import * as shared from "./settings.ts";

const { positive, probability } = shared;
/** What a loss may be called; "sft" is the mean negative log-likelihood of the chosen answers' tokens. */
const lossNames = (): string[] => [...Object.keys(preferenceLosses), "sft"];

/** The loss of DPO and its variants, as settings. */
export const dpoLossSettings = {
  lossType: preference.list(["sigmoid"], `One or several of ${lossNames().join(", ")}`),
  lossWeights: preference.numbers(null, "Weights of several losses; default: 1 each"),
  beta: preference.float(0.1, "How closely the policy is held to the reference", { ...positive, live: true }),
  labelSmoothing: preference.float(0, "Share of pairs taken to be labelled the wrong way round", { min: 0, max: 0.5 }),
  fDivergenceType: preference.choice(divergences, "reverse_kl", "Divergence that holds the policy near the reference"),
  fAlphaDivergenceCoef: preference.float(0.5, "The alpha of alpha_divergence, as in TRL 1.x", {
    effect: where("fDivergenceType", "alpha_divergence"),
  }),
  lenPenalty: preference.float(0, "Taken from the log-ratio for each token that the chosen answer is longer"),
  rpoAlpha: preference.float(null, "RPO: add this much of the chosen answers' mean negative log-likelihood", {
    min: 0,
  }),
  rpoOver: preference.choice(
    ["sequence", "completion"],
    "sequence",
    "RPO's likelihood is of prompts and chosen answers (TRL 0.8), or of chosen answers",
    { effect: needs("rpoAlpha") },
  ),
  ldAlpha: preference.float(null, "LD-DPO: weight of the tokens beyond a pair's shorter answer", probability),
  useWeighting: preference.bool(false, "WPO: weigh pairs by how likely the policy would write them"),
  discopopTau: preference.float(0.05, "Temperature of discopop", {
    ...positive,
    effect: where("lossType", "discopop"),
  }),
  ipoAverage: preference.bool(true, "Let ipo take means over tokens; false: sums", {
    effect: where("lossType", "ipo"),
  }),
  bcoRunningMean: preference.bool(
    true,
    "Compare in bco_pair with the running mean of rewards; false: with 0 (TRL 1.x)",
    { effect: where("lossType", "bco_pair") },
  ),
};

/** DPO's loss settings, resolved. */
export type DpoLossSettings = SettingValues<typeof dpoLossSettings>;

/** Settings of preference trainers that do not depend on the loss; TRL's defaults. */
export const preferenceBasics = {
  disableDropout: shared.optim.bool(true, "Adapters do not drop out"),
  showMargins: shared.logging.bool(
    false,
    "Keep what every pair's answers are to the policy and the reference in margins.jsonl, whenever it is learned from",
  ),
  ...shared.duration(3),
  ...shared.optimiser(1e-6, "linear", 8),
  ...shared.half,
  ...shared.evaluation,
  ...learnerSettings,
  ...shared.common,
};

/** DPO's settings, by TRL's names. */
export const dpo = settings(
  "dpo",
  {
    ...pairCuts,
    ...syncSettings,
    precomputeRefLogProbs: preference.bool(
      false,
      "Compute the reference's log-probabilities once, before training, and keep no reference",
    ),
    ...dpoLossSettings,
    ...preferenceBasics,
  },
  checkLosses,
);

/** DPO's settings, resolved. */
export type DpoSettings = ReturnType<typeof dpo>;

/** Throws `UserError` for losses and settings that do not go together. */
export function checkLosses(o: DpoLossSettings, name: (key: keyof DpoLossSettings) => string): void {
  const losses = o.lossType;
  if (losses.length === 0) throw new UserError(`${name("lossType")} names no loss`);
  const wrong = losses.find((type) => !lossNames().includes(type));
  if (wrong !== undefined) {
    const known = lossNames();
    throw new UserError(
      `${name("lossType")}: there is no "${wrong}"${didYouMean(wrong, known)}; there are ${known.join(", ")}`,
    );
  }
  if (o.lossWeights !== null && o.lossWeights.length !== losses.length) {
    const count = losses.length === 1 ? "1 number" : `${losses.length} numbers`;
    throw new UserError(`${name("lossWeights")} must be ${count}, one for each loss, not ${o.lossWeights}`);
  }
  const row = (type: string) =>
    type === "sft" ? { of: "delta", sorts: false, smooths: false } : preferenceLosses[type];
  const those = (of: (type: string) => boolean) => lossNames().filter(of).join(", ");
  const sorted = losses.find((type) => row(type).sorts);
  if (o.useWeighting && sorted) {
    throw new UserError(
      `${name("useWeighting")} does not apply to the loss ${sorted}, which has no loss for each pair`,
    );
  }
  if (o.labelSmoothing !== 0 && !losses.some((type) => row(type).smooths)) {
    const smooth = those((type) => row(type).smooths === true);
    throw new UserError(`${name("labelSmoothing")} does not apply to ${losses.join(", ")}; it applies to ${smooth}`);
  }
  if (losses.includes("robust") && o.labelSmoothing >= 0.5) {
    throw new UserError(
      `${name("labelSmoothing")} must be below 0.5 for robust, not ${o.labelSmoothing}: labels would say nothing`,
    );
  }
  const other = losses.find((type) => row(type).of !== "delta");
  if (other && (o.fDivergenceType !== "reverse_kl" || o.lenPenalty !== 0)) {
    const what =
      o.fDivergenceType === "reverse_kl" ? name("lenPenalty") : `${name("fDivergenceType")} ${o.fDivergenceType}`;
    const delta = those((type) => row(type).of === "delta");
    throw new UserError(`${what} does not apply to the loss ${other}; it applies to ${delta}`);
  }
}

/** The models of a run. */
export interface DpoModels {
  /** Trained in place: a whole model, or an adapter on a base. */
  policy: CausalLM;
  /**
   * The policy as it should stay. Default: the base of the policy's adapter, or a copy, which is freed in the end; with
   * `precomputeRefLogProbs` the policy itself, as it starts.
   */
  reference?: CausalLM;
  /** Default: the policy's own. */
  tokenizer?: TextTokenizer;
}

/**
 * Trains the policy in place.
 * @throws UserError when there is nothing to learn from, when the loss is not finite, or when the reference does not fit
 */
export async function* trainDpo(
  models: DpoModels,
  data: PairData,
  chosen: SettingsInput<typeof dpo.table> = {},
  run: RunOptions = {},
): AsyncGenerator<TrainEvent> {
  const o = live(dpo(chosen));
  const { policy } = models;
  const pairs = yield* pairsOf(data, models, o);
  const before = o.precomputeRefLogProbs;
  const learned = before ? yield* referencedPairs(models.reference ?? policy, pairs, o.fp16) : pairs;
  const { reference, free } = before ? { reference: null, free: () => {} } : referenceOf(policy, models.reference);
  const running = new RunningMean();
  const half = inHalf(o.fp16, [reference]);
  try {
    const method = {
      stage: "dpo",
      ...pairMethod(policy, o, dpoObjective(reference, o, running)),
      ...referenceSync(policy, reference, o),
      state: {
        save: async () => ({ running_mean: await running.save() }),
        load: ({ running_mean }: Record<string, unknown>) =>
          running.load(running_mean as { mean: number; count: number }),
      },
    };
    yield* trainOnExamples(policy, learned, o, method, run);
  } finally {
    half.destroy();
    running.destroy();
    free();
  }
}

/**
 * The objective of DPO and its relatives: the weighted sum of the losses that the settings name.
 * @param reference null takes the log-probabilities that the pairs carry
 * @param running the mean reward so far, for bco_pair; training brings it up to date
 */
export function dpoObjective(reference: CausalLM | null, o: DpoLossSettings, running: RunningMean): PairObjective {
  const { rpoAlpha, rpoOver, ldAlpha, useWeighting } = o;
  const losses = o.lossType.map((type, i) => ({ type, weight: o.lossWeights?.[i] ?? 1 }));
  const ratios = {
    divergence: o.fDivergenceType,
    alphaCoefficient: o.fAlphaDivergenceCoef,
    lengthPenalty: o.lenPenalty,
  };
  return {
    answers: { ldAlpha, withPrompts: rpoAlpha !== null && rpoOver === "sequence", weighted: useWeighting },
    loss(answers, pairs, training): PairLoss {
      const { beta } = o; // as it is now
      const scores = pairScores(answers, pairs, reference, ratios);
      const baseline = (batchMean: Tensor): Tensor => {
        if (!o.bcoRunningMean) return scale(batchMean, 0);
        return training ? running.update(batchMean) : running.value;
      };
      const weigh = (x: Tensor) => (answers.pairWeights ? mul(x, answers.pairWeights) : x);
      let loss: Tensor | null = null;
      for (const { type, weight } of losses) {
        const each = type === "sft" ? chosenNll(answers, "completion") : preferenceLoss(type, scores, o, baseline);
        const term = scale(mean(weigh(each)), weight);
        loss = loss ? add(loss, term) : term;
      }
      if (!loss) throw new Error("no loss");
      const nll = chosenNll(answers, rpoAlpha === null ? "completion" : rpoOver);
      if (rpoAlpha !== null) loss = add(loss, scale(nll, rpoAlpha));
      const whole = loss;
      return noGrad(() => ({
        loss: whole,
        rewards: { chosen: scale(scores.chosenRatio, beta), rejected: scale(scores.rejectedRatio, beta) },
        logps: { chosen: scores.chosen, rejected: scores.rejected },
        refLogps: () => ({
          chosen: sub(scores.chosen, scores.chosenRatio),
          rejected: sub(scores.rejected, scores.rejectedRatio),
        }),
        more: { ...((rpoAlpha !== null || o.lossType.includes("sft")) && { nll_loss: nll }) },
      }));
    },
  };
}

/** Mean negative log-likelihood of the batch's chosen answers, with or without their prompts: [1]. */
export function chosenNll({ logProbs, chosen, chosenWithPrompt }: Answers, over: "sequence" | "completion"): Tensor {
  const segments = over === "sequence" ? chosenWithPrompt : chosen;
  const tokens = segments.reduce((n, { length }) => n + length, 0);
  return scale(sum(segmentSums(logProbs, segments)), -1 / Math.max(1, tokens));
}
