/**
 * How our parameters are called and laid out in Hugging Face model folders. Inside, projections that read the same input
 * are one matrix and every weight is [out, in]; outside, GPT-2 stores [in, out] and Llama stores them apart.
 */
import { UserError } from "../runtime/errors.ts";
import { type DecoderConfig, decoderConfig } from "./config.ts";

export type HeadKind = "lm" | "score";

/** One tensor of a file: rows [first, last) of a parameter, transposed if the family stores it so. */
export interface FileTensor {
  name: string;
  parameter: string;
  rows?: readonly [first: number, last: number];
  transposed?: boolean;
}

/** Every tensor of a model folder, in module order. */
export function fileTensors(config: DecoderConfig, head: HeadKind): FileTensor[] {
  const tensors = config.family === "gpt2" ? gpt2Tensors(config) : llamaTensors(config);
  if (head === "score") tensors.push({ name: "score.weight", parameter: "score" });
  else if (!config.tieEmbeddings) tensors.push({ name: "lm_head.weight", parameter: "head" });
  return tensors;
}

function gpt2Tensors({ layers }: DecoderConfig): FileTensor[] {
  const tensors: FileTensor[] = [
    { name: "transformer.wte.weight", parameter: "decoder.embed.weight" },
    { name: "transformer.wpe.weight", parameter: "decoder.positions.weight" },
  ];
  for (let i = 0; i < layers; i++) {
    const parts = [
      ["ln_1", "norm1"],
      ["attn.c_attn", "attention.qkv"],
      ["attn.c_proj", "attention.out"],
      ["ln_2", "norm2"],
      ["mlp.c_fc", "mlp.up"],
      ["mlp.c_proj", "mlp.down"],
    ];
    for (const [theirs, ours] of parts) {
      const name = `transformer.h.${i}.${theirs}`;
      const parameter = `decoder.blocks.${i}.${ours}`;
      tensors.push({ name: `${name}.weight`, parameter: `${parameter}.weight`, transposed: theirs.includes("c_") });
      tensors.push({ name: `${name}.bias`, parameter: `${parameter}.bias` });
    }
  }
  for (const kind of ["weight", "bias"]) {
    tensors.push({ name: `transformer.ln_f.${kind}`, parameter: `decoder.norm.${kind}` });
  }
  return tensors;
}

function llamaTensors({ layers, heads, kvHeads, headDim, intermediateSize: f }: DecoderConfig): FileTensor[] {
  const q = heads * headDim;
  const kv = kvHeads * headDim;
  const tensors: FileTensor[] = [{ name: "model.embed_tokens.weight", parameter: "decoder.embed.weight" }];
  for (let i = 0; i < layers; i++) {
    const add = (theirs: string, ours: string, rows?: [number, number]) =>
      tensors.push({
        name: `model.layers.${i}.${theirs}.weight`,
        parameter: `decoder.blocks.${i}.${ours}.weight`,
        rows,
      });
    add("input_layernorm", "norm1");
    add("self_attn.q_proj", "attention.qkv", [0, q]);
    add("self_attn.k_proj", "attention.qkv", [q, q + kv]);
    add("self_attn.v_proj", "attention.qkv", [q + kv, q + 2 * kv]);
    add("self_attn.o_proj", "attention.out");
    add("post_attention_layernorm", "norm2");
    add("mlp.gate_proj", "mlp.up", [0, f]);
    add("mlp.up_proj", "mlp.up", [f, 2 * f]);
    add("mlp.down_proj", "mlp.down");
  }
  tensors.push({ name: "model.norm.weight", parameter: "decoder.norm.weight" });
  return tensors;
}

/** Tensors that older files carry and that hold no weights. */
export const isBuffer = (name: string): boolean => /\.(attn\.(masked_)?bias|rotary_emb\.inv_freq)$/.test(name);

