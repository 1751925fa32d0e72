/** The verbs that train from rewards without a critic: grpo, rloo, reinforce. */
import type { Tokenizer } from "../../data/tokenizer.ts";
import type { CausalLM } from "../../nn/models.ts";
import { grpoDefaults, trainGrpo } from "../../rlhf/critic-free/grpo.ts";
import { overlongPenalty } from "../../rlhf/critic-free/overlong.ts";
import { reinforceDefaults, trainReinforce } from "../../rlhf/critic-free/reinforce.ts";
import { rlooDefaults, trainRloo } from "../../rlhf/critic-free/rloo.ts";
import { type CriticFreeInputs, type CriticFreeOptions, criticFreeDefaults } from "../../rlhf/critic-free/train.ts";
import type { TrainEvent } from "../../rlhf/events.ts";
import type { RewardFunction } from "../../rlhf/rollout.ts";
import { UserError } from "../../runtime/errors.ts";
import { diskFiles } from "../../runtime/files.ts";
import { consume } from "../consume.ts";
import { promptData } from "../data/datasets.ts";
import { openGpu } from "../gpu.ts";
import { labelAt } from "../models/hub.ts";
import { goldOf, tokenizerFiles, withModels } from "../models/models.ts";
import { ModelOpener, openReward } from "../models/opener.ts";
import type { Values } from "../option.ts";
import { grpoOptions, reinforceOptions, rlooOptions } from "../options/critic-free.ts";
import { trainingOptions } from "../train.ts";
import { type Context, defineVerb } from "../verb.ts";

/** What the three verbs have in common. */
type Shared = Values<typeof grpoOptions> | Values<typeof rlooOptions> | Values<typeof reinforceOptions>;

export const grpoVerb = defineVerb({
  name: "grpo",
  summary: "Train a policy against a reward model by comparing responses in groups (GRPO)",
  options: grpoOptions,
  examples: [
    "webrlhf grpo --model_name_or_path out/sft --reward_model_path out/reward --generation_batch_size 64",
    "webrlhf grpo --config grpo.yaml --epsilon_high 0.28 --dynamic_filtering --overlong_buffer_len 8",
  ],
  run: (o, context) =>
    train(o, context, (inputs, shared) =>
      trainGrpo(inputs, {
        ...grpoDefaults,
        ...shared,
        lossType: o.loss_type,
        scaleRewards: o.scale_rewards,
        delta: o.delta,
        importanceSampling: o.importance_sampling_level,
        unbiasedKl: o.use_bias_correction_kl,
        aggregation: o.multi_objective_aggregation,
        dropZeroStd: o.dynamic_filtering,
      }),
    ),
});

export const rlooVerb = defineVerb({
  name: "rloo",
  summary: "Train a policy against a reward model with leave-one-out baselines (RLOO)",
  options: rlooOptions,
  examples: [
    "webrlhf rloo --model_name_or_path out/sft --reward_model_path out/reward --num_generations 4",
    "webrlhf rloo --config rloo.yaml --beta 0.1",
  ],
  run: (o, context) =>
    train(o, context, (inputs, shared) =>
      trainRloo(inputs, {
        ...rlooDefaults,
        ...shared,
        clipRangeScore: o.reward_clip_range ?? Number.POSITIVE_INFINITY,
        normalizeAdvantages: o.normalize_advantages,
      }),
    ),
});

export const reinforceVerb = defineVerb({
  name: "reinforce",
  summary: "Train a policy against a reward model like PPO, but without a critic (REINFORCE++)",
  options: reinforceOptions,
  examples: [
    "webrlhf reinforce --model_name_or_path out/sft --reward_model_path out/reward --generation_batch_size 128",
    "webrlhf reinforce --config reinforce.yaml --gamma 0.99",
  ],
  run: (o, context) =>
    train(
      o,
      context,
      (inputs, shared) =>
        trainReinforce(inputs, {
          ...reinforceDefaults,
          ...shared,
          clipRangeScore: o.reward_clip_range ?? Number.POSITIVE_INFINITY,
          gamma: o.gamma,
        }),
      reinforceDefaults.betas,
    ),
});

