/**
 * What the options of several verbs have in common: headings, and groups of options that go together. Every option is
 * written down once, here or beside its verb in this folder: flags, YAML keys, checks, `--help` and the types that verbs
 * see all come from there. Names are those of TRL, Hugging Face's Trainer, LMFlow (RAFT) and PaddleNLP (the PPO dialects).
 */
import { type ScheduleName, schedules } from "../../nn/optimizer.ts";
import { referenceWeights, rewardWeights, weightOptions } from "../models/weight-options.ts";
import { options } from "../option.ts";

export const model = options("Model");
export const shape = options("Model from scratch");
export const data = options("Data");
export const optim = options("Optimisation");
export const logging = options("Output");
export const rollout = options("Rollout");
export const remote = options("Another server");
export const ppo = options("PPO");
export const raft = options("RAFT");
export const peft = options("Adapters (LoRA)");
const rewards = options("Rewards from a server");

export const probability = { min: 0, max: 1 };
export const positive = { min: 0, exclusiveMin: true };

export const seed = logging.int(42, "Seed of every random number", { min: 0, max: 0xffffffff });

export const run = {
  output_dir: logging.path("out", "Folder for the model, checkpoints and logs"),
  seed,
  resume: logging.bool(false, "Go on from the newest checkpoint in output_dir, if there is one", {
    aliases: ["resume_from_checkpoint"],
  }),
  logging_steps: logging.int(10, "Steps between printed lines when the output is not a terminal", { min: 1 }),
  save_steps: logging.int(0, "Steps between checkpoints; 0 saves the finished model only", { min: 0 }),
  save_total_limit: logging.int(1, "Checkpoints to keep; 0 keeps all", { min: 0 }),
};

export const evalSteps = {
  eval_steps: logging.int(0, "Steps between evaluations on held-out data; 0 evaluates at the end", { min: 0 }),
};

export const optimiser = (rate: number, scheduler: ScheduleName, batch: number) => ({
  learning_rate: optim.float(rate, "Peak learning rate", { min: 0 }),
  lr_scheduler_type: optim.choice(schedules, scheduler, "Learning rate after the warm-up; constant has none"),
  warmup_steps: optim.float(0, "Steps of linear warm-up; below 1 it is a part of all steps", {
    min: 0,
    aliases: ["warmup_ratio"],
  }),
  per_device_train_batch_size: optim.int(batch, "Sequences (for reward: pairs) in one pass", { min: 1 }),
  gradient_accumulation_steps: optim.int(1, "Passes added up for one optimizer step", { min: 1 }),
  gradient_checkpointing: optim.bool(
    false,
    "Compute each block again for its gradient: a third slower, far less memory",
  ),
  weight_decay: optim.float(0, "AdamW's decoupled weight decay", { min: 0 }),
  adam_beta1: optim.float(null, "AdamW's beta1; default: 0.9", probability),
  adam_beta2: optim.float(null, "AdamW's beta2; default: 0.999, for PPO by dialect", probability),
  max_grad_norm: optim.float(1, "Clip the global gradient norm to this; 0 does not clip", { min: 0 }),
});

export const half = {
  fp16: optim.bool(false, "Compute in f16 with f32 master weights; the loss is scaled so that no gradient is lost"),
};

export const duration = (epochs: number) => ({
  num_train_epochs: optim.float(epochs, "Passes over the data, when max_steps is not set", positive),
  max_steps: optim.int(null, "Optimizer steps; wins over num_train_epochs", { min: 1 }),
});

export const splits = {
  dataset_config: data.text(null, "Configuration of a dataset folder; default: its only one, or default"),
  dataset_train_split: data.text("train", "Split of a dataset folder to use"),
};

export const datasets = {
  dataset_name: data.mixture(
    "builtin:world",
    "A .parquet, .json, .jsonl or .txt file, also .gz; a dataset folder; org/name on the hub; a name that " +
      '"webrlhf data list" shows; a mixture (name:proportion:path,...); or builtin:world',
    { aliases: ["train_datasets", "dataset_path"] },
  ),
  ...splits,
  test_size: data.float(0, "Part of the dataset's prompts that is held out, the same part for every verb and seed", {
    min: 0,
    max: 0.99,
  }),
  max_train_samples: data.int(null, "Use this many records; builtin:world makes this many, 2048 by default", {
    min: 1,
  }),
  template: data.choice(
    ["auto", "plain", "turns", "chat"],
    "auto",
    "Conversations by the model's chat template if it has one (auto), or as a transcript (plain); " +
      "turns and chat do so and make turns of texts too",
  ),
  long_prompts: data.choice(["error", "skip"], "error", "What to do with prompts that leave no room for an answer"),
};

