/**
 * Fields of published config.json files that change nothing that is computed here: where a model comes from, how it was
 * trained, how it is stored or loaded, what its labels are called, how transformers generates or returns things.
 */
const HARMLESS = new Set(
  `
  architectures auto_map model_type transformers_version library_name license language tags torch_dtype dtype model_name
  name_or_path base_model_name_or_path finetuning_task task_specific_params prefix problem_type id2label label2id num_labels
  tokenizer_class tokenizer vocab vocab_file model_max_length processor_class

  use_cache cache_implementation use_return_dict return_dict output_attentions output_hidden_states output_scores
  return_dict_in_generate torchscript tie_encoder_decoder is_encoder_decoder is_decoder chunk_size_feed_forward pruned_heads
  attn_implementation attention_implementation use_flash_attn use_flash_attention_2 use_flash_attn_2 flash_attention
  gradient_checkpointing use_bfloat16 use_fp32_norm use_kernels low_cpu_mem_usage device_map max_shard_size pretraining_tp
  tensor_parallel_degree tensor_parallel_output sequence_parallel use_fused_attn fuse_attention_qkv fuse_attention_ffn
  fuse_sequence_parallel_allreduce use_fused_head_and_loss_fn recompute recompute_granularity use_recompute

  initializer_range initializer_factor init_std init_method attention_dropout attn_dropout attn_pdrop embd_pdrop embed_dropout
  resid_pdrop resid_dropout hidden_dropout hidden_dropout_prob attention_probs_dropout_prob classifier_dropout dropout
  activation_dropout layerdrop residual_dropout summary_activation summary_first_dropout summary_hidden_size
  summary_proj_to_labels summary_type summary_use_proj training_args lora_config peft_config reorder_and_upcast_attn

  bos_token_id eos_token_id pad_token_id unk_token_id sep_token_id cls_token_id mask_token_id decoder_start_token_id
  forced_bos_token_id forced_eos_token_id begin_suppress_tokens suppress_tokens bad_words_ids
  max_length min_length max_new_tokens min_new_tokens do_sample early_stopping num_beams num_beam_groups diversity_penalty
  temperature top_k top_p typical_p repetition_penalty length_penalty no_repeat_ngram_size encoder_no_repeat_ngram_size
  num_return_sequences remove_invalid_values exponential_decay_length_penalty

  n_ctx max_sequence_length max_seq_len seq_length user_defined_symbols
  score_dim score_type bias do_normalize normalizer_type momentum mean var count
  num_objectives gating_temperature gating_hidden_dim gating_n_hidden
  `
    .trim()
    .split(/\s+/),
);

/** Whether a field of config.json changes nothing that is computed here. */
export const isHarmless = (key: string): boolean =>
  HARMLESS.has(key) ||
  /^(_name_or_path|_attn_implementation|_commit_hash|_from_|unsloth|mlx_|neftune|odin_|webrlhf)/.test(key);
