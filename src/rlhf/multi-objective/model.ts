/** A multi-objective reward model at work: a frozen model with its head. */

import type { Model } from "../../nn/models.ts";
import { UserError } from "../../runtime/errors.ts";
import type { Sequence } from "../batch.ts";
import type { RewardFunction } from "../rewards.ts";
import { sequenceFeatures } from "./features.ts";
import type { HeadScores, MultiObjectiveHead } from "./head.ts";

/** Scores of sequences, with the rewards of every attribute and their weights. */
export async function multiObjectiveScores(
  model: Model,
  head: MultiObjectiveHead,
  sequences: readonly Sequence[],
): Promise<HeadScores> {
  const { hidden_size: width, base_model_name_or_path: base, prompt_pattern: pattern } = head.config;
  if (model.config.hiddenSize !== width) {
    throw new UserError(
      `${base} has hidden states of ${model.config.hiddenSize} values, but the regression was made for ${width}`,
    );
  }
  return head.score(await sequenceFeatures(model, sequences, pattern));
}

/** The reward of a model whose base shares the policy's tokenizer. */
export const multiObjectiveReward =
  (model: Model, head: MultiObjectiveHead): RewardFunction =>
  async (responses) =>
    (await multiObjectiveScores(model, head, responses)).scores;
