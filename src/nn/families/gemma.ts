/** Gemma 1, 2 and 3 (text): RMSNorm around 1, scaled embeddings, GeGLU; later ones cap scores and mix two kinds of layers. */
import type { Activation, DecoderConfig } from "../config.ts";
import type { Family } from "./family.ts";
import { layerTypes, llamaTensors, readCommon, writeCommon } from "./llama.ts";
import type { ConfigReader } from "./reader.ts";
import { readScaling, readWholeRope, writeRope, writeScaling } from "./rope.ts";

const own = (hiddenSize: number): Partial<DecoderConfig> => ({
  gated: true,
  activation: "gelu_tanh",
  normOffset: true,
  embedScale: Math.sqrt(hiddenSize),
});

const relative = (
  modelType: string,
  name: string,
  score: string,
  rest: Pick<Family, "defaults" | "read" | "write">,
): Family => ({
  modelType,
  classes: { lm: `${name}ForCausalLM`, score },
  prefix: "model.",
  tensors: llamaTensors,
  ...rest,
});

/**
 * Gemma 1 counts `hidden_act`, where its first releases say "gelu" and mean the approximation; the later ones count
 * `hidden_activation`. Both may stand in a file.
 */
function readActivation(json: ConfigReader, counts: "hidden_act" | "hidden_activation"): Activation {
  const read = (key: string, gelu: Activation): Activation | null =>
    json.has(key) ? (json.json[key] === "gelu" ? gelu : json.activation(key, "")) : null;
  const first = counts === "hidden_act";
  const older = read("hidden_act", "gelu_tanh");
  const newer = read("hidden_activation", "gelu");
  const activation = (first ? older : newer) ?? "gelu_tanh";
  const other = (first ? newer : older) ?? activation;
  if (other !== activation && !(!first && json.json.hidden_act === "gelu" && newer === "gelu")) {
    json.contradiction("hidden_activation", "hidden_act");
  }
  return activation;
}

function readGemma(json: ConfigReader, activationKey: "hidden_act" | "hidden_activation" = "hidden_activation") {
  json.only("use_bidirectional_attention", false);
  const common = readCommon(json, { headDim: 256, activationKey });
  const bias = json.flag("attention_bias", false);
  return {
    ...common,
    activation: readActivation(json, activationKey),
    qkvBias: bias,
    outBias: bias,
    tieEmbeddings: json.flag("tie_word_embeddings", true),
  };
}

const writeGemma = (c: DecoderConfig): Record<string, unknown> => ({
  ...writeCommon(c, "hidden_activation"),
  hidden_act: writeCommon(c).hidden_act,
  attention_bias: c.qkvBias,
});

/** Scores are divided by the root of a number of its own; absent it is 256. */
const scaleOf = (json: ConfigReader): number => 1 / Math.sqrt(json.optional("query_pre_attn_scalar", 256));
const queryScalar = ({ attentionScale }: DecoderConfig): number => {
  const exact = 1 / (attentionScale * attentionScale);
  const whole = Math.round(exact);
  return Math.abs(exact - whole) < 1e-6 * exact ? whole : exact;
};

/** Gemma 1. */
export const gemma = relative("gemma", "Gemma", "GemmaForSequenceClassification", {
  defaults: ({ hiddenSize }) => own(hiddenSize),
  read(json) {
    const common = readGemma(json, "hidden_act");
    return { ...common, ...readWholeRope(json, { theta: 10000, maxPositions: common.maxPositions }) };
  },
  write: (c) => ({ ...writeGemma(c), ...writeRope(c) }),
});

/** Window and layers of Gemma 2 and 3; `full` says which layers see everything where `layer_types` does not. */
function readWindow(json: ConfigReader, layers: number, full: (layer: number) => boolean) {
  const window = json.nullable("sliding_window", 4096);
  const slidingLayers = json.slidingLayers(layers, (i) => !full(i));
  const slides = window !== null && slidingLayers.includes(true);
  return {
    slidingWindow: slides ? window : null,
    slidingLayers: slides ? slidingLayers : slidingLayers.map(() => false),
  };
}

