import { cpoDefaults, trainCpo } from "../../rlhf/preference/cpo.ts";
import { consume } from "../consume.ts";
import { pairData } from "../data/datasets.ts";
import { cutOptions, withPolicy } from "../models/preference.ts";
import { cpoOptions } from "../options/dpo.ts";
import { defineVerb } from "../verb.ts";

export const cpoVerb = defineVerb({
  name: "cpo",
  summary: "Train a policy on pairs without a reference (CPO, SimPO)",
  options: cpoOptions,
  examples: [
    "webrlhf cpo --model_name_or_path out/sft --dataset_name pairs.jsonl",
    "webrlhf cpo --model_name_or_path out/sft --loss_type simpo --cpo_alpha 0 --beta 2 --simpo_gamma 1",
  ],
  async run(o, context) {
    await withPolicy(o, context, async ({ policy, tokenizer, maxLength, training }) => {
      const data = await pairData(o, tokenizer, cutOptions(o, maxLength), context.terminal);
      const loss = {
        lossType: o.loss_type,
        beta: o.beta,
        labelSmoothing: o.label_smoothing,
        simpoGamma: o.simpo_gamma,
        cpoAlpha: o.cpo_alpha,
      };
      await consume(trainCpo(policy, { ...cpoDefaults, ...training, ...data, ...loss }), o, context);
    });
  },
});
