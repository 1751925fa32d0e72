/** The config.json that a GGUF file's metadata describes. */
import { UserError } from "../runtime/errors.ts";
import { maxOf } from "../runtime/extremes.ts";
import type { GgufHeader } from "./gguf.ts";
import type { GgufMetadata } from "./gguf-metadata.ts";

type Json = Record<string, unknown>;

/** The fields that config.json has whatever the architecture. */
export function commonConfig(meta: GgufMetadata, header: GgufHeader): Json {
  const embedding = header.tensors.get("token_embd.weight") ?? meta.fail("tensor token_embd.weight is missing");
  const id = (name: string) => meta.optional(`tokenizer.ggml.${name}_token_id`) ?? null;
  const ends = [...new Set([id("eos"), id("eot"), id("eom")].filter((end) => end !== null))];
  return {
    vocab_size: embedding.shape[0],
    tie_word_embeddings: !header.tensors.has("output.weight"),
    bos_token_id: id("bos"),
    eos_token_id: ends.length > 1 ? ends : (ends[0] ?? null),
    pad_token_id: id("padding"),
    dtype: "float32",
    torch_dtype: "float32",
  };
}

const classes = (type: string, name: string): Json => ({ architectures: [name], model_type: type });

/** The metadata of one architecture's model, for the functions that make its config.json. */
export class GgufReader {
  private readonly meta: GgufMetadata;
  /** The architecture's name, which the keys of its metadata begin with. */
  readonly arch: string;
  private readonly header: GgufHeader;
  private readonly ropeFactors: Float32Array | null;

  /**
   * @internal
   * @param ropeFactors values of the tensor rope_freqs.weight, if there is one
   */
  constructor(meta: GgufMetadata, header: GgufHeader, arch: string, ropeFactors: Float32Array | null) {
    this.meta = meta;
    this.header = header;
    this.arch = arch;
    this.ropeFactors = ropeFactors;
  }

  /** A number of the metadata, by its key without the architecture. Throws `UserError` where it is missing. */
  number(key: string): number {
    return this.meta.number(`${this.arch}.${key}`);
  }

  optional(key: string): number | undefined {
    return this.meta.optional(`${this.arch}.${key}`);
  }

  /** True, false, or undefined where the file does not say. */
  flag(key: string): boolean | undefined {
    return this.meta.flag(`${this.arch}.${key}`);
  }

  hasTensor(name: string): boolean {
    return this.header.tensors.has(name);
  }

  get headDim(): number {
    return (
      this.optional("attention.key_length") ?? this.number("embedding_length") / this.number("attention.head_count")
    );
  }

  /** What all with RMSNorm and rotary positions have. */
  decoder(): Record<string, unknown> {
    const heads = this.number("attention.head_count");
    const value = this.optional("attention.value_length");
    if (value !== undefined && value !== this.headDim) {
      this.meta.fail(`${this.arch}.attention.value_length ${value} differs from the key length ${this.headDim}`);
    }
    return {
      hidden_size: this.number("embedding_length"),
      num_hidden_layers: this.number("block_count"),
      num_attention_heads: heads,
      num_key_value_heads: this.optional("attention.head_count_kv") ?? heads,
      head_dim: this.headDim,
      intermediate_size: this.number("feed_forward_length"),
      max_position_embeddings: this.number("context_length"),
      hidden_act: "silu",
      rms_norm_eps: this.number("attention.layer_norm_rms_epsilon"),
      ...this.rope(10000),
    };
  }

  rope(theta: number): Record<string, unknown> {
    const base = this.optional("rope.freq_base") ?? theta;
    const scaling = this.scaling(base);
    return {
      rope_theta: base,
      ...(scaling && { rope_scaling: scaling }),
      rope_parameters: { ...(scaling ?? { rope_type: "default" }), rope_theta: base },
    };
  }

  private scaling(theta: number): Json | null {
    if (this.ropeFactors?.some((factor) => factor !== 1)) return this.llama3(this.ropeFactors, theta);
    const type = this.meta.text(`${this.arch}.rope.scaling.type`) ?? "none";
    const factor = this.optional("rope.scaling.factor") ?? this.optional("rope.scale_linear") ?? 1;
    if (type === "none" || factor === 1) return null;
    const original = this.optional("rope.scaling.original_context_length");
    return { rope_type: type, factor, ...(original && { original_max_position_embeddings: original }) };
  }

  /** Llama 3's scaling, of which the file keeps only the factor of each frequency. */
  private llama3(factors: Float32Array, theta: number): Json {
    const scaling = { factor: maxOf(factors), low_freq_factor: 1, high_freq_factor: 4 };
    const original = 8192;
    const size = this.optional("rope.dimension_count") ?? this.headDim;
    for (let i = 0; i < factors.length; i++) {
      const wave = 2 * Math.PI * theta ** ((2 * i) / size);
      const smooth = (original / wave - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor);
      const kept = Math.min(1, Math.max(0, smooth));
      const expected = 1 / ((1 - kept) / scaling.factor + kept);
      if (!(Math.abs(expected - factors[i]) <= 1e-3 * expected)) {
        this.meta.fail(
          `rope_freqs.weight is not the scaling of Llama 3: factor ${i} is ${factors[i]}, not ${expected}`,
        );
      }
    }
    return { rope_type: "llama3", ...scaling, original_max_position_embeddings: original };
  }
}