async function train(
  o: Shared,
  context: Context,
  trainer: (inputs: CriticFreeInputs, options: CriticFreeOptions) => AsyncGenerator<TrainEvent>,
  betas?: readonly [number, number],
): Promise<void> {
  const options = trainerOptions(o, context, betas); // before models are opened, for what they refuse
  const files = await diskFiles();
  const { terminal } = context;
  await openGpu(terminal);
  const opener = new ModelOpener(files, o);
  const tokenizer = await opener.tokenizer(o.model_name_or_path!);
  const actor = await opener.policy(o.model_name_or_path!, "actor");
  tokenizer.checkFits(actor.config.vocabSize);
  const reference = needsReference(o, actor) ? await opener.frozenPolicy(o.model_name_or_path!) : null;
  const rewards = await openRewards(opener, tokenizer, o);
  await withModels(opener.opened, async () => {
    const room = { context: actor.config.maxPositions, response: o.max_completion_length };
    const inputs: CriticFreeInputs = {
      actor,
      reference,
      rewards,
      tokenizer,
      prompts: await promptData(o, "train", tokenizer, room, terminal),
      gold: goldOf(o.dataset_name),
      run: { files, path: o.output_dir, besides: tokenizerFiles(tokenizer), keep: o.save_total_limit },
      resume: o.resume || context.resume,
    };
    await consume(trainer(inputs, options), o, context);
  });
}

/** Without a KL penalty a second copy of the weights is not worth it; the base of an adapter costs nothing. */
const needsReference = (o: Shared, actor: CausalLM): boolean => o.beta !== 0 || (o.use_peft && actor.adapter !== null);

/** The rewards by their names in metrics, in the order of their weights. */
async function openRewards(
  opener: ModelOpener,
  tokenizer: Tokenizer,
  o: Shared,
): Promise<Record<string, RewardFunction>> {
  const rewards: Record<string, RewardFunction> = {};
  for (const path of [o.reward_model_path!, ...(o.reward_funcs ?? [])]) {
    const label = labelAt(path);
    let name = label;
    for (let n = 2; name in rewards || name === OVERLONG; n++) name = `${label}-${n}`;
    rewards[name] = await openReward(opener, path, tokenizer);
  }
  if (o.overlong_buffer_len > 0) {
    rewards[OVERLONG] = overlongPenalty(o.max_completion_length, o.overlong_buffer_len, o.overlong_penalty_factor);
  }
  return rewards;
}

const OVERLONG = "overlong";

function trainerOptions(o: Shared, context: Context, betas?: readonly [number, number]): CriticFreeOptions {
  return {
    ...criticFreeDefaults,
    ...trainingOptions(o, context, betas),
    maxSteps: o.max_steps,
    promptsPerRollout: promptsPerRollout(o),
    samplesPerPrompt: o.num_generations,
    responseLength: o.max_completion_length,
    temperature: o.temperature,
    topK: o.top_k,
    topP: o.top_p,
    epochs: o.num_iterations,
    beta: o.beta,
    epsilon: o.epsilon,
    epsilonHigh: o.epsilon_high,
    rewardWeights: rewardWeights(o),
    maskTruncated: o.mask_truncated_completions,
    showSamples: o.show_samples,
  };
}

/** Throws `UserError` where the sizes of a rollout contradict each other. */
export function promptsPerRollout(o: Shared): number {
  const { generation_batch_size: whole, num_generations: group } = o;
  const steps = "steps_per_generation" in o ? o.steps_per_generation : null;
  if (whole !== null && steps !== null) {
    throw new UserError("generation_batch_size and steps_per_generation mean the same: give one of them");
  }
  const responses = whole ?? o.per_device_train_batch_size * (steps ?? o.gradient_accumulation_steps);
  if (responses % group === 0) return responses / group;
  const name = whole === null ? "per_device_train_batch_size times steps_per_generation" : "generation_batch_size";
  throw new UserError(
    `${name} is ${responses}, which is no multiple of num_generations = ${group}: change one of them`,
  );
}

function rewardWeights(o: Shared): number[] | null {
  if (o.reward_weights === null) return null;
  const weights = o.reward_weights.map((text) => (text.trim() === "" ? Number.NaN : Number(text)));
  const bad = weights.findIndex((w) => !Number.isFinite(w));
  if (bad >= 0) throw new UserError(`reward_weights must be numbers, not ${JSON.stringify(o.reward_weights[bad])}`);
  const rewards = 1 + (o.reward_funcs?.length ?? 0);
  if (weights.length !== rewards) {
    throw new UserError(`reward_weights has ${weights.length} weights for ${rewards} rewards: give one for each`);
  }
  return o.overlong_buffer_len > 0 ? [...weights, 1] : weights;
}
