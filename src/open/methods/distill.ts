/** Distillation by names: a student and its teacher are model folders. */
import { distill, trainDistill } from "../../rlhf/distill.ts";
import { sameIds } from "../../rlhf/reward/foreign.ts";
import { model } from "../../rlhf/settings.ts";
import { UserError } from "../../runtime/errors.ts";
import { spelled } from "../../settings/index.ts";
import * as named from "../settings.ts";
import { drawnBy } from "./drawn.ts";
import { summaries } from "./names.ts";
import { learned, onDataset, openPolicy } from "./on-dataset.ts";

const distillNames = {
  ...named.startSettings(0.05, "Student to start from: a model folder"),
  teacherModelNameOrPath: model.path(
    null,
    "Teacher: a model folder with the student's tokenizer, of any size and family",
    {
      required: true,
      aka: ["teacher_model"],
    },
  ),
  ...named.referenceWeights,
  ...learned,
  ...named.serverSettings,
};

/** Distillation, by names. */
const distillMethod = onDataset(
  distill,
  distillNames,
  {
    summary: summaries.distill,
    examples: [
      "webrlhf distill --model_name_or_path small --teacher_model_name_or_path large --dataset_name prompts.jsonl",
      "webrlhf distill --model_name_or_path small --teacher_model_name_or_path large --use_peft --ref_model_dtype int4",
      "webrlhf distill --config distill.yaml --dialect gkd --dataset_name answered.jsonl",
    ],
  },
  async (o, opener, around) => {
    const path = o.teacherModelNameOrPath as string;
    const { policy, tokenizer } = await openPolicy(opener, o.modelNameOrPath as string);
    await opener.refuseJudge(path);
    const own = await opener.tokenizerBeside(path);
    if (own && !sameIds(own, tokenizer)) {
      throw new UserError(
        `${path} has another tokenizer than the student, whose every token it is to predict: name a teacher with the student's ` +
          `by ${spelled(o, "teacherModelNameOrPath")}`,
      );
    }
    const teacher = await opener.frozenPolicy(path, "teacher");
    return { policy, teacher, tokenizer, ...(await drawnBy(o, around, { policy, tokenizer }, o.maxSteps)) };
  },
  trainDistill,
);

/** Methods that learn from another model. */
export const distillMethods = { distill: distillMethod };
