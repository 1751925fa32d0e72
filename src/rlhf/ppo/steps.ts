/** The losses of PPO and their gradients on a few sequences at a time. */
import type { CausalLM, ScoreModel } from "../../nn/models.ts";
import { backward, noGrad, type Tensor, tensor } from "../../tensor/core.ts";
import { add, scale } from "../../tensor/ops/elementwise.ts";
import { concat } from "../../tensor/ops/shape.ts";
import { pack, predictions, type Sequence } from "../batch.ts";
import { nllLoss } from "../losses/nll.ts";
import { entropyLoss, klLoss, policyLoss, valueLoss } from "../losses/policy.ts";
import { valueRows } from "../rollout.ts";
import { tokenWeights } from "../stats.ts";
import type { Experience } from "./advantages.ts";
import type { PpoOptions } from "./options.ts";

/** What a micro-batch counts for in the average of its optimizer step: tokens or sequences, so that its size is no matter. */
export const weightOf = (part: readonly Experience[], { average }: Pick<PpoOptions, "average">): number =>
  average === "token" ? part.reduce((n, e) => n + e.logProbs.length, 0) : part.length;

/** The same for the critic, which has one value more where a score has a slot of its own. */
export const valueWeightOf = (part: readonly Experience[], { average }: Pick<PpoOptions, "average">): number =>
  average === "token" ? part.reduce((n, e) => n + e.values.length, 0) : part.length;

/** What a micro-step leaves to be read: loss, then new log-probabilities and entropies. */
export interface Watched {
  watch: Tensor;
  oldLogProbs: Float32Array;
  advantages: Float32Array;
}

type LossOptions = Pick<
  PpoOptions,
  | "average"
  | "tempered"
  | "temperature"
  | "clipRange"
  | "clipRangeHigh"
  | "dualClip"
  | "entropyCoef"
  | "klPlacement"
  | "klEstimator"
  | "klClamp"
> & { klCoef: number };

/** One array of all responses, one after another. */
export const flat = (experience: readonly Experience[], pick: (e: Experience) => ArrayLike<number>): Float32Array =>
  Float32Array.from(experience.flatMap((e) => Array.from(pick(e))));

/** The actor's loss and gradient on a few sequences; `share` is the micro-batch's part of the optimizer step. */
export function policyMicroStep(
  actor: CausalLM,
  experience: readonly Experience[],
  share: number,
  options: LossOptions,
): Watched {
  const sequences = experience.map((e) => e.response);
  const { ids, packing, starts } = pack(sequences);
  const { rows, targets, lengths } = predictions(sequences, starts);
  const weights = tensor(tokenWeights(lengths, options.average));
  const oldLogProbs = flat(experience, (e) => e.logProbs);
  const temperature = options.tempered === true ? options.temperature : 1;
  const { logProbs, entropy } = actor.logProbs(ids, packing, rows, targets, temperature);
  const advantages = flat(experience, (e) => e.advantages);
  const constants = { oldLogProbs: tensor(oldLogProbs), advantages: tensor(advantages), weights };
  let loss = policyLoss(logProbs, constants, options);
  if (options.klPlacement === "loss" && options.klCoef !== 0) {
    const refLogProbs = tensor(flat(experience, (e) => e.refLogProbs ?? e.logProbs));
    const limit = options.klClamp ?? Number.POSITIVE_INFINITY;
    loss = add(loss, scale(klLoss(logProbs, { refLogProbs, weights }, options.klEstimator, limit), options.klCoef));
  }
  if (options.entropyCoef !== 0) loss = add(loss, scale(entropyLoss(entropy, weights), options.entropyCoef));
  const watch = noGrad(() => concat([loss, logProbs, entropy]));
  backward(loss, share);
  return { watch, oldLogProbs, advantages };
}

/** The supervised loss on a few sequences, and its gradient times `factor`. Its average is over `predicted` tokens. */
export function ptxMicroStep(
  actor: CausalLM,
  sequences: readonly Sequence[],
  predicted: number,
  factor: number,
): Tensor {
  const { ids, packing, starts } = pack(sequences);
  const { rows, targets } = predictions(sequences, starts);
  const { logProbs } = actor.logProbs(ids, packing, rows, targets);
  const loss = nllLoss(logProbs, 1 / predicted);
  const watch = noGrad(() => concat([loss]));
  backward(loss, factor);
  return watch;
}

/** The critic's loss and gradient likewise. Leaves its loss and new values. */
export function valueMicroStep(
  critic: ScoreModel,
  experience: readonly Experience[],
  share: number,
  options: Pick<PpoOptions, "average" | "clipRangeValue" | "vfCoef">,
): Tensor {
  const sequences = experience.map((e) => e.response);
  const { ids, packing, starts } = pack(sequences);
  const slots = experience.map((e) => e.values.length);
  const weights = tensor(tokenWeights(slots, options.average));
  const values = critic.scores(ids, packing, valueRows(sequences, starts, slots));
  const loss = valueLoss(
    values,
    {
      oldValues: tensor(flat(experience, (e) => e.values)),
      returns: tensor(flat(experience, (e) => e.returns)),
      weights,
    },
    options.clipRangeValue,
  );
  const watch = noGrad(() => concat([loss, values]));
  backward(loss, share * options.vfCoef);
  return watch;
}
