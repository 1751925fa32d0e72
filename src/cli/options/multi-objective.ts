import { weightOptions } from "../models/weight-options.ts";
import { options, type Table } from "../option.ts";
import {
  chatTemplate,
  data,
  datasets,
  logging,
  model,
  optim,
  optimiser,
  positive,
  run,
  splits,
  tokenizer,
} from "./shared.ts";

const regression = options("Regression and verbosity");
const gating = options("Gate");
const { learning_rate, lr_scheduler_type, warmup_steps, weight_decay, adam_beta1, adam_beta2 } = optimiser(
  1e-3,
  "cosine",
  1024,
);

export const multiObjectiveOptions = {
  model_name_or_path: model.path(
    null,
    "Model whose hidden states are the features, mostly a reward model; it stays as it is",
    {
      required: true,
    },
  ),
  tokenizer_name_or_path: tokenizer,
  ...chatTemplate,
  ...weightOptions,
  dataset_name: data.text(
    "builtin:domains",
    "Rated answers: a file or dataset with messages, or prompt and completion (or response), and number columns",
  ),
  ...splits,
  attributes: data.list(null, "Columns that are ratings; default: every column of numbers. Null is a missing rating"),
  max_train_samples: data.int(null, "Use this many rated answers; builtin:domains makes this many, 2048 by default", {
    min: 2,
  }),
  preference_dataset_name: data.text(null, "Preference pairs to train the gate on; default: none, and no gate"),
  max_preference_samples: data.int(null, "Use this many pairs; builtin sets make this many, 2048 by default", {
    min: 1,
  }),
  reference_dataset_name: data.text(
    null,
    "Pairs on whose answers verbosity is measured; default: those of preference_dataset_name, or the rated answers",
  ),
  template: datasets.template,
  long_prompts: datasets.long_prompts,
  max_length: data.int(null, "Cut prompt plus answer to this many tokens; default: the model's context", { min: 2 }),
  verbosity_attribute: regression.text(
    null,
    "Attribute to take out of the others, so that length is not paid for; default: none",
  ),
  corr_threshold: regression.float(0.03, "Rank correlation with verbosity that may stay in an attribute", {
    min: -1,
    max: 1,
  }),
  attribute_weights: regression.list(null, "Without a gate: the weight of each attribute; default: equal ones"),
  gating_hidden_dim: gating.int(1024, "Width of the hidden layers", { min: 1 }),
  gating_n_hidden: gating.int(3, "Hidden layers", { min: 1 }),
  gating_temperature: gating.float(10, "Divides the outputs before the softmax", positive),
  gating_dropout: gating.float(0.2, "Part of the hidden units that drops out in training", { min: 0, max: 0.99 }),
  debias_training: gating.bool(
    true,
    "Train the gate on rewards without verbosity, as they are used; false trains on plain ones, as the released script",
  ),
  validation_share: gating.float(0.2, "Part of the pairs that is held out", { min: 0, max: 0.99 }),
  max_steps: optim.int(2000, "Optimizer steps of the gate", { min: 1, aliases: ["n_steps"] }),
  per_device_train_batch_size: optim.int(1024, "Pairs in a step, drawn with replacement", {
    min: 1,
    aliases: ["batch_size"],
  }),
  learning_rate,
  lr_scheduler_type,
  warmup_steps,
  weight_decay,
  adam_beta1,
  adam_beta2,
  max_grad_norm: optim.float(0, "Clip the global gradient norm to this; 0 does not clip", { min: 0 }),
  eval_steps: logging.int(0, "Steps between evaluations on held-out pairs; 0 evaluates at the end", { min: 0 }),
  ...run,
} satisfies Table;
