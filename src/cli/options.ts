/**
 * Every option of every verb, once (those of sampling are in sampling-options.ts). Flags, YAML keys, checks, `--help` and
 * the types that verbs see all come from here. Names are those of TRL, Hugging Face's Trainer, LMFlow (RAFT) and PaddleNLP
 * (the PPO dialects).
 */
import { type Family, families } from "../nn/families/table.ts";
import { hubOptions } from "./hub.ts";
import { options, type Table } from "./option.ts";
import { referenceWeights, rewardWeights, weightOptions } from "./weight-options.ts";

const model = options("Model");
const shape = options("Model from scratch");
const data = options("Data");
const optim = options("Optimisation");
const logging = options("Output");
const rollout = options("Rollout");
const remote = options("Another server");
const ppo = options("PPO");
const raft = options("RAFT");
const peft = options("Adapters (LoRA)");

const probability = { min: 0, max: 1 };
const positive = { min: 0, exclusiveMin: true };

const seed = logging.int(42, "Seed of every random number", { min: 0, max: 0xffffffff });

const run = {
  output_dir: logging.path("out", "Folder for the model, checkpoints and logs"),
  seed,
  resume: logging.bool(false, "Go on from the newest checkpoint in output_dir, if there is one", {
    aliases: ["resume_from_checkpoint"],
  }),
  logging_steps: logging.int(10, "Steps between printed lines when the output is not a terminal", { min: 1 }),
  save_steps: logging.int(0, "Steps between checkpoints; 0 saves the finished model only", { min: 0 }),
  save_total_limit: logging.int(1, "Checkpoints to keep; 0 keeps all", { min: 0 }),
};

const evalSteps = {
  eval_steps: logging.int(0, "Steps between evaluations on held-out data; 0 evaluates at the end", { min: 0 }),
};

type Scheduler = "constant" | "linear" | "cosine";

