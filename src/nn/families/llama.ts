/** Llama and its relatives SmolLM3, Mistral, Qwen2 and Qwen3: RMSNorm, rotary positions, a gated MLP. */
import type { DecoderConfig, DecoderShape } from "../config.ts";
import type { Family, FileTensor } from "./family.ts";
import { activationName, type ConfigReader } from "./reader.ts";
import { readWholeRope, writeRope } from "./rope.ts";

/** Tensors of every family whose layers are called as Llama's, biases and extra norms as the config says. */
export function llamaTensors(c: DecoderConfig): FileTensor[] {
  const { heads, kvHeads, headDim: d, intermediateSize: f } = c;
  const [q, k, v] = [heads * d, (heads + kvHeads) * d, (heads + 2 * kvHeads) * d];
  const tensors: FileTensor[] = [{ name: "model.embed_tokens.weight", parameter: "decoder.embed.weight" }];
  for (let i = 0; i < c.layers; i++) {
    const add = (theirs: string, ours: string, rows?: [number, number], bias = false) => {
      for (const kind of bias ? ["weight", "bias"] : ["weight"]) {
        tensors.push({
          name: `model.layers.${i}.${theirs}.${kind}`,
          parameter: `decoder.blocks.${i}.${ours}.${kind}`,
          ...(rows && { rows }),
        });
      }
    };
    add("input_layernorm", "norm1");
    add("self_attn.q_proj", "attention.qkv", [0, q], c.qkvBias);
    add("self_attn.k_proj", "attention.qkv", [q, k], c.qkvBias);
    add("self_attn.v_proj", "attention.qkv", [k, v], c.qkvBias);
    if (c.qkNorm) {
      add("self_attn.q_norm", "attention.qkNorm", [0, d]);
      add("self_attn.k_norm", "attention.qkNorm", [d, 2 * d]);
    }
    add("self_attn.o_proj", "attention.out", undefined, c.outBias);
    if (c.sandwichNorms) {
      add("post_attention_layernorm", "postNorm1");
      add("pre_feedforward_layernorm", "norm2");
      add("post_feedforward_layernorm", "postNorm2");
    } else {
      add("post_attention_layernorm", "norm2");
    }
    add("mlp.gate_proj", "mlp.up", [0, f], c.mlpBias);
    add("mlp.up_proj", "mlp.up", [f, 2 * f], c.mlpBias);
    add("mlp.down_proj", "mlp.down", undefined, c.mlpBias);
  }
  tensors.push({ name: "model.norm.weight", parameter: "decoder.norm.weight" });
  return tensors;
}

interface CommonDefaults {
  headDim?: number;
  activationKey?: string;
  /** An absent `num_key_value_heads` means as many as heads; else each family has a number of its own, and it is needed. */
  kvHeads?: "heads";
}

function readKvHeads(json: ConfigReader, heads: number, absent?: "heads"): number {
  if (json.json.num_key_value_heads === undefined && !absent) json.fail("num_key_value_heads is missing");
  return json.nullable("num_key_value_heads", heads) ?? heads; // null stands for as many as heads, too
}

/** The fields that all of them have. */
export function readCommon(json: ConfigReader, more: CommonDefaults = {}) {
  const heads = json.number("num_attention_heads");
  const hiddenSize = json.number("hidden_size");
  return {
    vocabSize: json.number("vocab_size"),
    hiddenSize,
    layers: json.layers("num_hidden_layers"),
    heads,
    kvHeads: readKvHeads(json, heads, more.kvHeads),
    headDim: json.optional("head_dim", more.headDim ?? hiddenSize / heads),
    intermediateSize: json.number("intermediate_size"),
    maxPositions: json.number("max_position_embeddings"),
    normEps: json.optional("rms_norm_eps", 1e-6),
    activation: json.activation(more.activationKey ?? "hidden_act", "silu"),
  } satisfies Partial<DecoderShape>;
}

export const writeCommon = (c: DecoderConfig, activationKey = "hidden_act"): Record<string, unknown> => ({
  hidden_size: c.hiddenSize,
  num_hidden_layers: c.layers,
  num_attention_heads: c.heads,
  num_key_value_heads: c.kvHeads,
  head_dim: c.headDim,
  intermediate_size: c.intermediateSize,
  max_position_embeddings: c.maxPositions,
  [activationKey]: activationName(c.activation),
  rms_norm_eps: c.normEps,
  attention_dropout: 0,
});

export const layerTypes = (c: DecoderConfig): string[] =>
  c.slidingLayers.map((slides) => (slides ? "sliding_attention" : "full_attention"));

const wide = ({ hiddenSize }: { hiddenSize: number }) => Math.ceil((hiddenSize * 8) / 3 / 32) * 32;

const relative = (modelType: string, name: string, own: Pick<Family, "defaults" | "read" | "write">): Family => ({
  modelType,
  classes: { lm: `${name}ForCausalLM`, score: `${name}ForSequenceClassification` },
  prefix: "model.",
  tensors: llamaTensors,
  ...own,
  defaults: (shape) => ({ gated: true, intermediateSize: wide(shape), ...own.defaults(shape) }),
});

