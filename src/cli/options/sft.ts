import { familyNames } from "../../nn/families/table.ts";
import type { Table } from "../option.ts";
import {
  adapterOptions,
  chatTemplate,
  data,
  datasets,
  duration,
  evalSteps,
  half,
  heldOut,
  model,
  optimiser,
  run,
  shape,
  tokenizer,
} from "./shared.ts";

export const sftOptions = {
  model_name_or_path: model.path(null, "Model folder to start from; default: from scratch"),
  tokenizer_name_or_path: tokenizer,
  model_type: shape.choice(familyNames(), "llama", "Model family"),
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
  append_eos: data.bool(
    true,
    "End answers and texts with the end token; false leaves that to the data, as LMFlow does",
  ),
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
