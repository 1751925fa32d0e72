import type { Tokenizer } from "../../data/tokenizer.ts";
import type { Model } from "../../nn/models.ts";
import { MultiObjectiveHead } from "../../rlhf/multi-objective/head.ts";
import { type OffloadLevel, offloadLevels } from "../../rlhf/ppo/offload.ts";
import { checkPpoOptions, type PpoOptions, ppoDefaults } from "../../rlhf/ppo/options.ts";
import { type PpoInputs, trainPpo } from "../../rlhf/ppo/ppo.ts";
import { sameTokenizer } from "../../rlhf/reward/foreign.ts";
import { UserError } from "../../runtime/errors.ts";
import { diskFiles, type Files } from "../../runtime/files.ts";
import { consume } from "../consume.ts";
import { promptData, sftData } from "../data/datasets.ts";
import { openGpu } from "../gpu.ts";
import { contextOf, goldOf, tokenizerFiles, WORLD, withModels } from "../models/models.ts";
import { ModelOpener, openReward } from "../models/opener.ts";
import { isUrl } from "../models/reward-server.ts";
import type { Values } from "../option.ts";
import { ppoOptions } from "../options/ppo.ts";
import { trainingOptions } from "../train.ts";
import { type Context, defineVerb } from "../verb.ts";

type Options = Values<typeof ppoOptions>;

export const ppoVerb = defineVerb({
  name: "ppo",
  summary: "Train a policy against a reward model with PPO",
  options: ppoOptions,
  examples: [
    "webrlhf ppo --model_name_or_path out/sft --reward_model_path out/reward --output_dir out/ppo",
    "webrlhf ppo --config ppo.yaml --kl_coef 0.1 --dialect trl",
    "webrlhf ppo --config ppo.yaml --ptx_dataset_name sft.jsonl --ptx_coef 16",
  ],
  async run(o, context) {
    const options = trainerOptions(o, context); // before models are opened, for what they refuse
    const files = await diskFiles();
    const { terminal } = context;
    await openGpu(terminal);
    const opener = new ModelOpener(files, o);
    const path = o.model_name_or_path!;
    const tokenizer = await opener.tokenizer(path);
    const actor = await opener.policy(path, "actor");
    tokenizer.checkFits(actor.config.vocabSize);
    const average = o.ema_beta === null ? null : await opener.policy(path, "moving average");
    const reference = await opener.frozenPolicy(path);
    const frozen = options.normalizeReward && options.rewardNormalizer === "model";
    const reward = await openReward(opener, o.reward_model_path!, tokenizer, {
      end: o.reward_end_token,
      ...(frozen && { normalize: true }),
    });
    // Models that wait for their turn wait on the host from the start; the base of adapters has no turns.
    const aside = async (level: OffloadLevel, ...models: readonly (Model | null)[]) => {
      if (!options.offload.includes(level) || actor.baseModel) return;
      for (const model of models) await model?.store.resident.evict();
    };
    await aside("freeze_model", reference);
    await aside("train_model", actor, average);
    const critic = await opener.scorer(await criticPath(o, opener, tokenizer, files), "critic");
    critic.gradientCheckpointing = o.critic_gradient_checkpointing ?? o.gradient_checkpointing;
    await withModels(opener.opened, async () => {
      const room = { context: actor.config.maxPositions, response: o.response_length, together: o.max_length };
      const inputs: PpoInputs = {
        actor,
        reference,
        critic,
        ...(average && { average }),
        reward,
        tokenizer,
        prompts: await promptData(o, "train", tokenizer, room, terminal),
        ...(o.eval_steps > 0 && { evalPrompts: await promptData(o, "test", tokenizer, room, terminal) }),
        ...(await ptxData(o, tokenizer, contextOf(actor, o.max_ptx_length), context)),
        gold: goldOf(o.dataset_name),
        run: { files, path: o.output_dir, besides: tokenizerFiles(tokenizer), keep: o.save_total_limit },
        resume: o.resume || context.resume,
      };
      const passes = (o.num_train_epochs ?? 0) * inputs.prompts.length;
      const maxSteps = o.max_steps ?? (passes > 0 ? Math.ceil(passes / o.rollout_batch_size) : options.maxSteps);
      const settings = { ...o, num_train_epochs: o.num_train_epochs ?? 1 };
      await consume(trainPpo(inputs, { ...options, maxSteps }), settings, context);
    });
  },
});

