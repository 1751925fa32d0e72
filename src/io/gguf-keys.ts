/** The metadata of a GGUF file that a model's config.json becomes: gguf-config.ts the other way round. */
import type { GgufField } from "./gguf-write.ts";

type Json = Record<string, unknown>;
/** Keys without the architecture's name. */
export type GgufKeys = Record<string, GgufField>;

const number = (json: Json, key: string): number => json[key] as number;
const f32 = (value: unknown): GgufField => ({ f32: value as number });

const sizes = (json: Json): GgufKeys => ({
  vocab_size: number(json, "vocab_size"),
  context_length: number(json, "max_position_embeddings"),
  embedding_length: number(json, "hidden_size"),
  block_count: number(json, "num_hidden_layers"),
  feed_forward_length: number(json, "intermediate_size"),
  "attention.head_count": number(json, "num_attention_heads"),
});

/** What all with RMSNorm and rotary positions have. */
function decoder(json: Json): GgufKeys {
  const size = number(json, "head_dim");
  return {
    ...sizes(json),
    "attention.head_count_kv": number(json, "num_key_value_heads"),
    "attention.key_length": size,
    "attention.value_length": size,
    "attention.layer_norm_rms_epsilon": f32(json.rms_norm_eps),
    "rope.dimension_count": size,
    ...rope(json, json.rope_theta),
  };
}

function rope(json: Json, theta: unknown): GgufKeys {
  const scaling = json.rope_scaling as Json | undefined;
  const type = scaling?.rope_type;
  const keys: GgufKeys = { "rope.freq_base": f32(theta) };
  if (type !== "linear" && type !== "yarn") return keys; // Llama 3's is a tensor; the others change nothing here
  keys["rope.scaling.type"] = type;
  keys["rope.scaling.factor"] = f32(scaling?.factor);
  if (type === "yarn") keys["rope.scaling.original_context_length"] = number(scaling as Json, ORIGINAL);
  return keys;
}

const ORIGINAL = "original_max_position_embeddings";

export const llama = (json: Json): GgufKeys => ({
  ...decoder(json),
  ...(json.sliding_window ? { "attention.sliding_window": number(json, "sliding_window") } : {}),
});

export const qwen = decoder;

/** Gemma 1, 2 and 3. */
export function gemma(json: Json): GgufKeys {
  const keys = decoder(json);
  if (json.model_type === "gemma") return keys;
  const cap = (name: "attn" | "final"): GgufKeys => {
    const value = json[`${name}_logit_softcapping`];
    return value === null ? {} : { [`${name}_logit_softcapping`]: f32(value) };
  };
  Object.assign(keys, cap("attn"), cap("final"), { "attention.sliding_window": number(json, "sliding_window") });
  if (json.model_type === "gemma2") return keys;
  const period = 1 + (json.layer_types as string[]).indexOf("full_attention");
  // Six is what a file means that does not say.
  if (period > 0 && period !== 6) keys["attention.sliding_window_pattern"] = period;
  keys["rope.freq_base_swa"] = f32(json.rope_local_base_freq);
  return keys;
}

export const gpt2 = (json: Json): GgufKeys => ({
  vocab_size: number(json, "vocab_size"),
  context_length: number(json, "n_positions"),
  embedding_length: number(json, "n_embd"),
  block_count: number(json, "n_layer"),
  feed_forward_length: number(json, "n_inner"),
  "attention.head_count": number(json, "n_head"),
  "attention.layer_norm_epsilon": f32(json.layer_norm_epsilon),
});

export function gptneox(json: Json): GgufKeys {
  const size = number(json, "hidden_size") / number(json, "num_attention_heads");
  return {
    ...sizes(json),
    "attention.layer_norm_epsilon": f32(json.layer_norm_eps),
    "rope.dimension_count": Math.floor(size * number(json, "rotary_pct")),
    use_parallel_residual: json.use_parallel_residual as boolean,
    ...rope(json, json.rotary_emb_base),
  };
}

/** Llama 3's scaling as the file has it: how much longer each frequency's wave becomes. Null for other scalings. */
export function ropeFactors(json: Json): Float32Array | null {
  const scaling = json.rope_scaling as Record<string, number> | undefined;
  if (!scaling || (scaling.rope_type as unknown) !== "llama3") return null;
  const { factor, low_freq_factor: low, high_freq_factor: high } = scaling;
  const size = number(json, "head_dim");
  return Float32Array.from({ length: size / 2 }, (_, i) => {
    const wave = 2 * Math.PI * number(json, "rope_theta") ** ((2 * i) / size);
    const kept = Math.min(1, Math.max(0, (scaling[ORIGINAL] / wave - low) / (high - low)));
    return 1 / ((1 - kept) / factor + kept);
  });
}
