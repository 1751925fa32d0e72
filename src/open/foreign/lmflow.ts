/** Arguments of LMFlow's programs and scripts, and of Online-RLHF's. */
import { hasChatTemplate } from "../../data/builtin-templates.ts";
import { each, idle, isOff, off, only, type Rule, type Rules, sets } from "./rules.ts";

const packing = "texts are not joined and cut into blocks here: each is learned by itself";

/** LMFlow's "disable" is its "empty" by another name. */
const templateOf = (name: unknown) => `builtin:${name === "disable" ? "empty" : name}`;

const noTemplate =
  "there is no such template here; leave it out for the model's own, or name a file: chat_template_path";

/** One of `my_world_size` parts of the prompts. */
const shard: Rule = (value, given, table) =>
  given.my_world_size === undefined
    ? { kind: "refused", why: "needs my_world_size beside it" }
    : sets("shard", () => `${value}/${given.my_world_size}`)(value, given, table);

/** Online-RLHF's generation writes all responses of all prompts, a line for each prompt, to `<output_dir><local_index>.json`. */
const responsesFile: Rule = (value, given, table) =>
  Object.hasOwn(table, "outputFormat") && Object.hasOwn(table, "numPrompts")
    ? {
        kind: "sets",
        values: {
          outputFile: `${value}${given.local_index ?? ""}.json`,
          outputFormat: "responses",
          numPrompts: Number.MAX_SAFE_INTEGER,
        },
      }
    : sets("outputFile")(value, given, table);

export const lmflowRules: Rules = {
  ...each(
    idle,
    `preprocessing_num_workers group_texts_batch_size overwrite_cache customized_cache_dir cache_dir is_custom_dataset streaming
     keep_linebreaks use_fast_tokenizer use_auth_token use_ram_optimized_load use_wandb mixed_precision
     use_accelerator use_accelerator_for_evaluator device ds_config trust_remote_code config_name random_shuffle test_file dataset_key prompt_structure`,
  ),
  use_lora: sets("usePeft"),
  use_int8: sets("loadIn8bit"),
  use_qlora: (value, given, table) =>
    isOff(value) ? { kind: "idle" } : sets("loadIn4bit", () => true)(value, given, table),
  lora_model_path: (value, given, table) =>
    isOff(value) ? { kind: "idle" } : sets("modelNameOrPath")(value, given, table),
  output_model_path: sets("outputDir"),
  output_lora_path: sets("outputDir"),
  dataset_path: sets("datasetName"),
  train_dataset_path: sets("datasetName"),
  train_file: sets("datasetName"),
  train_dir: sets("datasetName"),
  eval_dataset_path: sets("evalDatasetName"),
  validation_file: sets("evalDatasetName"),
  eval_dir: sets("evalDatasetName"),
  dataset_config_name: sets("datasetConfig"),
  tokenizer_name: sets("tokenizerNameOrPath"),
  validation_split_percentage: sets("testSize", (value) => Number(value) / 100),
  block_size: sets("maxLength"),
  random_seed: sets("seed"),
  conversation_template: (value, given, table) =>
    isOff(value)
      ? { kind: "idle" }
      : hasChatTemplate(templateOf(value))
        ? sets("chatTemplatePath", templateOf)(value, given, table)
        : { kind: "refused", why: noTemplate },
  model_type: only(["gpt2", "llama", "auto"], "a model's family is its folder's"),
  max_input_length: sets("maxModelLen"),
  arch_type: only(["decoder_only", "text_regression"], "models are decoders, with a score head where they give scores"),
  save_aggregated_lora: off("an adapter is put into its base with: webrlhf merge"),
  disable_group_texts: only([true], packing),
  config_overrides: off("a model's shape is its folder's"),
  use_lisa: off("LISA is not here"),
  use_customized_optim: off("AdamW and Muon are the optimizers here"),
  local_index: shard,
  my_world_size: (_, given) =>
    given.local_index === undefined ? { kind: "refused", why: "needs local_index beside it" } : { kind: "idle" },
  eos_ids: sets("eosTokenId"),
  output_dir: responsesFile,
  reference_model_name_or_path: sets("refModelNameOrPath"),
  margin_scale: only([1], "margins are scaled where pairs are made: webrlhf pairs --margin_scale"),
  length_penalty: off("length counts where pairs are made: webrlhf pairs --length_penalty"),
  mask_prompt: only([true], "nothing is learned from prompts"),
  sampling_paired_method: only(["max_min"], "pairs are made, by any rule, with webrlhf pairs --choose_type"),
  choose_type: only(["max_min"], "the best and the worst response make a pair here: webrlhf pairs has other rules"),
  _k: (value, given, table) =>
    sets("numGenerations" in table ? "numGenerations" : "numReturnSequences")(value, given, table),
};

/** Rules for names that are settings here, too, where others stand beside them; null where none does. */
export const lmflowBeside: Rules = {
  // An adapter to go on with is named beside its base.
  model_name_or_path: (value, given, table) =>
    !isOff(given.lora_model_path) && Object.hasOwn(table, "baseModelNameOrPath")
      ? { kind: "sets", values: { baseModelNameOrPath: value } }
      : null,
};
