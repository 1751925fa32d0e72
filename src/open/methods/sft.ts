import { isWorld, WORLD } from "../../data/made.ts";
import { decoderConfig } from "../../nn/decoder-config.ts";
import { CausalLM } from "../../nn/models.ts";
import { model } from "../../rlhf/settings.ts";
import { sft, trainSft } from "../../rlhf/sft.ts";
import { UserError } from "../../runtime/errors.ts";
import { basename } from "../../runtime/paths.ts";
import { type ResolvedSettings, spelled } from "../../settings/index.ts";
import type { RunSurroundings } from "../method.ts";
import type { ModelOpener } from "../opener.ts";
import { refuseTraining } from "../precision.ts";
import * as named from "../settings.ts";
import { openTokenizer } from "../tokenizer.ts";
import { summaries } from "./names.ts";
import { learned, onDataset, openPolicy } from "./on-dataset.ts";

const sftNames = {
  ...named.startSettings(0.05, "Model folder to start from; default: from scratch"),
  modelNameOrPath: model.path(null, "Model folder to start from; default: from scratch"),
  ...named.shapeSettings,
  ...learned,
};

/** Supervised fine-tuning, by names. */
const sftMethod = onDataset(
  sft,
  sftNames,
  {
    summary: summaries.sft,
    examples: [
      "webrlhf sft --output_dir out/sft --max_steps 200 --learning_rate 1e-3",
      "webrlhf sft --model_name_or_path my-model --dataset_name train.jsonl.gz --num_train_epochs 2",
    ],
  },
  (o, opener, around) =>
    o.modelNameOrPath === null ? fromScratch(o, opener, around) : openPolicy(opener, o.modelNameOrPath),
  trainSft,
);

/** A fresh model of the shape that the settings describe. */
async function fromScratch(
  o: ResolvedSettings<typeof sftNames> & { seed: number },
  opener: ModelOpener,
  { outputDir = "model" }: RunSurroundings,
) {
  if (o.usePeft) {
    const [adapter, start] = [spelled(o, "usePeft"), spelled(o, "modelNameOrPath")];
    throw new UserError(`${adapter} needs ${start}: an adapter stands on a trained model`);
  }
  refuseTraining(o, "a model from scratch");
  const path = o.tokenizerNameOrPath ?? (isWorld(o.datasetName) ? WORLD : null);
  if (path === null) {
    throw new UserError(
      `a model from scratch needs ${spelled(o, "tokenizerNameOrPath")}; make one with: webrlhf tokenizer train`,
    );
  }
  const tokenizer = await openTokenizer(path, opener.options);
  const config = decoderConfig({
    family: o.modelType,
    vocabSize: tokenizer.vocabSize,
    hiddenSize: o.hiddenSize,
    layers: o.numHiddenLayers,
    heads: o.numAttentionHeads,
    maxPositions: o.maxPositionEmbeddings,
    tieEmbeddings: o.tieWordEmbeddings,
    bosId: tokenizer.bosId ?? null,
    eosId: tokenizer.eosId ?? null,
    padId: tokenizer.padId ?? null,
    ...(o.numKeyValueHeads !== null && { kvHeads: o.numKeyValueHeads }),
    ...(o.intermediateSize !== null && { intermediateSize: o.intermediateSize }),
  });
  const policy = new CausalLM(config, basename(outputDir));
  opener.opened.push(policy);
  return { policy: policy.initialize(o.seed), tokenizer };
}

/** Methods that learn from examples. */
export const sftMethods = { sft: sftMethod };
