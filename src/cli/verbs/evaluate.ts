import { join } from "node:path";
import { isLlmJudge } from "../../open/llm-judge.ts";
import { persisting } from "../../open/surviving.ts";
import type { Evaluation } from "../../report/data.ts";
import { UserError } from "../../runtime/errors.ts";
import { diskFiles } from "../../runtime/files.ts";
import { writeJson } from "../../runtime/json-files.ts";
import { openGpu } from "../gpu.ts";
import { defineVerb } from "../verb.ts";
import { policyResult } from "./evaluate-policy.ts";
import { rewardResult } from "./evaluate-reward.ts";
import { evaluateSettings } from "./evaluate-settings.ts";
import { winRateResult } from "./evaluate-win-rate.ts";
import { summaries } from "./summaries.ts";

export const evaluateVerb = defineVerb({
  name: "evaluate",
  summary: summaries.evaluate,
  settings: evaluateSettings,
  argument: "subject",
  examples: [
    "webrlhf evaluate --model_name_or_path out/ppo --ref_model_name_or_path out/sft --reward_model_path out/reward",
    "webrlhf evaluate reward --reward_model_path out/reward --dataset_name pairs-test.jsonl.gz",
    "webrlhf evaluate reward --reward_model_path out/reward --dataset_name RewardBench/filtered --truncation_side left",
    "webrlhf evaluate --model_name_or_path out/sft --reward_model_path out/reward --best_of 8 --label 'best of 8'",
    "webrlhf evaluate --model_name_or_path out/grpo --environment ./my-environment.ts --max_turns 4",
    "webrlhf evaluate --judge pairs.yaml --model_name_or_path out/dpo --ref_model_name_or_path out/sft --dataset_name prompts.jsonl",
    "webrlhf evaluate --judge pairs.yaml --answers_file answers.jsonl --ref_answers_file reference.json",
    "webrlhf evaluate reward --reward_model_path judge:pairs.yaml --dataset_name labelled.jsonl",
  ],
  endsAtOnce: true,
  product: (o) => ({ folder: o.outputDir }),
  async run(o, context) {
    const { modelNameOrPath: policy } = o;
    if (o.subject === "reward" && policy !== null) {
      throw new UserError("evaluate reward tests the reward model alone: leave model_name_or_path out");
    }
    if (o.judge !== null && o.rewardModelPath !== null) {
      throw new UserError("judge compares answers by itself: leave reward_model_path out");
    }
    if (o.judge !== null && o.subject === "reward") {
      throw new UserError(
        "a judge's agreement with labels is measured by reward_model_path judge:FILE: leave judge out",
      );
    }
    if (o.judge === null && o.subject === "policy" && policy === null) {
      throw new UserError("evaluate policy needs a policy: pass --model_name_or_path");
    }
    const files = await diskFiles();
    const measured = async (): Promise<Evaluation> => {
      if (o.judge !== null) return { win_rate: await winRateResult(o, context) };
      if (policy === null && isLlmJudge(o.rewardModelPath as string))
        return { reward_model: await rewardResult(o, context) };
      const { name: adapter } = await openGpu(context.terminal);
      return policy === null
        ? { adapter, reward_model: await rewardResult(o, context) }
        : { adapter, policy: await policyResult(o, policy, context) };
    };
    const result = await persisting(measured, (text) => context.terminal.line(text), context.signal);
    await writeJson(files, join(o.outputDir, "evaluation.json"), result);
  },
});
