import { ODIN_LABELS, plainScoring, type ScoreType } from "../../nn/scoring.ts";
import { pairFiles } from "../../rlhf/pairwise/folder.ts";
import { PairWriter, pairTemplates } from "../../rlhf/pairwise/template.ts";
import { pairwise, trainPairwise } from "../../rlhf/pairwise/train.ts";
import { cost, reward, trainCost, trainReward } from "../../rlhf/reward.ts";
import { data, model } from "../../rlhf/settings.ts";
import { UserError } from "../../runtime/errors.ts";
import type { ModelOpener } from "../opener.ts";
import * as named from "../settings.ts";
import { summaries } from "./names.ts";
import { learned, onDataset, openLanguageModel } from "./on-dataset.ts";

const scorerNames = {
  ...named.startSettings(0, "Model folder whose body the model starts from"),
  scoreBias: model.bool(false, "Give the score head a bias, as safe-rlhf does; a head that has one keeps it", {
    aka: ["bias"],
  }),
  ...learned,
};

/** The scorer that a run trains, with its tokenizer; a fresh head is as the settings say. */
async function openTrained(
  o: { modelNameOrPath: string | null; scoreBias: boolean; lossType?: string },
  opener: ModelOpener,
  type: ScoreType,
) {
  const name = o.modelNameOrPath as string;
  const odin = o.lossType === "odin";
  await opener.refuseSecondAdapter(name);
  const tokenizer = await opener.trainingTokenizer(name);
  const scorer = await opener.scorer(name, `${type} model`, {
    ...(o.scoreBias && { bias: true }),
    ...(odin && { scoring: plainScoring(ODIN_LABELS) }),
  });
  tokenizer.checkFits(scorer.config.vocabSize);
  if (!odin && scorer.scoring.labels.length > 1) {
    throw new UserError(`${name} has a head for the length besides the reward: train it with loss_type odin`);
  }
  scorer.scoring.type = type;
  return { model: scorer, tokenizer };
}

/** Reward models, by names. */
const rewardMethod = onDataset(
  reward,
  scorerNames,
  {
    summary: summaries.reward,
    examples: [
      "webrlhf reward --model_name_or_path out/sft --output_dir out/reward",
      "webrlhf reward --model_name_or_path out/sft --dataset_name pairs.jsonl.gz --test_size 0.1",
      "webrlhf reward --model_name_or_path out/sft --dataset_name pairs.jsonl --loss_type odin",
    ],
  },
  (o, opener) => openTrained(o, opener, "reward"),
  trainReward,
);

/** Cost models, by names. */
const costMethod = onDataset(
  cost,
  scorerNames,
  {
    summary: summaries.cost,
    examples: [
      "webrlhf cost --model_name_or_path out/sft --dataset_name PKU-SafeRLHF-30K/train --output_dir out/cost",
      "webrlhf cost --model_name_or_path out/sft --dataset_name safety.jsonl --test_size 0.1",
    ],
  },
  (o, opener) => openTrained(o, opener, "cost"),
  trainCost,
);

/** Pair-preference models, by names. */
const pairwiseMethod = onDataset(
  pairwise,
  {
    ...named.startSettings(0, "Language model to start from"),
    ...learned,
    pairTemplate: data.choice(
      ["auto", ...pairTemplates],
      "auto",
      "How a question is written: within the chat template, plainly, or by letters alone for tiny vocabularies; auto " +
        "takes the first of these that the model can do",
    ),
    pairBos: data.bool(false, "Begin questions with the beginning-of-text token; RLHFlow reads without one"),
  },
  {
    summary: summaries.pairwise,
    examples: [
      "webrlhf pairwise --model_name_or_path out/sft --dataset_name pairs.jsonl.gz --output_dir out/pairwise",
      "webrlhf pairwise --model_name_or_path my-chat-model --dataset_name pairs.jsonl --use_peft --rrm_augmentation",
    ],
  },
  async (o, opener) => {
    const opened = await openLanguageModel(opener, o.modelNameOrPath as string);
    const template = o.pairTemplate === "auto" ? null : o.pairTemplate;
    return { ...opened, writer: new PairWriter(opened.tokenizer, template, o.pairBos) };
  },
  trainPairwise,
  { besides: ({ writer }) => pairFiles(writer) },
);

/** Methods that make rewards of comparisons. */
export const rewardMethods = { reward: rewardMethod, cost: costMethod, pairwise: pairwiseMethod };