/** Gemma 2. */
export const gemma2 = relative("gemma2", "Gemma2", "Gemma2ForSequenceClassification", {
  defaults: ({ hiddenSize, layers }) => ({
    ...own(hiddenSize),
    sandwichNorms: true,
    attentionSoftcap: 50,
    logitSoftcap: 30,
    slidingWindow: 4096,
    slidingLayers: Array.from({ length: layers }, (_, i) => i % 2 === 0),
  }),
  read(json) {
    const common = readGemma(json);
    return {
      ...common,
      ...readWholeRope(json, { theta: 10000, maxPositions: common.maxPositions }),
      ...readWindow(json, common.layers, (i) => i % 2 === 1),
      attentionScale: scaleOf(json),
      attentionSoftcap: json.nullable("attn_logit_softcapping", 50),
      logitSoftcap: json.nullable("final_logit_softcapping", 30),
    };
  },
  write: (c) => ({
    ...writeGemma(c),
    ...writeRope(c),
    query_pre_attn_scalar: queryScalar(c),
    attn_logit_softcapping: c.attentionSoftcap,
    final_logit_softcapping: c.logitSoftcap,
    sliding_window: c.slidingWindow ?? 4096,
    layer_types: layerTypes(c),
  }),
});

/** Gemma 3, its text-only sizes. */
export const gemma3 = relative("gemma3_text", "Gemma3", "Gemma3TextForSequenceClassification", {
  defaults: ({ hiddenSize, layers }) => ({
    ...own(hiddenSize),
    sandwichNorms: true,
    qkNorm: true,
    slidingWindow: 4096,
    slidingLayers: Array.from({ length: layers }, (_, i) => (i + 1) % 6 !== 0),
    ropeTheta: 1e6,
    localRopeTheta: 10000,
  }),
  read(json) {
    json.only("attn_logit_softcapping");
    const common = readGemma(json);
    const pattern = json.optional("sliding_window_pattern", 6);
    if (!json.has("layer_types")) json.only("_sliding_window_pattern", pattern); // transformers writes it, and never reads it
    json.ignore("_sliding_window_pattern");
    const full = (i: number) => (i + 1) % pattern === 0;
    const slides = json.slidingLayers(common.layers, (i) => !full(i)).includes(true);
    if (slides && json.nullable("sliding_window", 4096) === null) {
      json.fail("sliding_window is null, but some layers have the rotary base of layers with a window");
    }
    return {
      ...common,
      ...readTwoRopes(json, common.maxPositions),
      ...readWindow(json, common.layers, full),
      attentionScale: scaleOf(json),
      logitSoftcap: json.nullable("final_logit_softcapping", null),
    };
  },
  write: (c) => {
    const full = { ...writeScaling(c.ropeScaling), rope_theta: c.ropeTheta };
    const local = c.localRopeTheta ?? c.ropeTheta;
    return {
      ...writeGemma(c),
      rope_theta: c.ropeTheta,
      rope_local_base_freq: local,
      ...(c.ropeScaling && { rope_scaling: writeScaling(c.ropeScaling) }),
      rope_parameters: { full_attention: full, sliding_attention: { rope_type: "default", rope_theta: local } },
      query_pre_attn_scalar: queryScalar(c),
      attn_logit_softcapping: null,
      final_logit_softcapping: c.logitSoftcap,
      sliding_window: c.slidingWindow ?? 4096,
      layer_types: layerTypes(c),
      use_bidirectional_attention: false,
    };
  },
});

/** Full layers have one base and may be scaled; sliding layers have another base. */
function readTwoRopes(
  json: ConfigReader,
  maxPositions: number,
): Pick<DecoderConfig, "ropeTheta" | "ropeScaling" | "localRopeTheta"> {
  const both = json.inside("rope_parameters", json.object("rope_parameters") ?? {});
  const older = json.inside("rope_scaling", json.object("rope_scaling") ?? {});
  if (!older.has("rope_type")) older.only("type", "default"); // counts in some releases of transformers only
  // Older files scale the full layers so.
  const full = json.inside("rope_parameters.full_attention", {
    ...both.object("full_attention"),
    ...json.object("rope_scaling"),
  });
  const local = json.inside("rope_parameters.sliding_attention", both.object("sliding_attention") ?? {});
  both.refuseUnread(() => false);
  for (const p of [full, local]) p.only("partial_rotary_factor", 1);
  full.only("truncate", true); // transformers looks for it elsewhere
  if (readScaling(local, maxPositions)) local.fail("scaled rotary positions of sliding layers are not supported");
  return {
    ropeTheta: full.optional("rope_theta", json.optional("rope_theta", 1e6)),
    ropeScaling: readScaling(full, maxPositions),
    localRopeTheta: local.optional("rope_theta", json.optional("rope_local_base_freq", 10000)),
  };
}
