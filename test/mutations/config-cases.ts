/** Damaged config.json files: other values, fields of other families, and other ways to say the same. */
import { RandomStream } from "../../src/runtime/rng.ts";
import configs from "./configs.json" with { type: "json" };
import { damage, pick, type Tree, treeOf, written } from "./json-tree.ts";

/** What transformers writes, and what published files have (make_configs.py). */
export const CONFIGS: readonly Record<string, unknown>[] = configs;
const yarn = { rope_type: "yarn", factor: 4, original_max_position_embeddings: 512 };
const ROPES: unknown[] = [
  null,
  {},
  { rope_type: "default" },
  { type: "linear", factor: 2 },
  { rope_type: "linear", factor: 4, rope_theta: 5000 },
  { rope_type: "dynamic", factor: 2 },
  { type: "default", rope_type: "linear", factor: 2 },
  { rope_type: "llama3", factor: 8, low_freq_factor: 1, high_freq_factor: 4, original_max_position_embeddings: 512 },
  yarn,
  { ...yarn, mscale: 1, mscale_all_dim: 0.5 },
  { ...yarn, attention_factor: 1.5, truncate: false, beta_fast: 16, beta_slow: 2 },
  { type: "yarn", factor: 4 },
  { rope_type: "longrope", factor: 4, short_factor: [1], long_factor: [2] },
  { rope_type: "default", rope_theta: 20000, partial_rotary_factor: 0.5 },
  { full_attention: { rope_type: "default", rope_theta: 70000 }, sliding_attention: { rope_type: "default" } },
  { full_attention: yarn, sliding_attention: { rope_type: "default", rope_theta: 5000 } },
];
/** Values that fields of this name may have. */
const VALUES: Record<string, readonly unknown[]> = {
  rope_scaling: ROPES,
  rope_parameters: ROPES,
  rope_theta: [10000, 500000, null],
  partial_rotary_factor: [1, 0.5, null],
  rotary_pct: [0.25, 0.5, 1],
  rotary_emb_base: [10000, 5000],
  rope_local_base_freq: [10000, 5000],
  hidden_act: ["gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "silu", "swish", "relu", "quick_gelu", null],
  hidden_activation: ["gelu", "gelu_pytorch_tanh", "silu", null],
  activation_function: ["gelu", "gelu_new", "relu", "tanh"],
  sliding_window: [null, 0, 16, 4096],
  use_sliding_window: [true, false],
  max_window_layers: [0, 3, 6, 28],
  layer_types: [
    null,
    ["sliding_attention", "full_attention"].flatMap((type) => [type, type, type]),
    new Array(6).fill("sliding_attention"),
    new Array(6).fill("full_attention"),
    new Array(6).fill("chunked_attention"),
    new Array(5).fill("full_attention"),
    new Array(7).fill("full_attention"),
  ],
  sliding_window_pattern: [2, 3, 6, null],
  _sliding_window_pattern: [2, 6],
  head_dim: [8, 16, 32, null],
  num_key_value_heads: [1, 2, 8, null],
  num_attention_heads: [4, 8],
  num_hidden_layers: [6, 3],
  attention_bias: [true, false, null],
  mlp_bias: [true, false],
  tie_word_embeddings: [true, false, null],
  attn_logit_softcapping: [null, 30, 0],
  final_logit_softcapping: [null, 30],
  query_pre_attn_scalar: [16, 24.5, null],
  no_rope_layers: [null, [1, 0, 1, 0, 1, 1], [true, false, true, true, true, true], [2, 0, 1, 1, 1, 1], []],
  no_rope_layer_interval: [2, 4],
  use_parallel_residual: [true, false],
  attention_types: [
    null,
    [[["global", "local"], 3]],
    [[["local"], 6]],
    [
      [["global"], 2],
      [["local"], 4],
    ],
  ],
  attention_layers: [null, new Array(6).fill("global"), ["local", "global", "local", "global", "local", "global"]],
  window_size: [256, 16, null],
  n_inner: [null, 100],
  hidden_size: [64, 32],
  n_embd: [64, 32],
  scale_attn_weights: [true, false],
  scale_attn_by_inverse_layer_idx: [true, false],
  use_bidirectional_attention: [null, false, true],
  eos_token_id: [1, [1, 2], -1, null, []],
  bos_token_id: [1, -1, null],
  original_max_position_embeddings: [512, null],
  max_position_embeddings: [512, 4096],
  rms_norm_eps: [1e-6, 1e-5, null],
  quantization_config: [null, {}, { quant_method: "gptq", bits: 4 }],
  is_decoder: [true, false],
  dtype: ["float32", "bfloat16"],
};

export function configCase(seed: number): Uint8Array {
  const random = new RandomStream(seed);
  const config: Record<string, unknown> = structuredClone(pick(random, CONFIGS));
  for (let i = 1 + random.int(3); i > 0; i--) {
    const own = Object.keys(config);
    const known = own.filter((key) => key in VALUES);
    const kind = random.int(8);
    if (kind < 4) {
      const key = pick(random, random.int(2) && known.length > 0 ? known : Object.keys(VALUES));
      config[key] = structuredClone(pick(random, VALUES[key]));
    } else if (kind === 4) delete config[pick(random, own)];
    else if (kind === 5) {
      const [key, value] = pick(random, Object.entries(pick(random, CONFIGS)));
      config[key] = structuredClone(value);
    } else {
      const tree = treeOf(config) as Extract<Tree, { pairs: unknown }>;
      damage(tree, random);
      const text = written(tree);
      if (i === 1) return new TextEncoder().encode(text);
      Object.assign(config, JSON.parse(text.replaceAll("1e400", "1e300")));
    }
  }
  return new TextEncoder().encode(written(treeOf(config)));
}
