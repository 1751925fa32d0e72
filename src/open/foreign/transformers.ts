/** Arguments of Hugging Face's Trainer, by their names in transformers 5 and before. */
import { each, idle, isOff, off, only, plain, type Rule, type Rules, record, sets } from "./rules.ts";

/** Schedules' own arguments: the minimum of a cosine has a setting here. */
const schedule: Rule = (value, given, table) => {
  const { min_lr, ...rest } = record(value) ?? {};
  if (min_lr !== undefined && isOff(rest)) return sets("minLearningRate")(min_lr, given, table);
  return off("schedules take no arguments but min_lr (min_learning_rate) here")(value, given, table);
};

/** Muon, by the name of torch.optim's class; all kinds of AdamW are one method: they differ in how it is computed, and in how many bits its moments have. */
const optimizer: Rule = (value, _, table) => {
  const name = isOff(value) ? "adamw" : plain(value);
  if (!/^((paged_)?adamw|muon$)/.test(name)) {
    return { kind: "refused", why: `AdamW and Muon are the optimizers here, not ${String(value)}` };
  }
  if (!Object.hasOwn(table, "optim")) return { kind: "idle" };
  if (name === "muon") return { kind: "sets", values: { optim: name } };
  return { kind: "sets", values: { optim: name.endsWith("_8bit") ? "adamw_8bit" : "adamw_torch" } };
};

/** Epochs where a method counts steps alone. */
const epochs: Rule = (_, given, table) =>
  !Object.hasOwn(table, "maxSteps") || !isOff(given.max_steps ?? null)
    ? { kind: "idle" }
    : { kind: "refused", why: "this method counts steps, not epochs: set max_steps" };

export const transformersRules: Rules = {
  // How it is computed, on what, and with what kept in memory.
  ...each(
    idle,
    `bf16 bf16_full_eval fp16_full_eval fp16_opt_level fp16_backend half_precision_backend tf32 amp_master_grad
     torch_compile torch_compile_backend torch_compile_mode torchdynamo use_liger_kernel liger_kernel_config use_cache
     torch_empty_cache_steps auto_find_batch_size jit_mode_eval use_ipex use_mps_device use_cpu no_cuda cuda device local_rank
     activation_checkpointing_kwargs gradient_checkpointing_kwargs activation_offloading
     average_tokens_across_devices accelerator_config parallelism_config deepspeed fsdp fsdp_config fsdp_min_num_params
     fsdp_transformer_layer_cls_to_wrap ddp_find_unused_parameters ddp_bucket_cap_mb ddp_broadcast_buffers ddp_static_graph
     ddp_backend ddp_timeout sharded_ddp xpu_backend tpu_num_cores tpu_metrics_debug mp_parameters ray_scope
     dataloader_num_workers dataloader_pin_memory dataloader_persistent_workers dataloader_prefetch_factor
     dataloader_multiprocessing_context dataloader_in_order dispatch_batches split_batches remove_unused_columns label_names
     length_column_name full_determinism past_index`,
  ),
  // What is told, to whom, and what is kept.
  ...each(
    idle,
    `logging_strategy logging_first_step logging_dir log_on_each_node logging_nan_inf_filter log_level log_level_replica
     include_num_input_tokens_seen include_tokens_per_second disable_tqdm report_to run_name project trackio_space_id
     trackio_bucket_id trackio_static_space_id debug skip_memory_metrics do_train do_eval do_predict overwrite_output_dir
     save_only_model save_on_each_node save_safetensors enable_jit_checkpoint restore_callback_states_from_checkpoint
     hub_token hub_private_repo hub_model_id hub_strategy hub_always_push hub_revision push_to_hub_model_id
     push_to_hub_organization push_to_hub_token metric_for_best_model greater_is_better early_stopping_threshold`,
  ),
  // Evaluations measure the same numbers in batches of any size, and change nothing.
  ...each(
    idle,
    `per_device_eval_batch_size eval_delay prediction_loss_only eval_on_start eval_do_concat_batches eval_use_gather_object
     eval_accumulation_steps include_for_metrics include_inputs_for_metrics batch_eval_metrics eval_steps eval_strategy
     evaluation_strategy dataset_test_split eval_dataset_name max_eval_samples`,
  ),
  ...each(off("nothing is evaluated on the way here"), "load_best_model_at_end early_stopping_patience"),
  ...each(off("nothing is uploaded: put the finished folder on the hub with `webrlhf push`"), "push_to_hub"),
  activation_checkpointing: (value, given, table) =>
    isOff(value) ? { kind: "idle" } : sets("gradientCheckpointing")(value, given, table),
  lr_scheduler_kwargs: schedule,
  optim: optimizer,
  optim_args: off("AdamW takes no other arguments here"),
  optim_target_modules: off("all weights that are trained have the same optimizer"),
  adam_epsilon: only([1e-8], "AdamW's epsilon is 1e-8 here"),
  label_smoothing_factor: off("this method smooths no labels"),
  neftune_noise_alpha: off("no noise is added to embeddings here"),
  ignore_data_skip: off("a resumed run goes on with the data where it stopped"),
  data_seed: off("seed draws the order of the data, too"),
  // Rollouts go on from one pass over the prompts to the next, so that none is smaller.
  dataloader_drop_last: (value, given, table) =>
    Object.hasOwn(table, "numGenerations")
      ? { kind: "idle" }
      : off("the last, smaller batch of an epoch is learned from, too")(value, given, table),
  train_sampling_strategy: (value, given, table) =>
    // TRL's KTO pairs prompts with the answers of its own batch, and keeps the order for that; here batches are drawn.
    Object.hasOwn(table, "desirableWeight") && plain(value) === "sequential"
      ? { kind: "idle" }
      : only(["random"], "examples come in a random order")(value, given, table),
  group_by_length: off("examples come in a random order"),
  num_train_epochs: epochs,
  fp16: off("this method computes in f32"),
};
