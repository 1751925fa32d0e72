import { trainScorer } from "../models/scorer.ts";
import { rewardOptions } from "../options/reward.ts";
import { defineVerb } from "../verb.ts";

export const rewardVerb = defineVerb({
  name: "reward",
  summary: "Train a reward model on pairs of a better and a worse answer",
  options: rewardOptions,
  examples: [
    "webrlhf reward --model_name_or_path out/sft --output_dir out/reward",
    "webrlhf reward --model_name_or_path out/sft --dataset_name pairs.jsonl.gz --test_size 0.1",
    "webrlhf reward --model_name_or_path out/sft --dataset_name pairs.jsonl --loss_type odin",
  ],
  run: (o, context) =>
    trainScorer(
      o,
      {
        type: "reward",
        consumer: "preference",
        odin: o.loss_type === "odin",
        loss: {
          lossType: o.loss_type === "token-wise" ? "token-wise" : "sequence-wise",
          regularizationOver: o.regularization_over,
          centering: o.center_rewards_coefficient,
          lengthCoef: o.odin_length_coef,
          ranking: o.odin_ranking,
        },
      },
      context,
    ),
});
