import { hubOptions } from "../models/hub.ts";
import type { Table } from "../option.ts";
import { data, datasets, logging, splits } from "./shared.ts";

export const tokenizerOptions = {
  action: data.choice(["train"], "train", "What to do"),
  dataset_name: data.mixture(null, "Text to learn from: .txt, .json or .jsonl, also .gz, or builtin:world", {
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