export const heldOut = {
  eval_dataset_name: data.mixture(
    null,
    "Held-out data; default: what test_size holds out, or builtin:world's test part",
    { aliases: ["eval_datasets"] },
  ),
  dataset_test_split: data.text(null, "Split of the held-out data, where it is a folder; default: none, or train"),
  max_eval_samples: data.int(256, "Use this many held-out records", { min: 1 }),
};

export const chatTemplate = {
  chat_template_path: model.path(
    null,
    "Jinja file to write conversations with, or builtin:safe-rlhf; default: the model's own",
  ),
};

export const sampling = (temperature: number) => ({
  temperature: rollout.float(temperature, "Sampling temperature", positive),
  top_p: rollout.float(1, "Sample from the fewest tokens with this much probability", {
    ...probability,
    exclusiveMin: true,
  }),
  top_k: rollout.int(0, "Sample from this many likeliest tokens; 0 takes all", { min: 0 }),
});

export const tokenizer = model.path(null, "Folder or tokenizer.json, or builtin:world; default: the model's own");

export const adapterBase = {
  base_model_name_or_path: peft.path(null, "Base of an adapter's folder; default: what its adapter_config.json names"),
};

export const adapterOptions = (dropout: number) => ({
  use_peft: peft.bool(false, "Train a low-rank adapter instead of the whole model"),
  lora_r: peft.int(16, "Rank", { min: 1 }),
  lora_alpha: peft.float(32, "The update is multiplied by alpha / rank"),
  lora_dropout: peft.float(dropout, "Part of the adapter's input that drops out in training (never in PPO)", {
    min: 0,
    max: 0.99,
  }),
  lora_target_modules: peft.list(null, "Ends of names of linear layers, or all-linear; default: as PEFT, by family"),
  lora_modules_to_save: peft.list(null, "Modules to train whole besides (lm_head, embed_tokens, ...)"),
  use_rslora: peft.bool(false, "Multiply by alpha / sqrt(rank) instead"),
  ...adapterBase,
  ...weightOptions,
});
export type AdapterOptions = ReturnType<typeof adapterOptions>;

/** A server that samples instead of this program. */
export const serverOptions = {
  server: remote.text(null, "Let a server with OpenAI's interface sample: http://host:port"),
  server_model: remote.text(null, "Name of the model there; default: its only one"),
  server_concurrency: remote.int(16, "Requests under way at once", { min: 1 }),
  api_key: remote.text(null, "Key for the server; default: OPENAI_API_KEY"),
};

/** An HTTP endpoint that gives rewards. */
export const rewardServer = {
  reward_server_format: rewards.choice(
    ["plain", "paddle"],
    "plain",
    "Plain is {prompts, responses} -> {rewards}, paddle is PaddleNLP's {src, tgt, response} -> {score}",
  ),
  reward_server_batch_size: rewards.int(64, "Responses in one request", { min: 1 }),
  reward_server_concurrency: rewards.int(4, "Requests under way at once", { min: 1 }),
  reward_server_timeout: rewards.float(120, "Seconds to wait for an answer; then the run fails", positive),
  reward_server_retries: rewards.int(4, "Tries after the first when the server is away, busy or broken", { min: 0 }),
  reward_server_api_key: rewards.text(null, "Key for the server, sent as a bearer token"),
};

export const alignment = {
  model_name_or_path: model.path(null, "Policy to start from: a model folder, usually made by sft", {
    required: true,
    aliases: ["sft_model_path"],
  }),
  reward_model_path: model.path(
    null,
    "Reward model folder, made by reward; builtin:world is the true reward; http://.. a server that gives rewards",
    { required: true, aliases: ["reward_model_name_or_path", "reward_model_or_path", "reward_server"] },
  ),
  ...rewardServer,
  ...referenceWeights,
  ...rewardWeights,
  ...chatTemplate,
  ...datasets,
};

export const shown = logging.int(4, "Responses per step to keep in samples.jsonl", {
  min: 0,
  aliases: ["num_completions_to_print"],
});

export const prompts = {
  dataset_name: data.mixture(
    "builtin:world",
    "Where prompts come from: a file, a dataset folder, org/name on the hub, a registered name, a mixture, or " +
      "builtin:world's test part",
  ),
  ...splits,
  test_size: data.float(0, "Take the prompts from this held-out part of the dataset; 0 takes the whole", {
    min: 0,
    max: 0.99,
  }),
  template: datasets.template,
  long_prompts: datasets.long_prompts,
};
