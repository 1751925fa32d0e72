/**
 * Every option of every verb, once. Flags, YAML keys, checks, `--help` and the types that verbs see all come from here.
 * Names are those of TRL, Hugging Face's Trainer, LMFlow (RAFT) and PaddleNLP (the PPO dialects).
 */
import { options, type Table } from "./option.ts";

const model = options("Model");
const shape = options("Model from scratch");
const data = options("Data");
const optim = options("Optimisation");
const logging = options("Logging and checkpoints");
const rollout = options("Rollout");
const ppo = options("PPO");
const raft = options("RAFT");
const output = options("Output");

const probability = { min: 0, max: 1 };
const positive = { min: 0, exclusiveMin: true };

const run = {
  output_dir: logging.path("out", "Folder for the model, checkpoints and logs"),
  seed: logging.int(42, "Seed of every random number in the run", { min: 0, max: 0xffffffff }),
  resume: logging.bool(false, "Go on from the newest checkpoint in output_dir, if there is one"),
  resume_from_checkpoint: logging.path(null, "Go on from this checkpoint folder"),
  logging_steps: logging.int(10, "Steps between printed lines when the output is not a terminal", { min: 1 }),
  save_steps: logging.int(0, "Steps between checkpoints; 0 saves only at the end", { min: 0 }),
  save_total_limit: logging.int(2, "Checkpoints to keep; older ones are removed", { min: 1 }),
  eval_steps: logging.int(0, "Steps between evaluations; 0 evaluates only at the end", { min: 0 }),
};

const optimiser = <L extends number>(learningRate: L, scheduler: "constant" | "cosine" | "linear", batch: number) => ({
  learning_rate: optim.float(learningRate as number, "Peak learning rate", { min: 0 }),
  per_device_train_batch_size: optim.int(batch, "Sequences in one forward and backward pass", { min: 1 }),
  gradient_accumulation_steps: optim.int(1, "Passes added up for one optimizer step", { min: 1 }),
  num_train_epochs: optim.float(1, "Passes over the data, when max_steps is not set", positive),
  max_steps: optim.int(null, "Optimizer steps; wins over num_train_epochs", { min: 1 }),
  lr_scheduler_type: optim.choice(
    ["constant", "linear", "cosine"],
    scheduler,
    "Shape of the learning rate after warm-up",
  ),
  warmup_steps: optim.int(0, "Steps of linear warm-up", { min: 0 }),
  warmup_ratio: optim.float(0, "Warm-up as a part of all steps, when warmup_steps is 0", probability),
  weight_decay: optim.float(0, "AdamW's decoupled weight decay", { min: 0 }),
  max_grad_norm: optim.float(1, "Clip the global gradient norm to this; 0 does not clip", { min: 0 }),
});

const datasets = {
  dataset_name: data.text("builtin:world", "Data file (.json, .jsonl, also .gz), folder, or builtin:world"),
  eval_dataset_name: data.text(null, "Held-out data, in the same formats"),
};

const sampling = (temperature: number) => ({
  temperature: rollout.float(temperature, "Sampling temperature", positive),
  top_p: rollout.float(1, "Sample from the smallest set of tokens with this much probability", {
    ...probability,
    exclusiveMin: true,
  }),
  top_k: rollout.int(0, "Sample from this many likeliest tokens; 0 takes all", { min: 0 }),
});

