import { rewardWeights, weightOptions } from "../models/weight-options.ts";
import type { Table } from "../option.ts";
import { adapterBase, alignment, chatTemplate, data, datasets, logging } from "./shared.ts";

/** How answers are read by a model that judges them. */
export const readingOptions = {
  template: datasets.template,
  max_length: data.int(null, "Cut prompt plus answer to this many tokens; default: the model's context", { min: 2 }),
  truncation_side: data.choice(
    ["right", "left"],
    "right",
    "Where what is longer is cut: left keeps the end of the answer and drops the beginning of the prompt",
  ),
};

export const scoreOptions = {
  reward_model_path: alignment.reward_model_path,
  ...adapterBase,
  ...chatTemplate,
  ...weightOptions,
  ...rewardWeights,
  input_file: data.path(null, "Rows to score: .jsonl, .json or .parquet, also .gz", { required: true }),
  ...readingOptions,
  normalize: data.choice(
    ["auto", "true", "false"],
    "auto",
    "Normalise by the statistics of the model's training; auto: as the model says",
  ),
  output_file: logging.path(null, "JSONL file for the rows with their rewards", { required: true }),
} satisfies Table;
