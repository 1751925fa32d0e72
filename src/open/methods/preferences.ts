import { cpo, trainCpo } from "../../rlhf/cpo.ts";
import { dpo, trainDpo } from "../../rlhf/dpo.ts";
import { kto, trainKto } from "../../rlhf/kto.ts";
import { orpo, trainOrpo } from "../../rlhf/orpo.ts";
import type { ModelOpener } from "../opener.ts";
import * as named from "../settings.ts";
import { summaries } from "./names.ts";
import { learned, onDataset, openPolicy } from "./on-dataset.ts";

const POLICY = "Policy to start from: a model folder, usually made by sft";
const policyNames = { ...named.startSettings(0.05, POLICY), ...learned };
const comparedNames = { ...policyNames, ...named.referenceSettings };

interface ComparedNames {
  modelNameOrPath: string | null;
  refModelNameOrPath: string | null;
  usePeft: boolean;
}

/** The policy with its reference: a copy as it starts, its base where it is a new adapter, or another model. */
async function openCompared(o: ComparedNames, opener: ModelOpener) {
  const start = o.modelNameOrPath as string;
  return {
    ...(await openPolicy(opener, start)),
    reference: await opener.frozenPolicy(o.refModelNameOrPath ?? start),
  };
}

/** DPO and its relatives, by names. */
const dpoMethod = onDataset(
  dpo,
  comparedNames,
  {
    summary: summaries.dpo,
    examples: [
      "webrlhf dpo --model_name_or_path out/sft --output_dir out/dpo",
      "webrlhf dpo --model_name_or_path out/sft --dataset_name pairs.jsonl --loss_type ipo --beta 0.05",
      "webrlhf dpo --model_name_or_path out/sft --use_peft --loss_type sigmoid,bco_pair,sft --loss_weights 0.8,0.2,1",
    ],
  },
  // What is computed before training is asked of the policy itself, unless the reference is another model.
  (o, opener) =>
    o.precomputeRefLogProbs && o.refModelNameOrPath === null && !o.usePeft
      ? openPolicy(opener, o.modelNameOrPath as string)
      : openCompared(o, opener),
  trainDpo,
);

/** KTO, by names. */
const ktoMethod = onDataset(
  kto,
  comparedNames,
  {
    summary: summaries.kto,
    examples: [
      "webrlhf kto --model_name_or_path out/sft --dataset_name labelled.jsonl",
      "webrlhf kto --model_name_or_path out/sft --dataset_name pairs.jsonl --undesirable_weight 0.8",
    ],
  },
  openCompared,
  trainKto,
);

/** ORPO, by names. */
const orpoMethod = onDataset(
  orpo,
  policyNames,
  {
    summary: summaries.orpo,
    examples: ["webrlhf orpo --model_name_or_path base --dataset_name pairs.jsonl --learning_rate 8e-6"],
  },
  (o, opener) => openPolicy(opener, o.modelNameOrPath as string),
  trainOrpo,
);

/** CPO and SimPO, by names. */
const cpoMethod = onDataset(
  cpo,
  policyNames,
  {
    summary: summaries.cpo,
    examples: [
      "webrlhf cpo --model_name_or_path out/sft --dataset_name pairs.jsonl",
      "webrlhf cpo --model_name_or_path out/sft --loss_type simpo --cpo_alpha 0 --beta 2 --simpo_gamma 1",
    ],
  },
  (o, opener) => openPolicy(opener, o.modelNameOrPath as string),
  trainCpo,
);

/** Methods that learn from comparisons without a reward. */
export const preferenceMethods = { dpo: dpoMethod, kto: ktoMethod, orpo: orpoMethod, cpo: cpoMethod };
