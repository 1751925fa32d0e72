import { schedules } from "../../nn/optimizer.ts";
import { type DialectName, dialects } from "../../rlhf/ppo/dialects.ts";
import type { Table } from "../option.ts";
import {
  adapterOptions,
  alignment,
  data,
  evalSteps,
  heldOut,
  logging,
  model,
  optim,
  optimiser,
  positive,
  ppo,
  probability,
  rollout,
  run,
  sampling,
  shown,
} from "./shared.ts";

const ptx = {
  ptx_dataset_name: data.mixture(
    null,
    "Prompts with completions to go on learning beside PPO, against forgetting; default: none",
    { aliases: ["ptx_datasets"] },
  ),
  max_ptx_samples: data.int(null, "Use this many of them", { min: 1 }),
  max_ptx_length: data.int(null, "Cut them to this many tokens; default: the model's context", { min: 2 }),
  ptx_coef: ppo.float(16, "Weight of their loss; 0 only measures it, where there are evaluations", {
    min: 0,
    aliases: ["ptx_coeff"],
  }),
  ptx_combination: ppo.choice(
    ["average", "sum"],
    "average",
    "One gradient of two: half of each, as PaddleNLP and safe-rlhf do, or all of both",
  ),
};

const responses = {
  max_steps: rollout.int(null, "Rollouts in all; each is one step. Default: as num_train_epochs says, or 50", {
    min: 1,
  }),
  num_train_epochs: rollout.float(null, "Passes over the prompts, where max_steps is not set", positive),
  rollout_batch_size: rollout.int(64, "Prompts in one rollout", { min: 1, aliases: ["per_device_prompt_batch_size"] }),
  num_return_sequences: rollout.int(1, "Responses per prompt", { min: 1 }),
  response_length: rollout.int(64, "Longest response in tokens", {
    min: 1,
    aliases: ["max_new_tokens", "max_dec_len"],
  }),
  min_new_tokens: rollout.int(0, "Shortest response in tokens", { min: 0, aliases: ["min_dec_len"] }),
  max_length: rollout.int(null, "Longest prompt and response together; default: what the model can see", { min: 2 }),
  ...sampling(1),
  min_p: rollout.float(0, "Sample from tokens with this share of the likeliest one's probability", probability),
  repetition_penalty: rollout.float(1, "Divides the logits of tokens that were there before", positive),
  missing_eos_penalty: rollout.float(0, "Taken off the score of a response that does not end by itself", { min: 0 }),
};

const rewards = {
  reward_end_token: ppo.choice(
    ["as-generated", "always"],
    "as-generated",
    "A reward model with another tokenizer sees an end token where the response has one, or always (PaddleNLP)",
  ),
  clip_range_score: ppo.float(null, "Clip of the reward; default: by dialect", positive),
  normalize_reward: ppo.bool(null, "Normalise scores; default: by dialect"),
  reward_normalizer: ppo.maybeChoice(
    ["model", "running"],
    "Normalise by the statistics of the reward model's training, or of this run; default: by dialect",
  ),
  whiten_rewards: ppo.bool(false, "Divide shaped rewards by their deviation over a rollout"),
  kl_coef: ppo.float(null, "Weight of the KL penalty against the start; default: 0.02, 0.05 for trl", {
    min: 0,
    aliases: ["kl_coeff", "init_kl_coef"],
  }),
  kl_placement: ppo.choice(["reward", "loss"], "reward", "Take the KL penalty off the rewards, or add it to the loss"),
  kl_estimator: ppo.choice(["k1", "k2", "k3"], "k1", "Estimator of the KL penalty per token; k2 or k3 in a loss"),
  kl_clamp: ppo.float(null, "Bound of its absolute value; default: none", positive),
  target_kl: ppo.float(null, "Adapt kl_coef towards this KL per response; default: fixed kl_coef", positive),
  kl_horizon: ppo.int(10000, "Responses over which kl_coef adapts", { min: 1, aliases: ["horizon"] }),
  gamma: ppo.float(1, "Discount", probability),
  lam: ppo.float(0.95, "Lambda of GAE", probability),
  whiten_advantages: ppo.bool(null, "Normalise advantages over a rollout; default: by dialect", {
    aliases: ["normalize_advantage"],
  }),
};

