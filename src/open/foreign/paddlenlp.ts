/** Arguments of PaddleNLP's Trainer and of its scripts for SFT, reward models and PPO; those without a critic have more. */
import { each, idle, off, type Rule, type Rules, sets } from "./rules.ts";

const packing = "examples are not packed into sequences of one length here: each is learned by itself";

/**
 * Of pairs, PaddleNLP cuts a prompt so only where the whole is longer than `max_seq_len`: then the whole is cut here. Prompts to
 * respond to lose their end there, and stay whole here.
 */
const promptLength: Rule = (value, given, table) =>
  ["maxLength", "numGenerations"].some((key) => Object.hasOwn(table, key)) && !Object.hasOwn(table, "maxPromptLength")
    ? { kind: "idle" }
    : sets("maxPromptLength")(value, given, table);

export const paddleRules: Rules = {
  ...each(
    idle,
    `use_fusemt use_flash_attention use_fused_head_and_loss_fn fused_linear fuse_attention_qkv fuse_attention_ffn use_fused_rms_norm
     use_fused_rope use_fast_layer_norm fp16_opt_level amp_custom_black_list amp_custom_white_list scale_loss
     recompute_granularity recompute_use_reentrant recompute_interval critic_recompute_granularity critic_recompute_use_reentrant
     sharding sharding_degree sharding_parallel_degree sharding_parallel_config save_sharded_model load_sharded_model
     tensor_parallel_degree tensor_parallel_output tensor_parallel_config pipeline_parallel_degree pipeline_parallel_config
     sequence_parallel sequence_parallel_config sep_parallel_degree data_parallel_config hybrid_parallel_topo_order
     force_reshard_pp enable_auto_parallel use_expert_parallel distributed_dataloader to_static virtual_pp_degree
     eval_mode release_grads flatten_param_grads autotuner_benchmark skip_profile_timer unified_checkpoint
     unified_checkpoint_config ignore_load_lr_and_optim ignore_save_lr_and_optim lazy_data_processing lazy do_export
     minimum_eval_times max_evaluate_steps eval_with_do_generation benchmark wandb_api_key flash_mask`,
  ),
  recompute: sets("gradientCheckpointing"),
  rollout_n: sets("numGenerations"),
  lora: sets("usePeft"),
  lora_rank: sets("loraR"),
  rslora: sets("useRslora"),
  dataset_name_or_path: sets("datasetName"),
  dev_dataset_path: sets("evalDatasetName"),
  max_seq_len: sets("maxLength"),
  max_prompt_len: promptLength,
  zero_padding: off(packing),
  greedy_zero_padding: off(packing),
  intokens: off(packing),
  num_cycles: off("a cosine falls once"),
  lr_end: off("a schedule ends at min_learning_rate"),
  power: off("there is no polynomial schedule"),
  weight_quantize_algo: off("say how frozen weights are kept with dtype"),
  prefix_tuning: off("there is no prefix tuning: use_peft trains LoRA adapters"),
  pissa: off("adapters start as LoRA's"),
  dora: sets("useDora"),
};