/** The critic reads the policy's tokens, so its tokenizer must be the policy's. */
async function criticPath(o: Options, opener: ModelOpener, tokenizer: Tokenizer, files: Files): Promise<string> {
  const reward = o.reward_model_path!;
  const noModel = reward === WORLD || isUrl(reward) || (await MultiObjectiveHead.isAt(files, reward));
  const path = o.value_model_path ?? (noModel ? o.model_name_or_path! : reward);
  const own = await opener.tokenizerBeside(path);
  if (own === null || sameTokenizer(own, tokenizer)) return path;
  throw new UserError(
    `${path} has another tokenizer than the policy, so it cannot be the critic, which reads the policy's tokens: name ` +
      `one with --value_model_path, such as ${o.model_name_or_path}`,
  );
}

/** Sequences to learn beside PPO, and held-out ones to see what is forgotten. */
async function ptxData(o: Options, tokenizer: Tokenizer, maxLength: number, { terminal }: Context) {
  if (o.ptx_dataset_name === null) return {};
  const choice = {
    ...o,
    dataset_name: o.ptx_dataset_name,
    max_train_samples: o.max_ptx_samples,
    eval_dataset_name: null,
    dataset_test_split: null,
  };
  const { train, eval: held } = await sftData(choice, tokenizer, { maxLength, all: false }, terminal);
  return { ptx: train, ptxEval: held };
}

function trainerOptions(o: Options, context: Context): PpoOptions {
  const defaults = ppoDefaults(o.dialect);
  const options: PpoOptions = {
    ...defaults,
    ...trainingOptions(o, context, defaults.betas),
    minLearningRate: o.min_learning_rate,
    decaySteps: o.decay_steps,
    promptsPerRollout: o.rollout_batch_size,
    samplesPerPrompt: o.num_return_sequences,
    responseLength: o.response_length,
    maxLength: o.max_length,
    minNewTokens: o.min_new_tokens,
    temperature: o.temperature,
    topK: o.top_k,
    topP: o.top_p,
    minP: o.min_p,
    repetitionPenalty: o.repetition_penalty,
    missingEosPenalty: o.missing_eos_penalty,
    criticLearningRate: o.critic_learning_rate ?? (o.dialect === "trl" ? o.learning_rate : o.learning_rate / 2),
    criticSchedule: o.critic_lr_scheduler_type,
    criticWarmup: o.critic_warmup_steps,
    criticWeightDecay: o.critic_weight_decay,
    criticMinLearningRate: o.critic_min_learning_rate,
    criticDecaySteps: o.critic_decay_steps,
    klCoef: o.kl_coef ?? defaults.klCoef,
    klPlacement: o.kl_placement,
    klEstimator: o.kl_estimator,
    klClamp: o.kl_clamp,
    targetKl: o.target_kl,
    klHorizon: o.kl_horizon,
    clipRange: o.cliprange,
    clipRangeHigh: o.cliprange_high,
    dualClip: o.dual_clip,
    clipRangeValue: o.cliprange_value ?? defaults.clipRangeValue,
    clipRangeScore: o.clip_range_score ?? defaults.clipRangeScore,
    vfCoef: o.vf_coef ?? defaults.vfCoef,
    entropyCoef: o.entropy_coef,
    gamma: o.gamma,
    lambda: o.lam,
    epochs: o.num_ppo_epochs ?? defaults.epochs,
    whitenAdvantages: o.whiten_advantages ?? defaults.whitenAdvantages,
    whitenRewards: o.whiten_rewards,
    normalizeReward: o.normalize_reward ?? defaults.normalizeReward,
    rewardNormalizer: o.reward_normalizer ?? defaults.rewardNormalizer,
    ptxCoef: o.ptx_coef,
    ptxCombination: o.ptx_combination,
    emaBeta: o.ema_beta,
    emaSamples: o.ema_generation,
    offload: offloadLevelsOf(o.offload_level),
    showSamples: o.show_samples,
  };
  checkPpoOptions(options);
  if (o.eval_dataset_name !== null && o.eval_steps === 0) {
    throw new UserError(
      "eval_dataset_name is for evaluations, which eval_steps 0 leaves out: set eval_steps, or leave it out",
    );
  }
  return options;
}

/** Levels that may stand in one text, as in PaddleNLP's configurations. */
export const offloadLevelsOf = (words: readonly string[]): OffloadLevel[] =>
  words
    .flatMap((word) => word.split(/\s+/))
    .filter(Boolean)
    .map(offloadLevel);

function offloadLevel(name: string) {
  const level = offloadLevels.find((known) => known === name);
  if (level) return level;
  throw new UserError(`offload_level knows ${offloadLevels.join(", ")}, not ${JSON.stringify(name)}`);
}
