import { pairFiles } from "../../rlhf/pairwise/folder.ts";
import { PairWriter } from "../../rlhf/pairwise/template.ts";
import { trainPairwise } from "../../rlhf/pairwise/train.ts";
import { trainingDefaults } from "../../rlhf/training.ts";
import { diskFiles } from "../../runtime/files.ts";
import { consume } from "../consume.ts";
import { questionData } from "../data/datasets.ts";
import { openGpu } from "../gpu.ts";
import { contextOf, tokenizerFiles, withModels } from "../models/models.ts";
import { ModelOpener } from "../models/opener.ts";
import { pairwiseOptions } from "../options/pairwise.ts";
import { trainingOptions } from "../train.ts";
import { defineVerb } from "../verb.ts";

export const pairwiseVerb = defineVerb({
  name: "pairwise",
  summary: "Train a language model to say which of two answers is better",
  options: pairwiseOptions,
  examples: [
    "webrlhf pairwise --model_name_or_path out/sft --dataset_name pairs.jsonl.gz --output_dir out/pairwise",
    "webrlhf pairwise --model_name_or_path my-chat-model --dataset_name pairs.jsonl --use_peft --rrm_augmentation",
  ],
  async run(o, context) {
    const files = await diskFiles();
    const { terminal } = context;
    await openGpu(terminal);
    const opener = new ModelOpener(files, o);
    const tokenizer = await opener.trainingTokenizer(o.model_name_or_path!);
    const writer = new PairWriter(tokenizer, o.pair_template === "auto" ? null : o.pair_template, o.pair_bos);
    const answers = [...writer.letters, ...(o.rrm_augmentation ? [writer.idOf(2)] : [])];
    const model = await opener.policy(o.model_name_or_path!);
    await withModels(opener.opened, async () => {
      tokenizer.checkFits(model.config.vocabSize);
      const maxLength = contextOf(model, o.max_length);
      const data = await questionData(o, writer, { maxLength, rrm: o.rrm_augmentation }, terminal);
      const besides = { ...tokenizerFiles(tokenizer), ...pairFiles(writer) };
      const options = {
        ...trainingDefaults,
        ...trainingOptions(o, context),
        fp16: o.fp16,
        epochs: o.num_train_epochs,
        maxSteps: o.max_steps ?? 0,
        answers,
        ...data,
        run: { files, path: o.output_dir, besides, keep: o.save_total_limit },
        resume: o.resume || context.resume,
      };
      await consume(trainPairwise(model, options), o, context);
    });
  },
});
