import { trainScorer } from "../models/scorer.ts";
import { costOptions } from "../options/reward.ts";
import { defineVerb } from "../verb.ts";

export const costVerb = defineVerb({
  name: "cost",
  summary: "Train a cost model on pairs of a safer and a less safe answer, each labelled safe or not",
  options: costOptions,
  examples: [
    "webrlhf cost --model_name_or_path out/sft --dataset_name PKU-SafeRLHF-30K/train --output_dir out/cost",
    "webrlhf cost --model_name_or_path out/sft --dataset_name safety.jsonl --test_size 0.1",
  ],
  run: (o, context) =>
    trainScorer(o, { type: "cost", consumer: "safety", loss: { regularizationOver: o.regularization_over } }, context),
});
