import type { SampledRow } from "../../data/scored-rows.ts";
import { trainIteratively } from "../../rlhf/iterate/iterate.ts";
import { responseOf } from "../../rlhf/iterate/iteration.ts";
import type { IterateOptions } from "../../rlhf/iterate/options.ts";
import type { PairOptions } from "../../rlhf/iterate/pairs.ts";
import { dpoDefaults } from "../../rlhf/preference/dpo.ts";
import type { Prompt } from "../../rlhf/rollout.ts";
import { UserError } from "../../runtime/errors.ts";
import { diskFiles } from "../../runtime/files.ts";
import { consume } from "../consume.ts";
import { promptData } from "../data/datasets.ts";
import { openGpu } from "../gpu.ts";
import { serverSampler } from "../models/another-server.ts";
import { openJudge } from "../models/judge.ts";
import { goldOf, tokenizerFiles, WORLD, withModels } from "../models/models.ts";
import { ModelOpener } from "../models/opener.ts";
import { eosIdsOf } from "../models/text-models.ts";
import type { Values } from "../option.ts";
import { iterateOptions } from "../options/iterate.ts";
import type { pairChoice } from "../options/pairs.ts";
import type { Terminal } from "../terminal.ts";
import { trainingOptions } from "../train.ts";
import { type Context, defineVerb } from "../verb.ts";
import { lossOptions } from "./dpo.ts";

type Options = Values<typeof iterateOptions>;

export const iterateVerb = defineVerb({
  name: "iterate",
  summary: "Train a policy by online iterative DPO: sample, score, pair and train, round after round",
  options: iterateOptions,
  examples: [
    "webrlhf iterate --model_name_or_path out/sft --reward_model_path out/reward --iterations 3 --output_dir out/iterate",
    "webrlhf iterate --model_name_or_path out/sft --reward_model_path out/pairwise --reference initial --k 4",
    "webrlhf iterate --use_peft --model_name_or_path base --reward_model_path out/reward --server http://127.0.0.1:8000",
  ],
  async run(o, context) {
    const files = await diskFiles();
    const { terminal } = context;
    await openGpu(terminal);
    const start = o.model_name_or_path!;
    const opener = new ModelOpener(files, o);
    const tokenizer = await opener.tokenizer(start);
    const policy = await opener.policy(start);
    const initial = await opener.frozenPolicy(start);
    let prompts: Prompt[] = [];
    const sequence = (row: SampledRow, k: number) => responseOf(prompts[row.id as number], row, k);
    const { judge, reward } = await openJudge(
      opener,
      files,
      o.reward_model_path!,
      o.preference_ranking,
      sequence,
      tokenizer,
    );
    await withModels(opener.opened, async () => {
      tokenizer.checkFits(policy.config.vocabSize);
      const room = { context: policy.config.maxPositions, response: o.response_length };
      prompts = await promptData(o, "train", tokenizer, room, terminal);
      const held = hasHeldOut(o) ? await promptData(o, "test", tokenizer, room, terminal) : [];
      const sampler = await serverSampler(o, o.iterations, policy, tokenizer, files, context.signal);
      const gold = goldOf(o.dataset_name);
      const inputs = {
        policy,
        initial,
        tokenizer,
        prompts,
        judge,
        ...(sampler && { sampler }),
        evaluation: { prompts: held, ...(reward && { reward }) },
        ...(gold && { gold }),
        run: { files, path: o.output_dir, besides: tokenizerFiles(tokenizer), keep: o.save_total_limit },
        resume: o.resume || context.resume,
        progress: progressLines(terminal, context.label),
      };
      await consume(trainIteratively(inputs, trainerOptions(o, context)), o, context);
    });
  },
});

const trainerOptions = (o: Options, context: Context): IterateOptions => ({
  ...dpoDefaults,
  ...trainingOptions(o, context),
  ...lossOptions(o),
  fp16: o.fp16,
  epochs: o.num_train_epochs,
  maxSteps: o.max_steps ?? 0,
  disableDropout: o.disable_dropout,
  iterations: o.iterations,
  promptsPerIteration: o.prompts_per_iteration ?? 0,
  samples: o.num_return_sequences,
  temperature: o.temperature,
  topK: o.top_k,
  topP: o.top_p,
  ...eosIdsOf(o),
  responseLength: o.response_length,
  reference: o.reference,
  pairs: pairSettings(o),
  showSamples: o.show_samples,
});

/** The pair rule that the options describe. Throws `UserError` for options that it would not look at. */
export function pairSettings(o: Values<typeof pairChoice>): Omit<PairOptions, "seed"> {
  if (o.pair_dialect === "online-rlhf") {
    if (o.use_fast)
      throw new UserError("use_fast goes with --pair_dialect lmflow; online-rlhf takes fixed places anyway");
    if (o.length_penalty !== 0 && o.choose_type !== "max_min_p") {
      throw new UserError(
        `length_penalty does not apply to choose_type ${o.choose_type} of online-rlhf: use max_min_p, or --pair_dialect lmflow`,
      );
    }
  }
  return {
    chooseType: o.choose_type,
    dialect: o.pair_dialect,
    useFast: o.use_fast,
    lengthPenalty: o.length_penalty,
    marginScale: o.margin_scale,
    dropEmpty: o.drop_empty,
    dropTruncated: o.drop_truncated,
    dropIdentical: o.drop_identical,
    minMargin: o.min_margin,
  };
}

const hasHeldOut = (o: Options): boolean =>
  o.dataset_name === WORLD || o.test_size > 0 || o.eval_dataset_name !== null || o.dataset_test_split !== null;

/** A line for every tenth of a stage. */
function progressLines(terminal: Terminal, label: string) {
  let told = "";
  return (iteration: number, stage: string, done: number, total: number): void => {
    const tenth = Math.floor((10 * done) / total);
    const mark = `${iteration} ${stage} ${tenth}`;
    if (mark === told) return;
    told = mark;
    terminal.line(`${terminal.style("cyan", label)}: iteration ${iteration}, ${stage}: ${done} of ${total} prompts`);
  };
}
