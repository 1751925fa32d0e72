/** GPT-2, GPT-Neo and GPT-NeoX (Pythia): LayerNorm, biases, a plain MLP. */
import type { DecoderConfig } from "../config.ts";
import type { Family, FileTensor } from "./family.ts";
import { activationName, type ConfigReader } from "./reader.ts";
import { readRope, writeRope } from "./rope.ts";

const plain: Partial<DecoderConfig> = {
  norm: "layer",
  normEps: 1e-5,
  activation: "gelu_tanh",
  mlpBias: true,
  qkvBias: true,
  outBias: true,
};

/** A module's weight and, where it has one, its bias. */
function layer(theirs: string, ours: string, more: Partial<FileTensor> = {}, bias = true): FileTensor[] {
  const { transposed, ...both } = more;
  const weight = { name: `${theirs}.weight`, parameter: `${ours}.weight`, ...more };
  return bias ? [weight, { name: `${theirs}.bias`, parameter: `${ours}.bias`, ...both }] : [weight];
}

const learned = (): FileTensor[] => [
  { name: "transformer.wte.weight", parameter: "decoder.embed.weight" },
  { name: "transformer.wpe.weight", parameter: "decoder.positions.weight" },
];

/** GPT-2. */
export const gpt2: Family = {
  modelType: "gpt2",
  classes: { lm: "GPT2LMHeadModel", score: "GPT2ForSequenceClassification" },
  prefix: "transformer.",
  squareAttention: true,
  defaults: () => ({ ...plain, positions: "learned" }),
  tensors({ layers }) {
    const tensors = learned();
    for (let i = 0; i < layers; i++) {
      const [theirs, ours] = [`transformer.h.${i}`, `decoder.blocks.${i}`];
      const transposed = true; // GPT-2 stores its projections [in, out]
      tensors.push(
        ...layer(`${theirs}.ln_1`, `${ours}.norm1`),
        ...layer(`${theirs}.attn.c_attn`, `${ours}.attention.qkv`, { transposed }),
        ...layer(`${theirs}.attn.c_proj`, `${ours}.attention.out`, { transposed }),
        ...layer(`${theirs}.ln_2`, `${ours}.norm2`),
        ...layer(`${theirs}.mlp.c_fc`, `${ours}.mlp.up`, { transposed }),
        ...layer(`${theirs}.mlp.c_proj`, `${ours}.mlp.down`, { transposed }),
      );
    }
    return [...tensors, ...layer("transformer.ln_f", "decoder.norm")];
  },
  read(json) {
    json.only("scale_attn_weights", true);
    json.only("scale_attn_by_inverse_layer_idx", false);
    json.only("reorder_and_upcast_attn", false, true); // the order of operations only
    json.only("add_cross_attention", false);
    const hiddenSize = json.number("n_embd", "hidden_size");
    return {
      vocabSize: json.number("vocab_size"),
      hiddenSize,
      layers: json.layers("n_layer", "num_hidden_layers"),
      heads: json.number("n_head", "num_attention_heads"),
      intermediateSize: json.optional("n_inner", 4 * hiddenSize),
      maxPositions: json.number("n_positions", "max_position_embeddings"),
      normEps: json.optional("layer_norm_epsilon", 1e-5),
      activation: json.activation("activation_function", "gelu_new"),
      tieEmbeddings: json.flag("tie_word_embeddings", true),
    };
  },
  write: (c) => ({
    n_embd: c.hiddenSize,
    n_layer: c.layers,
    n_head: c.heads,
    n_inner: c.intermediateSize,
    n_positions: c.maxPositions,
    n_ctx: c.maxPositions,
    activation_function: c.activation === "gelu_tanh" ? "gelu_new" : activationName(c.activation),
    layer_norm_epsilon: c.normEps,
    // We train without dropout: a policy must score its own samples as it drew them.
    attn_pdrop: 0,
    embd_pdrop: 0,
    resid_pdrop: 0,
  }),
};