export function llama(reader: GgufReader): Json {
  const window = reader.optional("attention.sliding_window");
  const bias = reader.hasTensor("blk.0.attn_q.bias");
  if (window) return { ...classes("mistral", "MistralForCausalLM"), ...reader.decoder(), sliding_window: window };
  return {
    ...classes("llama", "LlamaForCausalLM"),
    ...reader.decoder(),
    attention_bias: bias,
    mlp_bias: reader.hasTensor("blk.0.ffn_up.bias"),
  };
}

export const qwen2 = (reader: GgufReader): Json => ({
  ...classes("qwen2", "Qwen2ForCausalLM"),
  ...reader.decoder(),
  use_sliding_window: false,
});

export const qwen3 = (reader: GgufReader): Json => ({
  ...classes("qwen3", "Qwen3ForCausalLM"),
  ...reader.decoder(),
  attention_bias: reader.hasTensor("blk.0.attn_q.bias"),
  use_sliding_window: false,
});

/** Gemma 1, 2 and 3. */
export function gemma(reader: GgufReader): Json {
  const { arch } = reader;
  const layers = reader.number("block_count");
  const heads = reader.number("attention.head_count");
  const common = {
    ...reader.decoder(),
    hidden_act: "gelu_pytorch_tanh",
    hidden_activation: "gelu_pytorch_tanh",
    attention_bias: false,
  };
  if (arch === "gemma") return { ...classes("gemma", "GemmaForCausalLM"), ...common };
  // The largest models divide scores by another number than the root of the head's size; files do not say so.
  const largest = layers === (arch === "gemma2" ? 46 : 62);
  const scalar = largest ? reader.number("embedding_length") / heads : reader.headDim;
  const window = reader.optional("attention.sliding_window") ?? 4096;
  const softcap = (name: string, absent: number | null) => reader.optional(name) ?? absent;
  if (arch === "gemma2") {
    return {
      ...classes("gemma2", "Gemma2ForCausalLM"),
      ...common,
      query_pre_attn_scalar: scalar,
      sliding_window: window,
      attn_logit_softcapping: softcap("attn_logit_softcapping", 50),
      final_logit_softcapping: softcap("final_logit_softcapping", 30),
      layer_types: layerTypes(layers, 2),
    };
  }
  const rope = reader.rope(1e6);
  const local = reader.optional("rope.freq_base_swa") ?? 10000;
  return {
    ...classes("gemma3_text", "Gemma3ForCausalLM"),
    ...common,
    ...rope,
    rope_local_base_freq: local,
    rope_parameters: {
      full_attention: rope.rope_parameters,
      sliding_attention: { rope_type: "default", rope_theta: local },
    },
    query_pre_attn_scalar: scalar,
    sliding_window: window,
    attn_logit_softcapping: null,
    final_logit_softcapping: softcap("final_logit_softcapping", null),
    layer_types: layerTypes(layers, reader.optional("attention.sliding_window_pattern") ?? 6),
    use_bidirectional_attention: false,
  };
}

/** Every `period`-th layer sees everything, the others a window. */
const layerTypes = (layers: number, period: number): string[] =>
  Array.from({ length: layers }, (_, i) => ((i + 1) % period === 0 ? "full_attention" : "sliding_attention"));

export const gpt2 = (reader: GgufReader): Json => ({
  ...classes("gpt2", "GPT2LMHeadModel"),
  n_embd: reader.number("embedding_length"),
  n_layer: reader.number("block_count"),
  n_head: reader.number("attention.head_count"),
  n_inner: reader.number("feed_forward_length"),
  n_positions: reader.number("context_length"),
  n_ctx: reader.number("context_length"),
  activation_function: "gelu_new",
  layer_norm_epsilon: reader.number("attention.layer_norm_epsilon"),
});

export function gptneox(reader: GgufReader): Json {
  const parallel = reader.flag("use_parallel_residual");
  const { rope_parameters: rope, ...rest } = reader.rope(10000);
  const fraction = reader.number("rope.dimension_count") / reader.headDim;
  return {
    ...classes("gpt_neox", "GPTNeoXForCausalLM"),
    hidden_size: reader.number("embedding_length"),
    num_hidden_layers: reader.number("block_count"),
    num_attention_heads: reader.number("attention.head_count"),
    intermediate_size: reader.number("feed_forward_length"),
    max_position_embeddings: reader.number("context_length"),
    hidden_act: "gelu",
    layer_norm_eps: reader.number("attention.layer_norm_epsilon"),
    use_parallel_residual: parallel ?? true,
    attention_bias: true,
    rotary_pct: fraction,
    rotary_emb_base: rest.rope_theta,
    ...rest,
    rope_parameters: { ...(rope as Json), partial_rotary_factor: fraction },
  };
}

/** The id lists that a generation_config.json has. */
export const ggufGeneration = ({ bos_token_id, eos_token_id, pad_token_id }: Json): Json => ({
  bos_token_id,
  eos_token_id,
  pad_token_id,
});

export const notSupported = (path: string, name: string): UserError =>
  new UserError(`${path}: tensor ${name} does not belong to a model of its architecture`);
