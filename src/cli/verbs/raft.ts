import { cleanLmflow, type DiscardSample, discardContaining, discardLmflow } from "../../rlhf/raft/hooks.ts";
import { dialectHooks, type RaftOptions, raftDefaults, raftDialects } from "../../rlhf/raft/options.ts";
import { plantedReward } from "../../rlhf/raft/planted.ts";
import { trainRaft } from "../../rlhf/raft/raft.ts";
import type { Prompt, RewardFunction } from "../../rlhf/rollout.ts";
import { UserError } from "../../runtime/errors.ts";
import { diskFiles } from "../../runtime/files.ts";
import { consume } from "../consume.ts";
import { promptData } from "../data/datasets.ts";
import { openGpu } from "../gpu.ts";
import { serverSampler } from "../models/another-server.ts";
import { goldOf, tokenizerFiles, withModels } from "../models/models.ts";
import { ModelOpener, openReward } from "../models/opener.ts";
import type { Values } from "../option.ts";
import { raftOptions } from "../options/raft.ts";
import type { Terminal } from "../terminal.ts";
import { trainingOptions } from "../train.ts";
import { type Context, defineVerb } from "../verb.ts";
import { keepRewards } from "./raft-rewards.ts";

export const raftVerb = defineVerb({
  name: "raft",
  summary: "Train a policy on its own best responses by a reward model (RAFT)",
  options: raftOptions,
  examples: [
    "webrlhf raft --model_name_or_path out/sft --reward_model_path out/reward --output_dir out/raft",
    "webrlhf raft --use_peft --model_name_or_path base --reward_model_path out/reward --server http://127.0.0.1:8000",
    "webrlhf raft --config raft.yaml --collection_strategy top --top_reward_percentage 0.125",
  ],
  async run(o, context) {
    const files = await diskFiles();
    const { terminal } = context;
    await openGpu(terminal);
    const opener = new ModelOpener(files, o);
    const tokenizer = await opener.tokenizer(o.model_name_or_path!);
    const model = await opener.policy(o.model_name_or_path!);
    tokenizer.checkFits(model.config.vocabSize);
    const reference = await opener.frozenPolicy(o.model_name_or_path!);
    const reward = planted(o, await openReward(opener, o.reward_model_path!, tokenizer));
    await withModels(opener.opened, async () => {
      const room = { context: model.config.maxPositions, response: o.output_max_length };
      const inputs = {
        model,
        reference,
        reward,
        tokenizer,
        prompts: shortEnough(o, await promptData(promptChoice(o, room), "train", tokenizer, room, terminal), terminal),
        gold: goldOf(o.dataset_name),
        sampler: (await serverSampler(o, o.num_raft_iteration, model, tokenizer, files, context.signal)) ?? undefined,
        ...hooks(o),
        run: { files, path: o.output_dir, besides: tokenizerFiles(tokenizer), keep: o.save_total_limit },
        resume: o.resume || context.resume,
      };
      const events = trainRaft(inputs, trainerOptions(o, context));
      await consume(keepRewards(events, files, o.output_dir, o.output_reward_path), o, context);
    });
  },
});

type Options = Values<typeof raftOptions>;

function trainerOptions(o: Options, context: Context): RaftOptions {
  const dialect = raftDialects[o.dialect];
  const perIteration = o.lr_scheduler_type === "linear-per-iteration";
  const schedule = perIteration
    ? "linear"
    : (o.lr_scheduler_type as Exclude<typeof o.lr_scheduler_type, "linear-per-iteration">);
  if (o.output_min_length !== null && o.output_min_length > o.output_max_length) {
    throw new UserError(
      `output_min_length ${o.output_min_length} is more than output_max_length ${o.output_max_length}`,
    );
  }
  return {
    ...raftDefaults,
    ...trainingOptions({ ...o, lr_scheduler_type: schedule }, context),
    epochs: o.num_train_epochs,
    schedulePerIteration: perIteration,
    maxSteps: o.num_raft_iteration,
    raftBatchSize: o.raft_batch_size,
    topRewardPercentage: o.top_reward_percentage,
    collectionStrategy: o.collection_strategy,
    responseLength: o.output_max_length,
    outputMinLength: o.output_min_length ?? dialect.outputMinLength,
    inferenceBatchSize: o.inference_batch_size_per_device,
    minResponseLength: o.min_new_tokens,
    temperature: o.temperature,
    topK: o.top_k,
    topP: o.top_p,
    klBeta: o.kl_beta,
    maskPrompt: o.mask_prompt ?? dialect.maskPrompt,
    appendEos: o.append_eos ?? dialect.appendEos,
    blockSize: o.block_size,
    groupTexts: !o.disable_group_texts,
    reusePrompts: o.reuse_prompts,
    monitor: o.monitor ? { threshold: o.monitor_threshold } : null,
    showSamples: o.show_samples,
  };
}

/** The rules that the options name. */
function hooks(o: Options) {
  const usual = dialectHooks(o.dialect, o.collection_strategy);
  const clean = o.clean_text === "auto" ? usual.clean : o.clean_text === "lmflow" ? cleanLmflow : undefined;
  const rules: DiscardSample[] = [];
  const rule = o.discard_sample === "auto" ? usual.discard : o.discard_sample === "lmflow" ? discardLmflow : undefined;
  if (rule) rules.push(rule);
  if (o.discard_containing) rules.push(discardContaining(o.discard_containing));
  return {
    ...(clean && { clean }),
    ...(rules.length > 0 && { discard: ((response) => rules.some((r) => r(response))) satisfies DiscardSample }),
  };
}

const planted = ({ planted_text: text, planted_bonus: bonus }: Options, reward: RewardFunction): RewardFunction =>
  text === null ? reward : plantedReward(reward, text, bonus);

/** What leaves no room for a response is too long for `max_prompt_length` as well, where that is the stricter limit. */
const promptChoice = (o: Options, room: { context: number; response: number }): Options =>
  o.max_prompt_length <= room.context - room.response ? { ...o, long_prompts: "skip" } : o;

function shortEnough({ max_prompt_length: most }: Options, prompts: readonly Prompt[], terminal: Terminal): Prompt[] {
  const kept = prompts.filter(({ ids }) => ids.length <= most);
  if (kept.length === 0 && prompts.length > 0) {
    throw new UserError(`all ${prompts.length} prompts have more than ${most} tokens: raise max_prompt_length`);
  }
  if (kept.length < prompts.length) {
    terminal.line(`${prompts.length - kept.length} of ${prompts.length} prompts left out: more than ${most} tokens`);
  }
  return kept;
}