/** Blocks [[kinds], repeats] of the list of layers. */
function readAttentionTypes(json: ConfigReader, layers: number): unknown[] {
  const blocks = json.list("attention_types", 0, Number.POSITIVE_INFINITY);
  if (!blocks) return Array.from({ length: layers }, (_, i) => (i % 2 === 0 ? "global" : "local"));
  return blocks.flatMap((block) => {
    const [kinds, times] = Array.isArray(block) ? block : [];
    if (!Array.isArray(kinds) || !Number.isInteger(times) || times < 0 || times > layers) {
      json.fail("attention_types must be a list of [kinds of layers, how often]");
    }
    return new Array<unknown[]>(times).fill(kinds).flat();
  });
}

/** GPT-Neo. */
export const gptNeo: Family = {
  modelType: "gpt_neo",
  classes: { lm: "GPTNeoForCausalLM", score: "GPTNeoForSequenceClassification" },
  prefix: "transformer.",
  squareAttention: true,
  defaults: ({ layers }) => ({
    ...plain,
    positions: "learned",
    qkvBias: false,
    attentionScale: 1,
    slidingWindow: 256,
    slidingLayers: Array.from({ length: layers }, (_, i) => i % 2 === 1),
  }),
  tensors({ layers, hiddenSize: d }) {
    const tensors = learned();
    for (let i = 0; i < layers; i++) {
      const [theirs, ours] = [`transformer.h.${i}`, `decoder.blocks.${i}`];
      const attention = `${theirs}.attn.attention`;
      tensors.push(
        ...layer(`${theirs}.ln_1`, `${ours}.norm1`),
        ...["q", "k", "v"].flatMap((part, k) =>
          layer(`${attention}.${part}_proj`, `${ours}.attention.qkv`, { rows: [k * d, (k + 1) * d] }, false),
        ),
        ...layer(`${attention}.out_proj`, `${ours}.attention.out`),
        ...layer(`${theirs}.ln_2`, `${ours}.norm2`),
        ...layer(`${theirs}.mlp.c_fc`, `${ours}.mlp.up`),
        ...layer(`${theirs}.mlp.c_proj`, `${ours}.mlp.down`),
      );
    }
    return [...tensors, ...layer("transformer.ln_f", "decoder.norm")];
  },
  read(json) {
    const layers = json.layers("num_layers", "num_hidden_layers");
    const hiddenSize = json.number("hidden_size");
    const listed = json.list("attention_layers", layers);
    const kinds = (!json.has("attention_types") && listed) || readAttentionTypes(json, layers);
    if (kinds.length !== layers) json.fail(`attention_types describes ${kinds.length} of ${layers} layers`);
    if (listed && String(listed) !== String(kinds)) json.contradiction("attention_layers", "attention_types");
    for (const kind of kinds) {
      if (kind !== "global" && kind !== "local") {
        json.fail(`attention_types has ${JSON.stringify(kind)}, which is not supported (only "global", "local")`);
      }
    }
    const slidingLayers = kinds.map((kind) => kind === "local");
    return {
      vocabSize: json.number("vocab_size"),
      hiddenSize,
      layers,
      heads: json.number("num_heads", "num_attention_heads"),
      intermediateSize: json.optional("intermediate_size", 4 * hiddenSize),
      maxPositions: json.number("max_position_embeddings"),
      normEps: json.optional("layer_norm_epsilon", 1e-5),
      activation: json.activation("activation_function", "gelu_new"),
      slidingWindow: slidingLayers.includes(true) ? json.optional("window_size", 256) : null,
      slidingLayers,
      tieEmbeddings: json.flag("tie_word_embeddings", true),
    };
  },
  write: (c) => {
    const kinds = c.slidingLayers.map((slides) => (slides ? "local" : "global"));
    return {
      hidden_size: c.hiddenSize,
      num_layers: c.layers,
      num_heads: c.heads,
      intermediate_size: c.intermediateSize,
      max_position_embeddings: c.maxPositions,
      activation_function: c.activation === "gelu_tanh" ? "gelu_new" : activationName(c.activation),
      layer_norm_epsilon: c.normEps,
      attention_types: [[kinds, 1]],
      attention_layers: kinds,
      window_size: c.slidingWindow ?? 256,
      attention_dropout: 0,
      embed_dropout: 0,
      resid_dropout: 0,
    };
  },
};