export const sftOptions = {
  model_name_or_path: model.path(null, "Model folder to start from; none starts from scratch"),
  tokenizer_name_or_path: model.path(null, "Folder or tokenizer.json; default: the model's own"),
  model_type: shape.choice(["llama", "gpt2"], "llama", "Model family"),
  hidden_size: shape.int(128, "Width of the residual stream", { min: 1 }),
  num_hidden_layers: shape.int(4, "Transformer blocks", { min: 1 }),
  num_attention_heads: shape.int(4, "Attention heads", { min: 1 }),
  num_key_value_heads: shape.int(null, "Heads of keys and values; default: num_attention_heads", { min: 1 }),
  intermediate_size: shape.int(null, "Width of the feed-forward layer; default: by family", { min: 1 }),
  max_position_embeddings: shape.int(256, "Longest sequence in tokens", { min: 1 }),
  tie_word_embeddings: shape.bool(true, "Share the embedding with the output layer"),
  ...datasets,
  max_length: data.int(null, "Cut sequences to this many tokens; default: the model's context", { min: 2 }),
  completion_only_loss: data.bool(null, "Train on completions only; default: where the data has prompts"),
  ...optimiser(2e-5, "linear", 8),
  ...run,
} satisfies Table;

export const rewardOptions = {
  model_name_or_path: model.path(null, "Model folder whose body the reward model starts from", { required: true }),
  tokenizer_name_or_path: model.path(null, "Folder or tokenizer.json; default: the model's own"),
  ...datasets,
  max_length: data.int(null, "Longest prompt plus response in tokens; default: the model's context", { min: 2 }),
  center_rewards_coefficient: optim.float(0, "Weight of the squared sum of a pair's rewards", { min: 0 }),
  ...optimiser(1e-4, "linear", 8),
  ...run,
} satisfies Table;

const alignment = {
  model_name_or_path: model.path(null, "Policy to start from: a model folder, usually made by sft", {
    required: true,
    aliases: ["sft_model_path"],
  }),
  reward_model_path: model.path(null, "Reward model folder, made by reward", {
    required: true,
    aliases: ["reward_model_name_or_path", "reward_model_or_path"],
  }),
};

export const ppoOptions = {
  ...alignment,
  dataset_name: datasets.dataset_name,
  eval_dataset_name: datasets.eval_dataset_name,
  ...sampling(1),
  rollout_batch_size: rollout.int(64, "Prompts in one rollout", { min: 1, aliases: ["per_device_prompt_batch_size"] }),
  num_return_sequences: rollout.int(1, "Responses per prompt", { min: 1 }),
  response_length: rollout.int(48, "Longest response in tokens", { min: 1, aliases: ["max_new_tokens"] }),
  missing_eos_penalty: rollout.float(null, "Taken off the score of a response that does not end", { min: 0 }),
  dialect: ppo.choice(
    ["paddle", "safe", "trl"],
    "paddle",
    "Conventions of PaddleNLP, safe-rlhf or TRL where they differ",
  ),
  kl_coef: ppo.float(0.05, "Weight of the KL penalty against the starting model", {
    min: 0,
    aliases: ["kl_coeff", "init_kl_coef"],
  }),
  adap_kl_ctrl: ppo.bool(false, "Adapt kl_coef so that the KL approaches target_kl"),
  target_kl: ppo.float(6, "KL per response that adap_kl_ctrl aims at", { ...positive, aliases: ["target"] }),
  kl_horizon: ppo.int(10000, "Responses over which adap_kl_ctrl adapts", { min: 1, aliases: ["horizon"] }),
  cliprange: ppo.float(0.2, "Clip of the probability ratio", { ...positive, aliases: ["clip_range_ratio"] }),
  cliprange_value: ppo.float(5, "Clip of the value's change", { ...positive, aliases: ["clip_range_value"] }),
  clip_range_score: ppo.float(50, "Clip of the reward", positive),
  gamma: ppo.float(1, "Discount", probability),
  lam: ppo.float(0.95, "Lambda of GAE", probability),
  num_ppo_epochs: ppo.int(1, "Passes over each rollout", { min: 1, aliases: ["update_iters"] }),
  num_mini_batches: ppo.int(1, "Optimizer steps per pass over a rollout", { min: 1 }),
  whiten_rewards: ppo.bool(null, "Scale rewards to unit variance; default: by dialect"),
  whiten_advantages: ppo.bool(null, "Normalise advantages; default: by dialect", { aliases: ["normalize_advantage"] }),
  critic_learning_rate: optim.float(null, "Learning rate of the critic; default: learning_rate", { min: 0 }),
  ...optimiser(1e-5, "cosine", 16),
  ...run,
} satisfies Table;