/** config.json for a model. */
export function toHfConfig(c: DecoderConfig, head: HeadKind): Record<string, unknown> {
  const common = {
    architectures: [
      `${c.family === "gpt2" ? "GPT2" : "Llama"}${head === "score" ? "ForSequenceClassification" : c.family === "gpt2" ? "LMHeadModel" : "ForCausalLM"}`,
    ],
    model_type: c.family,
    vocab_size: c.vocabSize,
    tie_word_embeddings: c.tieEmbeddings,
    bos_token_id: c.bosId,
    eos_token_id: c.eosId,
    pad_token_id: c.padId,
    dtype: "float32",
    torch_dtype: "float32",
    ...(head === "score" && { num_labels: 1, id2label: { 0: "LABEL_0" }, label2id: { LABEL_0: 0 } }),
  };
  if (c.family === "gpt2") {
    return {
      ...common,
      n_embd: c.hiddenSize,
      n_layer: c.layers,
      n_head: c.heads,
      n_inner: c.intermediateSize,
      n_positions: c.maxPositions,
      n_ctx: c.maxPositions,
      activation_function: "gelu_new",
      layer_norm_epsilon: c.normEps,
      // We train without dropout: a policy must score its own samples as it drew them.
      attn_pdrop: 0,
      embd_pdrop: 0,
      resid_pdrop: 0,
    };
  }
  return {
    ...common,
    hidden_size: c.hiddenSize,
    num_hidden_layers: c.layers,
    num_attention_heads: c.heads,
    num_key_value_heads: c.kvHeads,
    head_dim: c.headDim,
    intermediate_size: c.intermediateSize,
    max_position_embeddings: c.maxPositions,
    hidden_act: "silu",
    rms_norm_eps: c.normEps,
    rope_theta: c.ropeTheta,
    rope_parameters: { rope_type: "default", rope_theta: c.ropeTheta },
    attention_bias: false,
    mlp_bias: false,
  };
}

/** Reads config.json. Throws `UserError` naming the field that is missing or not supported. */
export function fromHfConfig(json: Record<string, unknown>, file: string): DecoderConfig {
  const family = json.model_type;
  if (family !== "gpt2" && family !== "llama") {
    throw new UserError(`${file}: model_type ${JSON.stringify(family)} is not supported; "gpt2" and "llama" are`);
  }
  const number = (...keys: string[]): number => {
    for (const key of keys) {
      const value = json[key];
      if (typeof value === "number") return value;
      if (value !== undefined && value !== null) throw new UserError(`${file}: ${key} must be a number`);
    }
    throw new UserError(`${file}: ${keys[0]} is missing`);
  };
  const optional = (key: string, fallback: number): number => (json[key] == null ? fallback : number(key));
  const id = (key: string): number | null => {
    const value = json[key];
    const first = Array.isArray(value) ? value[0] : value;
    return typeof first === "number" ? first : null;
  };
  const only = (key: string, ...allowed: unknown[]) => {
    const value = json[key];
    if (value != null && !allowed.includes(value)) {
      throw new UserError(
        `${file}: ${key} = ${JSON.stringify(value)} is not supported (only ${allowed.map((a) => JSON.stringify(a)).join(", ")})`,
      );
    }
  };
  const ids = { bosId: id("bos_token_id"), eosId: id("eos_token_id"), padId: id("pad_token_id") };
  if (family === "gpt2") {
    only("activation_function", "gelu_new", "gelu_pytorch_tanh");
    only("scale_attn_weights", true);
    only("scale_attn_by_inverse_layer_idx", false);
    only("reorder_and_upcast_attn", false, true); // the order of operations only
    only("add_cross_attention", false);
    const hiddenSize = number("n_embd", "hidden_size");
    return decoderConfig({
      family,
      vocabSize: number("vocab_size"),
      hiddenSize,
      layers: number("n_layer", "num_hidden_layers"),
      heads: number("n_head", "num_attention_heads"),
      intermediateSize: optional("n_inner", 4 * hiddenSize),
      maxPositions: number("n_positions", "max_position_embeddings"),
      normEps: optional("layer_norm_epsilon", 1e-5),
      tieEmbeddings: json.tie_word_embeddings !== false,
      ...ids,
    });
  }
  only("hidden_act", "silu");
  only("attention_bias", false);
  only("mlp_bias", false);
  const rope = (json.rope_parameters ?? json.rope_scaling ?? {}) as Record<string, unknown>;
  const ropeType = rope.rope_type ?? rope.type ?? "default";
  if (ropeType !== "default") throw new UserError(`${file}: rope_type ${JSON.stringify(ropeType)} is not supported`);
  const heads = number("num_attention_heads");
  const hiddenSize = number("hidden_size");
  return decoderConfig({
    family,
    vocabSize: number("vocab_size"),
    hiddenSize,
    layers: number("num_hidden_layers"),
    heads,
    kvHeads: optional("num_key_value_heads", heads),
    headDim: optional("head_dim", hiddenSize / heads),
    intermediateSize: number("intermediate_size"),
    maxPositions: number("max_position_embeddings"),
    ropeTheta: typeof rope.rope_theta === "number" ? rope.rope_theta : optional("rope_theta", 10000),
    normEps: optional("rms_norm_eps", 1e-6),
    tieEmbeddings: json.tie_word_embeddings === true,
    ...ids,
  });
}