/** GPT-NeoX (Pythia). */
export const gptNeoX: Family = {
  modelType: "gpt_neox",
  classes: { lm: "GPTNeoXForCausalLM", score: "GPTNeoXForSequenceClassification" },
  prefix: "gpt_neox.",
  headName: "embed_out.weight",
  squareAttention: true,
  defaults: () => ({ ...plain, activation: "gelu", parallelResidual: true, ropeFraction: 0.25, tieEmbeddings: false }),
  tensors({ layers, heads, headDim, qkvBias, outBias }) {
    const tensors: FileTensor[] = [{ name: "gpt_neox.embed_in.weight", parameter: "decoder.embed.weight" }];
    // Rows in the file go head by head, each with its query, key and value; ours are all queries, all keys, all values.
    const order = Array.from({ length: 3 * heads * headDim }, (_, row) => {
      const [head, part] = [Math.floor(row / (3 * headDim)), Math.floor(row / headDim) % 3];
      return (part * heads + head) * headDim + (row % headDim);
    });
    for (let i = 0; i < layers; i++) {
      const [theirs, ours] = [`gpt_neox.layers.${i}`, `decoder.blocks.${i}`];
      tensors.push(
        ...layer(`${theirs}.input_layernorm`, `${ours}.norm1`),
        ...layer(`${theirs}.attention.query_key_value`, `${ours}.attention.qkv`, { order }, qkvBias),
        ...layer(`${theirs}.attention.dense`, `${ours}.attention.out`, {}, outBias),
        ...layer(`${theirs}.post_attention_layernorm`, `${ours}.norm2`),
        ...layer(`${theirs}.mlp.dense_h_to_4h`, `${ours}.mlp.up`),
        ...layer(`${theirs}.mlp.dense_4h_to_h`, `${ours}.mlp.down`),
      );
    }
    return [...tensors, ...layer("gpt_neox.final_layer_norm", "decoder.norm")];
  },
  read(json) {
    const bias = json.flag("attention_bias", true);
    const maxPositions = json.number("max_position_embeddings");
    const { fraction, ...rope } = readRope(json, { theta: 10000, thetaKey: "rotary_emb_base", maxPositions });
    return {
      vocabSize: json.number("vocab_size"),
      hiddenSize: json.number("hidden_size"),
      layers: json.layers("num_hidden_layers"),
      heads: json.number("num_attention_heads"),
      intermediateSize: json.number("intermediate_size"),
      maxPositions,
      normEps: json.optional("layer_norm_eps", 1e-5),
      activation: json.activation("hidden_act", "gelu"),
      parallelResidual: json.flag("use_parallel_residual", true),
      qkvBias: bias,
      outBias: bias,
      ...rope,
      ropeFraction: fraction ?? json.optional("rotary_pct", 0.25),
      tieEmbeddings: json.flag("tie_word_embeddings", false),
    };
  },
  write: (c) => {
    const { rope_theta, rope_parameters, ...rope } = writeRope(c);
    return {
      hidden_size: c.hiddenSize,
      num_hidden_layers: c.layers,
      num_attention_heads: c.heads,
      intermediate_size: c.intermediateSize,
      max_position_embeddings: c.maxPositions,
      hidden_act: activationName(c.activation),
      layer_norm_eps: c.normEps,
      use_parallel_residual: c.parallelResidual,
      attention_bias: c.qkvBias,
      rotary_emb_base: rope_theta,
      rotary_pct: c.ropeFraction,
      ...rope,
      rope_parameters: { ...(rope_parameters as object), partial_rotary_factor: c.ropeFraction },
      attention_dropout: 0,
      hidden_dropout: 0,
    };
  },
};