export const raftOptions = {
  ...alignment,
  dataset_name: datasets.dataset_name,
  eval_dataset_name: datasets.eval_dataset_name,
  ...sampling(0.85),
  output_min_length: rollout.int(48, "Lower end of the longest response in tokens, drawn per prompt", { min: 1 }),
  output_max_length: rollout.int(48, "Upper end of the longest response in tokens", { min: 1 }),
  num_raft_iteration: raft.int(20, "Rounds of sampling, ranking and fine-tuning", { min: 1 }),
  raft_batch_size: raft.int(1024, "Responses kept for one round of fine-tuning", { min: 1 }),
  top_reward_percentage: raft.float(0.2, "Part of the responses that is kept: 1 of K = 1 / this", {
    ...probability,
    exclusiveMin: true,
  }),
  collection_strategy: raft.choice(["top", "local"], "top", "Best of all responses, or best of each prompt's K"),
  ...optimiser(2e-5, "constant", 8),
  ...run,
} satisfies Table;

export const generateOptions = {
  model_name_or_path: model.path(null, "Model folder", { required: true }),
  prompt: data.text(null, "One prompt; without it prompts come from dataset_name"),
  dataset_name: datasets.dataset_name,
  num_prompts: data.int(8, "Prompts to take from the dataset", { min: 1 }),
  ...sampling(1),
  num_return_sequences: rollout.int(1, "Responses per prompt", { min: 1 }),
  max_new_tokens: rollout.int(64, "Longest response in tokens", { min: 1 }),
  seed: output.int(42, "Seed of the sampling", { min: 0, max: 0xffffffff }),
  output_file: output.path(null, "Write JSON lines here instead of text to the terminal"),
} satisfies Table;

export const evaluateOptions = {
  model_name_or_path: model.path(null, "Policy to sample from"),
  ref_model_name_or_path: model.path(null, "Reference for the KL; default: no KL"),
  reward_model_path: model.path(
    null,
    "Reward model: scores the samples, or is tested on pairs when there is no policy",
    {
      aliases: ["reward_model_name_or_path", "reward_model_or_path"],
    },
  ),
  dataset_name: data.text("builtin:world", "Held-out prompts or pairs"),
  num_prompts: data.int(256, "Prompts or pairs to use", { min: 1 }),
  best_of: rollout.int(1, "Sample this many responses per prompt and keep the one the reward model likes best", {
    min: 1,
  }),
  ...sampling(1),
  max_new_tokens: rollout.int(48, "Longest response in tokens", { min: 1 }),
  per_device_eval_batch_size: rollout.int(64, "Sequences per pass", { min: 1 }),
  label: output.text(null, "Name of this row in reports"),
  seed: output.int(42, "Seed of the sampling", { min: 0, max: 0xffffffff }),
  output_dir: output.path("out", "Folder for evaluation.json"),
} satisfies Table;

export const tokenizerOptions = {
  dataset_name: data.text(null, "Text to learn from: .txt, .json or .jsonl, also .gz", { required: true }),
  vocab_size: data.int(1024, "Size of the vocabulary, special tokens included", { min: 257 }),
  output_dir: output.path("tokenizer", "Folder for tokenizer.json and tokenizer_config.json"),
} satisfies Table;

export const benchOptions = {
  sizes: output.list(["256", "512", "1024"], "Matrix sizes to multiply"),
  json: output.bool(false, "Print JSON"),
} satisfies Table;

export const reportOptions = {
  input_dir: data.path(null, "Folder of a recipe's stages, or of one training run", { required: true }),
  title: output.text(null, "Title of the page"),
  output_dir: output.path(null, "Folder for report.html and summary.json; default: input_dir"),
} satisfies Table;