const optimiser = (rate: number, scheduler: Scheduler, batch: number) => ({
  learning_rate: optim.float(rate, "Peak learning rate", { min: 0 }),
  lr_scheduler_type: optim.choice(["constant", "linear", "cosine"], scheduler, "Learning rate after the warm-up"),
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

const half = {
  fp16: optim.bool(false, "Compute in f16 with f32 master weights; the loss is scaled so that no gradient is lost"),
};

const duration = (epochs: number) => ({
  num_train_epochs: optim.float(epochs, "Passes over the data, when max_steps is not set", positive),
  max_steps: optim.int(null, "Optimizer steps; wins over num_train_epochs", { min: 1 }),
});

const splits = {
  dataset_config: data.text(null, "Configuration of a dataset folder; default: its only one, or default"),
  dataset_train_split: data.text("train", "Split of a dataset folder to use"),
};

const datasets = {
  dataset_name: data.text(
    "builtin:world",
    "A .parquet, .json, .jsonl or .txt file, also .gz; a dataset folder; org/name on the hub; or builtin:world",
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

const heldOut = {
  eval_dataset_name: data.text(null, "Held-out data; default: what test_size holds out, or builtin:world's test part"),
  dataset_test_split: data.text(null, "Split of the held-out data, where it is a folder; default: none, or train"),
  max_eval_samples: data.int(256, "Use this many held-out records", { min: 1 }),
};

const chatTemplate = {
  chat_template_path: model.path(null, "Jinja file to write conversations with; default: the model's own"),
};

const sampling = (temperature: number) => ({
  temperature: rollout.float(temperature, "Sampling temperature", positive),
  top_p: rollout.float(1, "Sample from the fewest tokens with this much probability", {
    ...probability,
    exclusiveMin: true,
  }),
  top_k: rollout.int(0, "Sample from this many likeliest tokens; 0 takes all", { min: 0 }),
});

const tokenizer = model.path(null, "Folder or tokenizer.json, or builtin:world; default: the model's own");

const adapterBase = {
  base_model_name_or_path: peft.path(null, "Base of an adapter's folder; default: what its adapter_config.json names"),
};

const adapterOptions = (dropout: number) => ({
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

export const sftOptions = {
  model_name_or_path: model.path(null, "Model folder to start from; default: from scratch"),
  tokenizer_name_or_path: tokenizer,
  model_type: shape.choice(Object.keys(families) as Family[], "llama", "Model family"),
  hidden_size: shape.int(128, "Width of the residual stream", { min: 1 }),
  num_hidden_layers: shape.int(4, "Transformer blocks", { min: 1 }),
  num_attention_heads: shape.int(4, "Attention heads", { min: 1 }),
  num_key_value_heads: shape.int(null, "Heads of keys and values; default: num_attention_heads", { min: 1 }),
  intermediate_size: shape.int(null, "Width of the feed-forward layer; default: by family", { min: 1 }),
  max_position_embeddings: shape.int(256, "Longest sequence in tokens", { min: 1 }),
  tie_word_embeddings: shape.bool(true, "Share the embedding with the output layer"),
  ...datasets,
  ...heldOut,
  max_length: data.int(null, "Cut sequences to this many tokens; default: the model's context", { min: 2 }),
  ...chatTemplate,
  completion_only_loss: data.bool(true, "Learn completions only; false learns prompts too"),
  assistant_only_loss: data.bool(
    false,
    "Of conversations learn all that the assistant says, not the last message only",
  ),
  ...duration(3),
  ...optimiser(2e-5, "linear", 8),
  ...half,
  ...adapterOptions(0.05),
  ...evalSteps,
  ...run,
} satisfies Table;

export const rewardOptions = {
  model_name_or_path: model.path(null, "Model folder whose body the reward model starts from", { required: true }),
  tokenizer_name_or_path: tokenizer,
  ...chatTemplate,
  ...datasets,
  ...heldOut,
  max_length: data.int(null, "Cut prompt plus answer to this many tokens; default: the model's context", { min: 2 }),
  ...duration(1),
  center_rewards_coefficient: optim.float(0, "Weight of the squared sum of a pair's rewards", { min: 0 }),
  regularization: optim.float(0, "Weight of the mean squared reward (PaddleNLP, safe-rlhf)", { min: 0 }),
  ...optimiser(1e-4, "linear", 8),
  ...half,
  ...adapterOptions(0),
  ...evalSteps,
  ...run,
} satisfies Table;

const alignment = {
  model_name_or_path: model.path(null, "Policy to start from: a model folder, usually made by sft", {
    required: true,
    aliases: ["sft_model_path"],
  }),
  reward_model_path: model.path(null, "Reward model folder, made by reward; builtin:world is the true reward", {
    required: true,
    aliases: ["reward_model_name_or_path", "reward_model_or_path"],
  }),
  ...referenceWeights,
  ...rewardWeights,
  ...chatTemplate,
  ...datasets,
};

const shown = logging.int(4, "Responses per step to keep in samples.jsonl", {
  min: 0,
  aliases: ["num_completions_to_print"],
});

export const ppoOptions = {
  ...alignment,
  value_model_path: model.path(
    null,
    "Critic to start from; default: the reward model, or the policy if there is none",
    {
      aliases: ["critic_model_name_or_path"],
    },
  ),
  max_steps: rollout.int(50, "Rollouts in all; each is one step", { min: 1 }),
  rollout_batch_size: rollout.int(64, "Prompts in one rollout", { min: 1, aliases: ["per_device_prompt_batch_size"] }),
  num_return_sequences: rollout.int(1, "Responses per prompt", { min: 1 }),
  response_length: rollout.int(64, "Longest response in tokens", { min: 1, aliases: ["max_new_tokens"] }),
  ...sampling(1),
  missing_eos_penalty: rollout.float(0, "Taken off the score of a response that does not end by itself", { min: 0 }),
  dialect: ppo.choice(
    ["paddle", "safe", "trl"],
    "paddle",
    "Conventions of PaddleNLP, safe-rlhf or TRL where they differ",
  ),
  kl_coef: ppo.float(null, "Weight of the KL penalty against the start; default: 0.02, 0.05 for trl", {
    min: 0,
    aliases: ["kl_coeff", "init_kl_coef"],
  }),
  kl_estimator: ppo.choice(["k1", "k2", "k3"], "k1", "Estimator of the KL penalty per token"),
  target_kl: ppo.float(null, "Adapt kl_coef towards this KL per response; default: fixed kl_coef", positive),
  kl_horizon: ppo.int(10000, "Responses over which kl_coef adapts", { min: 1, aliases: ["horizon"] }),
  cliprange: ppo.float(0.2, "Clip of the probability ratio", { ...positive, aliases: ["clip_range_ratio"] }),
  cliprange_value: ppo.float(null, "Clip of the value's change; default: by dialect", {
    ...positive,
    aliases: ["clip_range_value"],
  }),
  clip_range_score: ppo.float(null, "Clip of the reward; default: by dialect", positive),
  gamma: ppo.float(1, "Discount", probability),
  lam: ppo.float(0.95, "Lambda of GAE", probability),
  num_ppo_epochs: ppo.int(null, "Passes over each rollout; default: 1, 4 for trl", {
    min: 1,
    aliases: ["update_iters"],
  }),
  whiten_advantages: ppo.bool(null, "Normalise advantages over a rollout; default: by dialect", {
    aliases: ["normalize_advantage"],
  }),
  normalize_reward: ppo.bool(false, "Normalise scores by their running mean and deviation"),
  critic_learning_rate: optim.float(null, "Learning rate of the critic; default: half of learning_rate", { min: 0 }),
  ...optimiser(1e-5, "constant", 16),
  ...adapterOptions(0),
  show_samples: shown,
  ...run,
} satisfies Table;

export const raftOptions = {
  ...alignment,
  num_raft_iteration: raft.int(20, "Rounds of sampling, ranking and fine-tuning; each is one step", {
    min: 1,
    aliases: ["max_steps"],
  }),
  raft_batch_size: raft.int(1024, "Responses kept in one round", { min: 1 }),
  top_reward_percentage: raft.float(0.2, "Part of the responses that is kept; 1 of K is 1 / K", {
    ...probability,
    exclusiveMin: true,
  }),
  collection_strategy: raft.choice(["local", "top"], "local", "Keep the best of each prompt's K, or the best of all"),
  num_train_epochs: raft.int(4, "Passes over the kept responses in one round", { min: 1 }),
  mask_prompt: raft.bool(false, "Learn responses only; LMFlow learns prompts too"),
  append_eos: raft.bool(true, "Learn where responses end; LMFlow does not"),
  output_max_length: rollout.int(64, "Longest response in tokens", {
    min: 1,
    aliases: ["response_length", "max_new_tokens"],
  }),
  output_min_length: rollout.int(0, "Shortest response in tokens", { min: 0 }),
  ...sampling(0.85),
  ...serverOptions,
  ...optimiser(2e-5, "constant", 8),
  ...adapterOptions(0.05),
  show_samples: shown,
  ...run,
} satisfies Table;

const prompts = {
  dataset_name: data.text(
    "builtin:world",
    "Where prompts come from: a file, a dataset folder, org/name on the hub, or builtin:world's test part",
  ),
  ...splits,
  test_size: data.float(0, "Take the prompts from this held-out part of the dataset; 0 takes the whole", {
    min: 0,
    max: 0.99,
  }),
  template: datasets.template,
  long_prompts: datasets.long_prompts,
};

/** Where `generate` takes prompts from; its other options are in sampling-options.ts. */
export const promptOptions = {
  ...adapterBase,
  prompt: data.text(null, "One prompt; without it they come from dataset_name"),
  ...prompts,
  num_prompts: data.int(8, "Prompts to take from the dataset", { min: 1 }),
  num_return_sequences: rollout.int(1, "Responses per prompt", { min: 1 }),
} satisfies Table;

export const convertOptions = {
  model_name_or_path: model.path(null, "Model folder or .gguf file", { required: true }),
  output_dir: logging.path("out/converted", "Folder to write, which must be new or empty"),
  dtype: model.choice(
    ["auto", "float32", "bfloat16", "float16"],
    "auto",
    "How to store the weights; auto keeps their type, and turns quantised ones into float32",
  ),
  max_shard_size: model.text("5GB", "Split the weights into files of at most this size"),
} satisfies Table;

export const evaluateOptions = {
  model_name_or_path: model.path(null, "Policy to sample from; without it the reward model is tested on pairs"),
  ref_model_name_or_path: model.path(null, "Model that the KL is measured against; default: no KL"),
  ...adapterBase,
  reward_model_path: alignment.reward_model_path,
  ...chatTemplate,
  ...weightOptions,
  ...rewardWeights,
  ...prompts,
  num_prompts: data.int(256, "Prompts or pairs to use", { min: 1 }),
  max_length: data.int(null, "Cut pairs to this many tokens; default: the model's context", { min: 2 }),
  best_of: rollout.int(1, "Sample this many responses per prompt and keep the one the reward model likes best", {
    min: 1,
  }),
  response_length: rollout.int(64, "Longest response in tokens", { min: 1, aliases: ["max_new_tokens"] }),
  temperature: rollout.float(1, "Sampling temperature", positive),
  label: logging.text(null, "Name of the result in reports; default: the model folder's name"),
  seed,
  output_dir: logging.path("out", "Folder for evaluation.json"),
} satisfies Table;

export const mergeOptions = {
  adapter_path: model.path(null, "Adapter folder, as sft, reward, ppo, raft or PEFT write it", { required: true }),
  model_name_or_path: model.path(null, "Base model; default: what the adapter names", {
    aliases: ["base_model_name_or_path"],
  }),
  output_dir: logging.path(null, "Folder for the merged model", { required: true }),
} satisfies Table;

export const tokenizerOptions = {
  action: data.choice(["train"], "train", "What to do"),
  dataset_name: data.text(null, "Text to learn from: .txt, .json or .jsonl, also .gz, or builtin:world", {
    required: true,
  }),
  test_size: datasets.test_size,
  max_train_samples: data.int(null, "Learn from this many records only", { min: 1 }),
  ...splits,
  offline: hubOptions.offline,
  template: datasets.template,
  vocab_size: data.int(1024, "Size of the vocabulary, special tokens included", { min: 258 }),
  output_dir: logging.path("tokenizer", "Folder for tokenizer.json and tokenizer_config.json"),
} satisfies Table;

export const reportOptions = {
  input_dir: data.path(null, "Folder of a recipe's stages, or of one training run", { required: true }),
  title: logging.text(null, "Title of the page"),
  description: logging.text(null, "A sentence below the title"),
  output_dir: logging.path(null, "Folder for report.html and summary.json; default: input_dir"),
} satisfies Table;
