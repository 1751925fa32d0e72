import { orpoDefaults, trainOrpo } from "../../rlhf/preference/orpo.ts";
import { consume } from "../consume.ts";
import { pairData } from "../data/datasets.ts";
import { cutOptions, withPolicy } from "../models/preference.ts";
import { orpoOptions } from "../options/dpo.ts";
import { defineVerb } from "../verb.ts";

export const orpoVerb = defineVerb({
  name: "orpo",
  summary: "Fine-tune on better answers and away from worse ones at once (ORPO)",
  options: orpoOptions,
  examples: ["webrlhf orpo --model_name_or_path base --dataset_name pairs.jsonl --learning_rate 8e-6"],
  async run(o, context) {
    await withPolicy(o, context, async ({ policy, tokenizer, maxLength, training }) => {
      const data = await pairData(o, tokenizer, cutOptions(o, maxLength), context.terminal);
      await consume(trainOrpo(policy, { ...orpoDefaults, ...training, ...data, beta: o.beta }), o, context);
    });
  },
});
