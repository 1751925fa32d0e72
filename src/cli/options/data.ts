import { writtenTypes } from "../../data/lmflow-write.ts";
import { hubOptions } from "../models/hub.ts";
import { options, type Table } from "../option.ts";
import { chatTemplate, data, datasets, logging, seed, splits, tokenizer } from "./shared.ts";

const filters = options("Filters");
const output = options("Output");

export const dataOptions = {
  action: data.choice(
    ["list", "describe", "prepare", "convert"],
    "describe",
    "Show the registered names, what is in a dataset, write it for training, or write it in another form",
  ),
  dataset_name: data.mixture(null, "What to read: a file, a dataset folder, org/name, a registered name, or a mixture"),
  ...splits,
  offline: hubOptions.offline,
  max_train_samples: data.int(null, "Use this many records", { min: 1 }),
  consumer: data.choice(
    ["auto", "supervised", "chosen", "preference", "safety", "prompt"],
    "auto",
    "What is taken of a sample; auto takes pairs where there are two answers",
  ),
  template: datasets.template,
  tokenizer_name_or_path: tokenizer,
  ...chatTemplate,
  deduplicate: filters.choice(
    ["none", "prompt", "record"],
    "none",
    "Keep the last of records with the same prompt, or of the same records",
  ),
  valid_pairs: filters.bool(
    false,
    "Leave out pairs whose answers are empty or hold turns of their own, and conversations that are no valid pair (RLHFlow)",
  ),
  min_length: filters.int(0, "Leave out records of fewer characters, prompt and longer answer together", { min: 0 }),
  max_length: filters.int(null, "Leave out records of more characters", { min: 1 }),
  max_tokens: filters.int(null, "Leave out records of more tokens; needs tokenizer_name_or_path", { min: 1 }),
  max_prompt_tokens: filters.int(null, "Leave out records whose prompt has more tokens", { min: 1 }),
  test_size: data.float(0, "Part of the prompts that is written apart as test data", { min: 0, max: 0.99 }),
  seed,
  to: output.choice(["jsonl", ...writtenTypes], "jsonl", "Form that convert writes: JSON lines, or LMFlow's of a type"),
  marks: output.choice(
    ["keep", "lmflow"],
    "keep",
    'How LMFlow\'s texts mark who speaks: as they are, or as "###Human:" and "###Assistant:"',
  ),
  num_rows: output.int(3, "Records to show", { min: 0 }),
  output_dir: logging.path("data", "Folder for what prepare and convert write"),
  output_file: output.text(null, "File for describe's figures as JSON; default: none"),
} satisfies Table;
