/** Arguments of TRL's trainers and scripts. */
import { each, idle, isOff, off, only, plain, type Rule, type Rules, record } from "./rules.ts";

/** What says how a model is loaded changes no result; the rest would. */
const loading: Rule = (value) => {
  const {
    attn_implementation,
    dtype,
    torch_dtype,
    device_map,
    use_cache,
    trust_remote_code,
    low_cpu_mem_usage,
    ...rest
  } = record(value) ?? {};
  if (isOff(value) || (record(value) && isOff(rest))) return { kind: "idle" };
  return { kind: "refused", why: "a model is opened as its folder says, without other arguments" };
};

const packing = "examples are not packed into sequences of one length here: each is learned by itself";

export const trlRules: Rules = {
  ...each(
    idle,
    `attn_implementation trust_remote_code lora_task_type bnb_4bit_quant_type use_bnb_nested_quant bnb_4bit_quant_storage
     dataset_streaming ignore_bias_buffers dataset_num_proc router_aux_loss_coef disable_dropout padding_free pad_to_multiple_of
     pad_token padding_value packing_strategy eval_packing precompute_ref_batch_size precompute_ref_log_probs generate_during_eval
     activation_offloading dataset_batch_size num_proc`,
  ),
  // Who samples on what: this program, or the server that --server names.
  ...each(
    idle,
    `use_vllm vllm_mode vllm_model_impl vllm_enable_sleep_mode vllm_server_base_url vllm_server_host vllm_server_port
     vllm_server_timeout vllm_group_port vllm_gpu_memory_utilization vllm_max_model_length vllm_tensor_parallel_size
     vllm_importance_sampling_correction vllm_importance_sampling_mode vllm_importance_sampling_clip_max
     vllm_importance_sampling_clip_min ds3_gather_for_generation cache_implementation
     use_transformers_continuous_batching transformers_continuous_batching_config use_transformers_paged cast_lm_head_to_fp32`,
  ),
  vllm_importance_sampling_cap: (value, given, table) =>
    plain(given.importance_sampling_correction) === "truncated" && Object.hasOwn(table, "importanceSamplingCap")
      ? { kind: "sets", values: { importanceSamplingCap: value } }
      : { kind: "idle" },
  // Of evaluations, of what is shown, and of losses that this method does not have.
  ...each(
    idle,
    `num_generations_eval log_completions log_multimodal log_unique_prompts log_completions_hub_repo sapo_temperature_neg
     sapo_temperature_pos vespo_k_pos vespo_lambda_pos vespo_k_neg vespo_lambda_neg ref_model_mixup_alpha ref_model_sync_steps
     entropy_coef_min entropy_coef_max entropy_coef_delta entropy_target max_tool_calling_iterations`,
  ),
  model_init_kwargs: loading,
  lora_target_parameters: off("adapters stand on linear layers alone"),
  dataset_text_field: only(["text"], "a dataset's texts stand in a column called text: rename yours"),
  dataset_kwargs: off("data are prepared in one way, without other arguments"),
  eos_token: off("the end token is the tokenizer's"),
  truncation_mode: only(["keep_start"], "sequences are cut at their end"),
  shuffle_dataset: (value, _, table) =>
    isOff(value) && Object.hasOwn(table, "numGenerations")
      ? { kind: "refused", why: "prompts come in a random order" }
      : { kind: "idle" },
  packing: off(packing),
  loss_type: only(["nll", "chunked_nll"], "the loss of this method is the negative log-likelihood"),
  generation_kwargs: off("name what is sampled by with options of its own, such as top_k"),
  chat_template_kwargs: off("chat templates get the messages alone"),
  vllm_structured_outputs_regex: off("responses follow no pattern here"),
  sync_ref_model: off("the reference stays as it is"),
  top_entropy_quantile: only([1], "all tokens are learned"),
  entropy_coef: off("this method has no entropy bonus of that kind"),
  use_adaptive_entropy: off("this method has no entropy bonus of that kind"),
  off_policy_mask_threshold: off("no sequence is left out for being off the policy"),
  max_completion_length: off("answers are cut by max_length alone"),
  alpha: off("AlphaPO is not here"),
  is_encoder_decoder: off("models are decoders"),
  stop_token: only(["eos"], "a response ends at the end token"),
  total_episodes: off("set max_steps: rollouts of rollout_batch_size prompts"),
};