const losses = {
  cliprange: ppo.float(0.2, "Clip of the probability ratio", { ...positive, aliases: ["clip_range_ratio"] }),
  cliprange_high: ppo.float(null, "Clip above 1, where it differs", positive),
  dual_clip: ppo.float(null, "Bound of the loss where the advantage is negative, above 1; default: none", {
    min: 1,
    exclusiveMin: true,
  }),
  cliprange_value: ppo.float(null, "Clip of the value's change; default: by dialect", {
    ...positive,
    aliases: ["clip_range_value"],
  }),
  vf_coef: ppo.float(null, "Multiplies the critic's loss before its gradient is clipped; default: 1, 0.1 for trl", {
    min: 0,
  }),
  entropy_coef: ppo.float(0, "Weight of an entropy bonus", { min: 0, aliases: ["entropy_coeff"] }),
  num_ppo_epochs: ppo.int(null, "Passes over each rollout; default: 1, 4 for trl", {
    min: 1,
    aliases: ["update_iters"],
  }),
};

const critic = {
  critic_learning_rate: optim.float(
    null,
    "Learning rate of the critic; default: half of learning_rate, all of it for trl",
    { min: 0 },
  ),
  critic_lr_scheduler_type: optim.maybeChoice(schedules, "The critic's own schedule; default: the actor's"),
  critic_warmup_steps: optim.float(null, "Its warm-up, as warmup_steps; default: the actor's", {
    min: 0,
    aliases: ["critic_warmup_ratio"],
  }),
  critic_weight_decay: optim.float(null, "Its weight decay; default: the actor's", { min: 0 }),
  critic_min_learning_rate: optim.float(null, "Its floor; default: the actor's", { min: 0 }),
  critic_decay_steps: optim.int(null, "Optimizer steps of its schedule; default: the actor's", { min: 1 }),
  critic_gradient_checkpointing: optim.bool(null, "As gradient_checkpointing; default: the actor's", {
    aliases: ["critic_recompute"],
  }),
};

const schedule = {
  min_learning_rate: optim.float(null, "Where cosine_with_min_lr ends; default: a tenth of the peak", { min: 0 }),
  decay_steps: optim.int(null, "Optimizer steps after which the schedule is at its end; default: all", { min: 1 }),
};

const average = {
  ema_beta: ppo.float(null, "Keep a moving average of the policy, in ema/ (0.992 is usual); default: none", {
    min: 0,
    max: 0.999999,
  }),
  ema_generation: ppo.bool(true, "Sample from the moving average, as PaddleNLP does"),
};

export const ppoOptions = {
  ...alignment,
  model_name_or_path: { ...alignment.model_name_or_path, aliases: ["sft_model_path", "actor_model_name_or_path"] },
  value_model_path: model.path(
    null,
    "Critic to start from; default: the reward model, or the policy where that has no single score head of its own",
    {
      aliases: ["critic_model_name_or_path", "reward_critic_model_name_or_path"],
    },
  ),
  offload_level: model.list(
    [],
    "What leaves the GPU while it is not needed: freeze_model (reference, reward), optimizer, train_model",
  ),
  ...heldOut,
  ...ptx,
  ...responses,
  dialect: ppo.choice(
    Object.keys(dialects) as DialectName[],
    "paddle",
    "Conventions of PaddleNLP (first or late versions), safe-rlhf or TRL where they differ",
  ),
  ...rewards,
  ...losses,
  ...average,
  ...critic,
  ...optimiser(1e-5, "constant", 16),
  ...schedule,
  ...adapterOptions(0),
  show_samples: shown,
  eval_steps: logging.int(
    0,
    "Rollouts between evaluations on held-out prompts, also before the first and after the last; 0 leaves them out",
    { min: evalSteps.eval_steps.min },
  ),
  ...run,
} satisfies Table;