/** Llama. */
export const llama = relative("llama", "Llama", {
  defaults: () => ({}),
  read(json) {
    const common = readCommon(json, { kvHeads: "heads" });
    const bias = json.flag("attention_bias", false);
    return {
      ...common,
      ...readWholeRope(json, { theta: 10000, maxPositions: common.maxPositions }),
      qkvBias: bias,
      outBias: bias,
      mlpBias: json.flag("mlp_bias", false),
      tieEmbeddings: json.flag("tie_word_embeddings", false),
    };
  },
  write: (c) => ({ ...writeCommon(c), ...writeRope(c), attention_bias: c.qkvBias, mlp_bias: c.mlpBias }),
});

/** SmolLM3. */
export const smolLM3 = relative("smollm3", "SmolLM3", {
  defaults: ({ layers }) => ({
    ropeTheta: 2e6,
    ropeLayers: Array.from({ length: layers }, (_, i) => (i + 1) % 4 !== 0),
  }),
  read(json) {
    const common = readCommon(json);
    const { layers } = common;
    const interval = json.optional("no_rope_layer_interval", 4);
    // In these lists 1 stands for a layer that does rotate.
    const ropeLayers =
      json.list("no_rope_layers", layers)?.map((rotates) => {
        if (![0, 1, true, false].includes(rotates as number)) json.fail("no_rope_layers must be a list of 0 and 1");
        return rotates === 1 || rotates === true;
      }) ?? Array.from({ length: layers }, (_, i) => (i + 1) % interval !== 0);
    json.ignore("max_window_layers");
    const window = json.flag("use_sliding_window", false) ? json.optional("sliding_window", null) : null;
    const slides = json.slidingLayers(layers, (i) => !ropeLayers[i]);
    const bias = json.flag("attention_bias", false);
    return {
      ...common,
      ...readWholeRope(json, { theta: 2e6, maxPositions: common.maxPositions }),
      ropeLayers,
      slidingWindow: window,
      slidingLayers: slides.map((s) => s && window !== null),
      qkvBias: bias,
      outBias: bias,
      mlpBias: json.flag("mlp_bias", false),
      tieEmbeddings: json.flag("tie_word_embeddings", true),
    };
  },
  write: (c) => ({
    ...writeCommon(c),
    ...writeRope(c),
    no_rope_layers: c.ropeLayers.map(Number),
    use_sliding_window: c.slidingWindow !== null,
    sliding_window: c.slidingWindow,
    layer_types: layerTypes(c),
    attention_bias: c.qkvBias,
    mlp_bias: c.mlpBias,
  }),
});

/** Mistral. */
export const mistral = relative("mistral", "Mistral", {
  defaults: () => ({ tieEmbeddings: false }),
  read(json) {
    const common = readCommon(json);
    const { layers } = common;
    // A file without the field means the 4096 of the first Mistral; null means that nothing slides.
    const window = json.nullable("sliding_window", 4096);
    const slidingLayers = json.slidingLayers(layers, () => window !== null);
    if (slidingLayers.some((s) => s !== (window !== null))) {
      json.fail("layer_types that differ from layer to layer are not supported for mistral");
    }
    return {
      ...common,
      ...readWholeRope(json, { theta: 10000, maxPositions: common.maxPositions }),
      slidingWindow: window,
      slidingLayers,
      tieEmbeddings: json.flag("tie_word_embeddings", false),
    };
  },
  write: (c) => ({ ...writeCommon(c), ...writeRope(c), sliding_window: c.slidingWindow }),
});

/** Qwen slides from layer `max_window_layers` on, where it slides at all. */
function readQwenWindow(json: ConfigReader, layers: number): Pick<DecoderConfig, "slidingWindow" | "slidingLayers"> {
  const window = json.flag("use_sliding_window", false) ? json.nullable("sliding_window", 4096) : null;
  const first = json.optional("max_window_layers", 28);
  const slides = json.slidingLayers(layers, (i) => i >= first);
  const slidingLayers = slides.map((s) => s && window !== null);
  return { slidingWindow: slidingLayers.includes(true) ? window : null, slidingLayers };
}

const writeQwenWindow = (c: DecoderConfig): Record<string, unknown> => ({
  use_sliding_window: c.slidingWindow !== null,
  sliding_window: c.slidingWindow,
  max_window_layers: c.slidingLayers.includes(true) ? c.slidingLayers.indexOf(true) : c.layers,
  layer_types: layerTypes(c),
});

/** Qwen2. */
export const qwen2 = relative("qwen2", "Qwen2", {
  defaults: () => ({ qkvBias: true }),
  read(json) {
    const common = readCommon(json);
    return {
      ...common,
      ...readWholeRope(json, { theta: 10000, maxPositions: common.maxPositions }),
      ...readQwenWindow(json, common.layers),
      tieEmbeddings: json.flag("tie_word_embeddings", false),
    };
  },
  write: (c) => ({ ...writeCommon(c), ...writeRope(c), ...writeQwenWindow(c) }),
});

/** Qwen3. */
export const qwen3 = relative("qwen3", "Qwen3", {
  defaults: () => ({ qkNorm: true }),
  read(json) {
    const common = readCommon(json, { headDim: 128 });
    const bias = json.flag("attention_bias", false);
    return {
      ...common,
      ...readWholeRope(json, { theta: 10000, maxPositions: common.maxPositions }),
      ...readQwenWindow(json, common.layers),
      qkvBias: bias,
      outBias: bias,
      tieEmbeddings: json.flag("tie_word_embeddings", false),
    };
  },
  write: (c) => ({ ...writeCommon(c), ...writeRope(c), ...writeQwenWindow(c), attention_bias: c.qkvBias }),
});
