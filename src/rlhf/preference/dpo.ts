/**
 * Direct preference optimisation (Rafailov et al. 2023): a policy learns from pairs of a better and a worse answer,
 * measured against a reference, with no reward model and no sampling. The losses are in losses/preference.ts.
 */
import type { CausalLM } from "../../nn/models.ts";
import { UserError } from "../../runtime/errors.ts";
import { noGrad, type Tensor } from "../../tensor/core.ts";
import { add, mul, scale } from "../../tensor/ops/elementwise.ts";
import { mean, sum } from "../../tensor/ops/reduce.ts";
import { segmentSums } from "../../tensor/ops/segments.ts";
import type { TrainEvent } from "../events.ts";
import type { Divergence } from "../losses/divergence.ts";
import {
  type PreferenceLossName,
  type PreferenceLossOptions,
  preferenceLoss,
  preferenceLossDefaults,
} from "../losses/preference.ts";
import { RunningMean } from "../losses/running.ts";
import { trainOnExamples } from "../supervised.ts";
import { trainingDefaults } from "../training.ts";
import { type Answers, pairScores } from "./pair-scores.ts";
import { type PairLoss, type PairObjective, type PairTrainingOptions, pairRecipe } from "./pair-trainer.ts";
import { type Reference, referenceModel, referenceSync, type SyncOptions, syncDefaults } from "./reference.ts";

/** A loss by name; "sft" is the mean negative log-likelihood of the chosen answers' tokens. */
export type DpoLossName = PreferenceLossName | "sft";

export interface DpoOptions extends PairTrainingOptions, PreferenceLossOptions, SyncOptions {
  /** Losses that are added up. Default sigmoid alone. */
  losses?: readonly { type: DpoLossName; weight: number }[];
  /** Adds this much of the chosen answers' mean negative log-likelihood (RPO, Pang et al. 2024). Default null: none. */
  rpoAlpha?: number | null;
  /** What that likelihood is of: prompts and chosen answers, as TRL 0.8 has it, or chosen answers. Default "sequence". */
  rpoOver?: "sequence" | "completion";
  /** The divergence that keeps the policy near the reference. Default reverse_kl. */
  divergence?: Divergence;
  /** Of alpha_divergence. Default 0.5. */
  alphaCoefficient?: number;
  /** Taken from z for each token by which the chosen answer is longer than the rejected one. Default 0. */
  lengthPenalty?: number;
  /** Weight of the tokens beyond the length of a pair's shorter answer (LD-DPO). Default null: 1. */
  ldAlpha?: number | null;
  /** Weighs each pair by how likely the policy itself would write it (WPO). Default false. */
  useWeighting?: boolean;
  /** bco_pair's baseline is the running mean of rewards; false is TRL 1.x, which has none. Default true. */
  bcoRunningMean?: boolean;
}

/** TRL's settings. */
export const dpoDefaults = {
  ...trainingDefaults,
  ...preferenceLossDefaults,
  learningRate: 1e-6,
  losses: [{ type: "sigmoid", weight: 1 }] as readonly { type: DpoLossName; weight: number }[],
  rpoAlpha: null as number | null,
  rpoOver: "sequence" as "sequence" | "completion",
  divergence: "reverse_kl" as Divergence,
  alphaCoefficient: 0.5,
  lengthPenalty: 0,
  ldAlpha: null as number | null,
  useWeighting: false,
  bcoRunningMean: true,
  ...syncDefaults,
  disableDropout: true,
};

export interface DpoInputs {
  /** Trained in place: a whole model, or an adapter on a base. */
  policy: CausalLM;
  reference: Reference;
}

type LossOptions = Omit<typeof dpoDefaults, keyof typeof trainingDefaults>;

/**
 * Trains the policy in place.
 * Throws `UserError` when there is nothing to learn from, when the loss is not finite, or when the reference does not fit.
 */
