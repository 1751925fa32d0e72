"""Writes configs.json: config.json of every family, as transformers writes it by default, and as published models have it.

    pip install transformers==5.*
    python test/mutations/make_configs.py
"""

import json
from pathlib import Path

from transformers import CONFIG_MAPPING

LAYERS = 6
small = {"hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": LAYERS, "num_attention_heads": 8, "vocab_size": 1000}
grouped = {**small, "num_key_value_heads": 2, "max_position_embeddings": 2048}
sizes = {
    "gpt2": {"n_embd": 64, "n_layer": LAYERS, "n_head": 8, "n_positions": 256, "vocab_size": 1000},
    "gpt_neo": {"hidden_size": 64, "num_layers": LAYERS, "num_heads": 8, "vocab_size": 1000, "attention_types": [[["global", "local"], LAYERS // 2]]},
    "gpt_neox": {**small, "max_position_embeddings": 2048},
    "llama": grouped,
    "smollm3": grouped,
    "mistral": {**grouped, "head_dim": 16},
    "qwen2": grouped,
    "qwen3": {**grouped, "head_dim": 16},
    "gemma": {**grouped, "head_dim": 16},
    "gemma2": {**grouped, "head_dim": 16},
    "gemma3_text": {**grouped, "head_dim": 16},
}
configs = []
for family, size in sizes.items():
    config = CONFIG_MAPPING[family](**size).to_dict()
    config.pop("transformers_version")
    configs.append({"model_type": family, **config})

# Fields as they stand in the files on the hub.
by_others = {"transformers_version": "4.44.2", "torch_dtype": "bfloat16", "use_cache": True, "initializer_range": 0.02, "attention_dropout": 0.0}
published = [
    {**grouped, "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_act": "silu", "rms_norm_eps": 1e-5, "attention_bias": False, "mlp_bias": False, "pretraining_tp": 1, "rope_theta": 500000.0, "rope_scaling": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 1024, "rope_type": "llama3"}, "tie_word_embeddings": False, "bos_token_id": 1, "eos_token_id": [2, 3, 4]},
    {**small, "_name_or_path": "some/model", "model_type": "llama", "max_position_embeddings": 2048, "hidden_act": "silu", "rms_norm_eps": 1e-6, "pretraining_tp": 1, "rope_scaling": None, "max_sequence_length": 2048, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2},
    {**grouped, "model_type": "llama", "hidden_act": "silu", "rms_norm_eps": 1e-6, "rope_scaling": {"type": "linear", "factor": 2.0}, "head_dim": 8, "_attn_implementation_autoset": True},
    {**grouped, "model_type": "llama", "hidden_act": "silu", "rms_norm_eps": 1e-6, "rope_scaling": {"type": "dynamic", "factor": 2.0}, "unsloth_version": "2025.1"},
    {**grouped, "model_type": "mistral", "hidden_act": "silu", "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "sliding_window": 512, "tie_word_embeddings": False, "bos_token_id": 1, "eos_token_id": 2},
    {**grouped, "model_type": "mistral", "hidden_act": "silu", "rms_norm_eps": 1e-5, "rope_theta": 1000000.0, "sliding_window": None, "tie_word_embeddings": False},
    {**grouped, "model_type": "qwen2", "hidden_act": "silu", "rms_norm_eps": 1e-6, "rope_theta": 1000000.0, "sliding_window": 131072, "use_sliding_window": False, "max_window_layers": 4, "tie_word_embeddings": True, "use_mrope": False, "bos_token_id": 1, "eos_token_id": 2},
    {**grouped, "model_type": "qwen2", "hidden_act": "silu", "rms_norm_eps": 1e-6, "rope_theta": 1000000.0, "sliding_window": 256, "use_sliding_window": True, "max_window_layers": 3, "rope_scaling": {"factor": 4.0, "original_max_position_embeddings": 512, "type": "yarn"}},
    {**grouped, "model_type": "qwen3", "head_dim": 16, "hidden_act": "silu", "rms_norm_eps": 1e-6, "rope_theta": 1000000, "rope_scaling": None, "sliding_window": None, "use_sliding_window": False, "max_window_layers": LAYERS, "attention_bias": False, "tie_word_embeddings": True},
    {**grouped, "model_type": "gemma", "head_dim": 16, "hidden_act": "gelu", "hidden_activation": None, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "rope_scaling": None, "bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0},
    {**grouped, "model_type": "gemma2", "head_dim": 16, "hidden_act": "gelu_pytorch_tanh", "hidden_activation": "gelu_pytorch_tanh", "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0, "query_pre_attn_scalar": 16, "sliding_window": 512, "cache_implementation": "hybrid"},
    {**grouped, "model_type": "gemma3_text", "head_dim": 16, "hidden_activation": "gelu_pytorch_tanh", "rms_norm_eps": 1e-6, "rope_theta": 1000000, "rope_local_base_freq": 10000, "rope_scaling": None, "attn_logit_softcapping": None, "final_logit_softcapping": None, "query_pre_attn_scalar": 16, "sliding_window": 512, "sliding_window_pattern": 6, "cache_implementation": "hybrid", "attention_bias": False, "eos_token_id": [1, 106]},
    {**grouped, "model_type": "gemma3_text", "head_dim": 16, "hidden_activation": "gelu_pytorch_tanh", "rms_norm_eps": 1e-6, "rope_theta": 1000000.0, "rope_local_base_freq": 10000.0, "rope_scaling": {"factor": 8.0, "rope_type": "linear"}, "query_pre_attn_scalar": 16, "sliding_window": 512, "layer_types": ["sliding_attention", "full_attention"] * (LAYERS // 2)},
    {**sizes["gpt2"], "model_type": "gpt2", "activation_function": "gelu_new", "attn_pdrop": 0.1, "embd_pdrop": 0.1, "resid_pdrop": 0.1, "layer_norm_epsilon": 1e-5, "n_ctx": 256, "summary_activation": None, "summary_first_dropout": 0.1, "summary_proj_to_labels": True, "summary_type": "cls_index", "summary_use_proj": True, "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}}, "bos_token_id": 5, "eos_token_id": 5},
    {**sizes["gpt_neo"], "model_type": "gpt_neo", "activation_function": "gelu_new", "attention_layers": ["global", "local"] * (LAYERS // 2), "embed_dropout": 0, "resid_dropout": 0, "gradient_checkpointing": False, "intermediate_size": None, "layer_norm_epsilon": 1e-5, "max_position_embeddings": 512, "window_size": 64, "summary_activation": None, "summary_first_dropout": 0.1},
    {**small, "model_type": "gpt_neox", "hidden_act": "gelu", "layer_norm_eps": 1e-5, "max_position_embeddings": 2048, "rotary_emb_base": 10000, "rotary_pct": 0.5, "use_parallel_residual": True, "classifier_dropout": 0.1, "tie_word_embeddings": False, "bos_token_id": 0, "eos_token_id": 0},
    {**grouped, "model_type": "smollm3", "hidden_act": "silu", "rms_norm_eps": 1e-6, "rope_theta": 5000000.0, "rope_scaling": None, "no_rope_layers": [1, 1, 1, 0, 1, 1], "no_rope_layer_interval": 4, "layer_types": ["full_attention"] * LAYERS, "max_window_layers": 28, "sliding_window": None, "use_sliding_window": False, "attention_bias": False, "mlp_bias": False, "pretraining_tp": 2},
]
configs += [{**by_others, **config} for config in published]
Path(__file__).with_name("configs.json").write_text("[\n" + ",\n".join(json.dumps(config) for config in configs) + "\n]\n")
