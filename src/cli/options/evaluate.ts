import { rewardWeights, weightOptions } from "../models/weight-options.ts";
import { options, type Table } from "../option.ts";
import { readingOptions } from "./score.ts";
import {
  adapterBase,
  alignment,
  chatTemplate,
  data,
  logging,
  model,
  positive,
  prompts,
  rewardServer,
  rollout,
  seed,
} from "./shared.ts";

const judging = options("Pairs");

/** How a reward model's choices between two answers are counted. */
const pairJudging = {
  ties: judging.choice(["strict", "half"], "strict", "A tie counts as wrong (RewardBench), or as half right (RLHFlow)"),
  prior_dataset_name: judging.text(
    null,
    "With RewardBench: its prior preference sets, a dataset (or several, comma-separated) with a subset for each pair",
  ),
  legacy_counts: judging.bool(
    false,
    "With RewardBench: swap the weights of the XSTest subsets, as its early scripts did",
  ),
  bootstrap_samples: judging.int(1000, "Resamples for the 95 % intervals; 0 gives none", { min: 0 }),
};

export const evaluateOptions = {
  subject: model.choice(
    ["auto", "policy", "reward"],
    "auto",
    "What to measure; auto: the policy if there is one, else the reward model",
  ),
  model_name_or_path: model.path(null, "Policy to sample from; without it the reward model is tested on pairs"),
  ref_model_name_or_path: model.path(null, "Model that the KL is measured against; default: no KL"),
  ...adapterBase,
  reward_model_path: alignment.reward_model_path,
  ...rewardServer,
  ...chatTemplate,
  ...weightOptions,
  ...rewardWeights,
  ...prompts,
  num_prompts: data.int(null, "Prompts or pairs to use; default: 256 prompts, or all pairs of a dataset", { min: 1 }),
  max_length: readingOptions.max_length,
  truncation_side: readingOptions.truncation_side,
  ...pairJudging,
  best_of: rollout.int(1, "Sample this many responses per prompt and keep the one the reward model likes best", {
    min: 1,
  }),
  response_length: rollout.int(64, "Longest response in tokens", { min: 1, aliases: ["max_new_tokens"] }),
  temperature: rollout.float(1, "Sampling temperature", positive),
  perplexity_dataset_name: data.text(
    null,
    "Held-out texts, or prompts with answers, to measure the policy's perplexity on; default: none",
  ),
  evaluate_block_size: data.int(512, "Tokens from one window to the next where perplexity is that of running text", {
    min: 1,
  }),
  label: logging.text(null, "Name of the result in reports; default: the model folder's name"),
  seed,
  output_dir: logging.path("out", "Folder for evaluation.json"),
} satisfies Table;
