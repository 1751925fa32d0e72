import { ktoDefaults, trainKto } from "../../rlhf/preference/kto.ts";
import { consume } from "../consume.ts";
import { labelledData } from "../data/datasets.ts";
import { openReference, syncOptions, withPolicy } from "../models/preference.ts";
import { ktoOptions } from "../options/dpo.ts";
import { defineVerb } from "../verb.ts";

export const ktoVerb = defineVerb({
  name: "kto",
  summary: "Train a policy on single answers labelled good or bad (KTO)",
  options: ktoOptions,
  examples: [
    "webrlhf kto --model_name_or_path out/sft --dataset_name labelled.jsonl",
    "webrlhf kto --model_name_or_path out/sft --dataset_name pairs.jsonl --undesirable_weight 0.8",
  ],
  async run(o, context) {
    await withPolicy(o, context, async ({ policy, tokenizer, opener, maxLength, training }) => {
      const data = await labelledData(o, tokenizer, { maxLength }, context.terminal);
      const reference = await openReference(opener, o);
      const options = {
        ...ktoDefaults,
        ...training,
        ...syncOptions(o),
        ...data,
        maxLength,
        lossType: o.loss_type,
        beta: o.beta,
        desirableWeight: o.desirable_weight,
        undesirableWeight: o.undesirable_weight,
      };
      await consume(trainKto({ policy, reference }, options), o, context);
    });
  },
});
