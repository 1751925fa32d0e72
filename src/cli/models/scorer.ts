/** What the verbs that train reward and cost models share: opening, data, statistics. */
import type { Consumer } from "../../data/raw/consumers.ts";
import { mustBeSafetyPair } from "../../data/readers.ts";
import { ODIN_LABELS, plainScoring, type ScoreType } from "../../nn/scoring.ts";
import { differing } from "../../rlhf/preference/pair-batch.ts";
import { type RewardLossOptions, trainReward } from "../../rlhf/reward/reward.ts";
import { trainingDefaults } from "../../rlhf/training.ts";
import { UserError } from "../../runtime/errors.ts";
import { diskFiles } from "../../runtime/files.ts";
import { consume } from "../consume.ts";
import { pairData } from "../data/datasets.ts";
import { openGpu } from "../gpu.ts";
import type { Values } from "../option.ts";
import type { scorerOptions } from "../options/reward.ts";
import { trainingOptions } from "../train.ts";
import type { Context } from "../verb.ts";
import { contextOf, tokenizerFiles, withModels } from "./models.ts";
import { ModelOpener } from "./opener.ts";

export interface ScorerKind {
  type: ScoreType;
  /** What a registered dataset is asked for. */
  consumer: Consumer;
  /** Train a second head for the length. */
  odin?: boolean;
  loss: RewardLossOptions;
}

export async function trainScorer(o: Values<typeof scorerOptions>, kind: ScorerKind, context: Context): Promise<void> {
  const { terminal } = context;
  if (kind.loss.lossType === "token-wise" && o.truncation_side === "left") {
    throw new UserError(
      "loss_type token-wise compares answers place by place, so both must keep their beginning: leave truncation_side right",
    );
  }
  const files = await diskFiles();
  await openGpu(terminal);
  const start = o.model_name_or_path!;
  const opener = new ModelOpener(files, o);
  const tokenizer = await opener.trainingTokenizer(start);
  const model = await opener.scorer(start, `${kind.type} model`, {
    ...(o.score_bias && { bias: true }),
    ...(kind.odin && { scoring: plainScoring(ODIN_LABELS) }),
  });
  await withModels(opener.opened, async () => {
    tokenizer.checkFits(model.config.vocabSize);
    if (!kind.odin && model.scoring.labels.length > 1) {
      throw new UserError(`${start} has a head for the length besides the reward: train it with loss_type odin`);
    }
    model.scoring.type = kind.type;
    const prepare = { maxLength: contextOf(model, o.max_length), truncationSide: o.truncation_side };
    const data = await pairData(o, tokenizer, prepare, terminal, kind.consumer);
    if (kind.type === "cost") for (const { record } of [...data.train, ...data.eval]) mustBeSafetyPair(record);
    const train = differing(data.train);
    const dropped = data.train.length - train.length;
    if (dropped > 0)
      terminal.line(`${dropped} of ${data.train.length} pairs left out: both answers have the same tokens`);
    const { normalizer_type: normalizer } = o;
    const options = {
      ...trainingDefaults,
      ...trainingOptions(o, context),
      fp16: o.fp16,
      epochs: o.num_train_epochs,
      maxSteps: o.max_steps ?? 0,
      regularization: o.regularization,
      padId: tokenizer.padId ?? tokenizer.eosId ?? 0,
      ...kind.loss,
      ...(normalizer !== "none" && { normalizer: { kind: normalizer, momentum: o.normalizer_momentum } }),
      normalizeDuringTraining: o.normalize_score_during_training,
      normalizerUpdates: o.normalizer_updates,
      train,
      eval: data.eval,
      run: { files, path: o.output_dir, besides: tokenizerFiles(tokenizer), keep: o.save_total_limit },
      resume: o.resume || context.resume,
    };
    await consume(trainReward(model, options), o, context);
  });
}