export async function* trainDpo(inputs: DpoInputs, options: DpoOptions): AsyncGenerator<TrainEvent> {
  const { policy } = inputs;
  checkLosses({ ...dpoDefaults, ...options });
  const running = new RunningMean();
  const reference = referenceModel(policy, inputs.reference);
  if (reference) reference.half = options.fp16 === true; // rounded as the policy is, so that both start alike
  const objective = dpoObjective(reference, { ...dpoDefaults, ...options }, running);
  try {
    yield* trainOnExamples(policy, options, {
      stage: "dpo",
      ...pairRecipe(policy, options, objective),
      ...referenceSync(policy, reference, options),
      state: {
        save: async () => ({ running_mean: await running.save() }),
        load: ({ running_mean }) => running.load(running_mean as { mean: number; count: number }),
      },
    });
  } finally {
    if (reference) reference.half = false;
    running.destroy();
  }
}

/** Losses that are made of z, so that an f-divergence or a length penalty changes them. */
const ofDelta: readonly DpoLossName[] = [
  ...(["sigmoid", "sigmoid_norm", "robust", "hinge", "ipo", "exo_pair", "discopop"] as const),
  ...(["rev_kl", "kl", "tv", "hellinger", "sft"] as const),
];

/** Losses that sort the batch, after which they are no pair's own. */
const sorting: readonly DpoLossName[] = ["aot", "aot_pair", "aot_unpaired"];
/** Losses that label smoothing changes. */
const smoothable: readonly DpoLossName[] = ["sigmoid", "sigmoid_norm", "robust", "exo_pair", ...sorting];

/** Throws `UserError` for losses and options that do not go together. */
export function checkLosses({ losses, labelSmoothing, divergence, lengthPenalty, useWeighting }: LossOptions): void {
  if (losses.length === 0) throw new UserError("loss_type names no loss");
  const sorted = losses.find(({ type }) => sorting.includes(type));
  if (useWeighting && sorted) {
    throw new UserError(`use_weighting does not apply to the loss ${sorted.type}, which has no loss for each pair`);
  }
  if (labelSmoothing !== 0 && !losses.some(({ type }) => smoothable.includes(type))) {
    const names = losses.map(({ type }) => type).join(", ");
    throw new UserError(`label_smoothing does not apply to ${names}; it applies to ${smoothable.join(", ")}`);
  }
  if (losses.some(({ type }) => type === "robust") && labelSmoothing >= 0.5) {
    throw new UserError(
      `label_smoothing must be below 0.5 for robust, not ${labelSmoothing}: labels would say nothing`,
    );
  }
  const other = losses.find(({ type }) => !ofDelta.includes(type));
  if (other && (divergence !== "reverse_kl" || lengthPenalty !== 0)) {
    const what = divergence === "reverse_kl" ? "len_penalty" : `f_divergence_type ${divergence}`;
    throw new UserError(`${what} does not apply to the loss ${other.type}; it applies to ${ofDelta.join(", ")}`);
  }
}

/** What DPO makes of a batch of pairs; `reference` null takes the pairs' own numbers. */
export function dpoObjective(reference: CausalLM | null, options: LossOptions, running: RunningMean): PairObjective {
  const { losses, rpoAlpha, rpoOver, beta, ldAlpha, useWeighting } = options;
  return {
    answers: { ldAlpha, withPrompts: rpoAlpha !== null && rpoOver === "sequence", weighted: useWeighting },
    loss(answers, pairs, training): PairLoss {
      const scores = pairScores(answers, pairs, reference, options);
      const baseline = (batchMean: Tensor): Tensor => {
        if (!options.bcoRunningMean) return scale(batchMean, 0);
        return training ? running.update(batchMean) : running.value;
      };
      const weigh = (x: Tensor) => (answers.pairWeights ? mul(x, answers.pairWeights) : x);
      let loss: Tensor | null = null;
      for (const { type, weight } of losses) {
        const each =
          type === "sft" ? chosenNll(answers, "completion") : preferenceLoss(type, scores, options, baseline);
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
        more: { ...((rpoAlpha !== null || losses.some((l) => l.type === "sft")) && { nll_loss: nll }) },
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
