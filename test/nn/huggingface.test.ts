/** What config.json may say, and what it may not: every refusal names the field. */
import { describe, expect, it } from "vitest";
import { memoryFiles, UserError } from "webrlhf";
import {
  type DecoderShape,
  decoderConfig,
  familyNames,
  findFamily,
  fromHfConfig,
  loadConfig,
  toHfConfig,
} from "webrlhf/nn";
import { configText, fileTensors, isExtra, nameIn } from "../../src/nn/huggingface.ts";
import { rotaryFrequencies, rotaryOf } from "../../src/nn/rotary.ts";
import { uniform } from "../../src/runtime/rng.ts";
import fixture from "../fixtures/families.json" with { type: "json" };

type Json = Record<string, unknown>;

const common = {
  vocab_size: 64,
  hidden_size: 32,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  intermediate_size: 48,
  max_position_embeddings: 128,
};
const neo = { vocab_size: 64, hidden_size: 32, num_layers: 2, num_heads: 4, max_position_embeddings: 128 };
const read = (model_type: string, more: Json = {}, base: Json = common) =>
  fromHfConfig({ ...base, model_type, ...more }, "here/config.json");

describe("config.json is refused by the name of the field", () => {
  const cases: [type: string, fields: Json, message: string, base?: Json][] = [
    ["t5", {}, 'model_type "t5" is not supported'],
    ["gemma3", {}, "text-only sizes are gemma3_text"],
    ["constructor", {}, 'model_type "constructor" is not supported'],
    ["llama", { hidden_act: "quick_gelu" }, 'hidden_act = "quick_gelu" is not supported'],
    ["llama", { hidden_act: "toString" }, 'hidden_act = "toString" is not supported'],
    ["llama", { rope_scaling: { rope_type: "longrope" } }, 'rope_scaling: rope_type "longrope" is not supported'],
    ["llama", { rope_scaling: { type: "linear" } }, "rope_scaling: factor is missing"],
    ["llama", { rope_parameters: { partial_rotary_factor: 0.5 } }, "partial_rotary_factor = 0.5 is not supported"],
    ["llama", { attention_bias: "yes" }, "attention_bias must be true or false"],
    ["llama", { hidden_size: undefined }, "hidden_size is missing"],
    ["llama", { hidden_size: "32" }, "hidden_size must be a number"],
    ["llama", { eos_token_id: "</s>" }, "eos_token_id must be a token id"],
    ["llama", { quantization_config: { bits: 4 } }, "quantization_config = "],
    ["llama", { head_dim: 260 }, "headDim must be a multiple of 4 up to 256, not 260"],
    ["llama", { num_key_value_heads: 3 }, "heads (4) must be a multiple of kvHeads (3)"],
    ["qwen2", { layer_types: ["full_attention", "chunked_attention"] }, 'layer_types has "chunked_attention"'],
    ["qwen2", { layer_types: ["full_attention"] }, "layer_types has 1 entries for 2 layers"],
    ["qwen2", { num_key_value_heads: undefined }, "num_key_value_heads is missing"],
    ["gemma", { num_key_value_heads: undefined }, "num_key_value_heads is missing"],
    ["mistral", { layer_types: ["full_attention", "sliding_attention"] }, "layer_types that differ"],
    ["mistral", { sliding_window: 0 }, "slidingWindow must be a positive whole number, not 0"],
    ["gemma2", { use_bidirectional_attention: true }, "use_bidirectional_attention = true is not supported"],
    ["gemma3_text", { attn_logit_softcapping: 50 }, "attn_logit_softcapping = 50 is not supported"],
    [
      "gemma3_text",
      { rope_parameters: { sliding_attention: { rope_type: "linear", factor: 2 } } },
      "rope_parameters.sliding_attention: scaled rotary positions",
    ],
    ["gemma2", { final_logit_softcapping: -1 }, "logitSoftcap must be positive, not -1"],
    ["gpt_neox", { rotary_pct: 0.375 }, "ropeFraction 0.375 of headDim 8 is 3 columns, which must be even"],
    ["gpt_neo", { attention_types: [[["global", "sparse"], 1]] }, 'attention_types has "sparse"', neo],
    ["gpt_neo", { attention_types: [[["global", "local"], 2]] }, "attention_types describes 4 of 2 layers", neo],
    ["gpt_neo", { attention_types: [[["global"], 1e9]] }, "attention_types must be a list of", neo],
    ["gpt_neo", { attention_types: [7] }, "attention_types must be a list of", neo],
    [
      "llama",
      { num_hidden_layers: 1e12 },
      "num_hidden_layers must be a whole number from 1 to 10000, not 1000000000000",
    ],
    ["smollm3", { num_hidden_layers: -1 }, "num_hidden_layers must be a whole number"],
    ["llama", { rope_theta: -1 }, "ropeTheta must be positive, not -1"],
    ["llama", { rope_scaling: { rope_type: "linear", factor: 0 } }, "ropeScaling must be positive, not 0"],
    ["gpt2", { scale_attn_by_inverse_layer_idx: true }, "scale_attn_by_inverse_layer_idx = true is not supported"],
  ];
  it.each(cases)("%s %j", (type, fields, message, base) => {
    expect(() => read(type, fields, base)).toThrow(message);
    expect(() => read(type, fields, base)).toThrow("here/config.json: ");
  });
});

it("answers 5,000 damaged configs with a config or a clear error", () => {
  const configs = (fixture as unknown as { cases: { config: Json }[] }).cases.map((c) => JSON.stringify(c.config));
  const odd = [null, -1, 0, 0.5, 1e9, 1e308, "", "x", true, [], {}, [null], [[]], [["global", 1]], { factor: null }];
  const more = [{ rope_type: 3 }, { rope_type: "yarn" }, { full_attention: 7 }, ["sliding_attention", "x"], "gelu"];
  const values = [...odd, ...more].map((v) => JSON.stringify(v));
  const pick = <T>(list: readonly T[], i: number, k: number) => list[Math.floor(uniform(5, i, k) * list.length)];
  let opened = 0;
  for (let i = 0; i < 5000; i++) {
    const config = JSON.parse(pick(configs, i, 0)) as Json;
    for (let k = 1; k <= 4 && uniform(6, i, k) < 0.7; k++) {
      const inner = Object.values(config).filter((v) => v && typeof v === "object" && !Array.isArray(v)) as Json[];
      const at = inner.length > 0 && uniform(7, i, k) < 0.3 ? pick(inner, i, 10 + k) : config;
      const key = pick(Object.keys(at), i, 20 + k) ?? "x";
      if (uniform(8, i, k) < 0.2) delete at[key];
      else at[key] = JSON.parse(pick(values, i, 30 + k));
    }
    try {
      toHfConfig(fromHfConfig(config, "damaged"), "lm");
      opened++;
    } catch (error) {
      if (!(error instanceof UserError)) throw new Error(`${JSON.stringify(config)}: ${error}`);
    }
  }
  expect(opened).toBeGreaterThan(500);
  expect(opened).toBeLessThan(4500);
});

describe("config.json as files in the wild have it", () => {
  it("Gemma 1 says gelu and means its approximation", () => {
    expect(read("gemma", { hidden_act: "gelu" }).activation).toBe("gelu_tanh");
    expect(read("gemma", {}).activation).toBe("gelu_tanh");
    expect(read("gemma2", { hidden_activation: "gelu" }).activation).toBe("gelu");
    expect(() => read("gemma", { hidden_activation: "gelu" })).toThrow("say so by hidden_act");
    expect(read("gemma", {}).headDim).toBe(256);
  });

  it("Gemma 3 with the fields of older releases", () => {
    const c = read("gemma3_text", {
      num_hidden_layers: 7,
      rope_theta: 5e5,
      rope_local_base_freq: 100,
      rope_scaling: { rope_type: "linear", factor: 8 },
      sliding_window_pattern: 3,
      sliding_window: 16,
      query_pre_attn_scalar: 64,
    });
    expect(c.slidingLayers).toEqual([true, true, false, true, true, false, true]);
    expect([c.ropeTheta, c.localRopeTheta, c.slidingWindow, c.attentionScale]).toEqual([5e5, 100, 16, 1 / 8]);
    expect(c.ropeScaling).toEqual({ type: "linear", factor: 8 });
    expect(rotaryOf(c, 0)?.frequencies[1]).toBeCloseTo(100 ** (-2 / 256), 6);
    expect(rotaryOf(c, 2)?.frequencies[0]).toBe(1 / 8);
  });

  it("Llama 3.1 under the old name and the new", () => {
    const scaling = { factor: 8, low_freq_factor: 1, high_freq_factor: 4, original_max_position_embeddings: 8192 };
    const old = read("llama", { rope_theta: 5e5, rope_scaling: { rope_type: "llama3", ...scaling } });
    const now = read("llama", { rope_parameters: { rope_type: "llama3", rope_theta: 5e5, ...scaling } });
    expect(old).toEqual(now);
    expect(old.eosIds).toEqual([]);
  });

  it("writes floats as floats, for readers that mind", () => {
    const config = decoderConfig({ family: "gemma2", vocabSize: 64, hiddenSize: 32, layers: 2, heads: 4 });
    const text = configText(toHfConfig(config, "lm"));
    expect(text).toContain('"final_logit_softcapping": 30.0,');
    expect(text).toContain('"rope_theta": 10000.0');
    expect(text).toContain('"query_pre_attn_scalar": 8,');
    expect(JSON.parse(text)).toEqual(toHfConfig(config, "lm"));
  });

  it("several end tokens, and -1 for none", () => {
    const c = read("llama", { eos_token_id: [7, 9], pad_token_id: -1 });
    expect([c.eosId, c.eosIds, c.padId]).toEqual([7, [7, 9], null]);
    expect(toHfConfig(c, "lm").eos_token_id).toEqual([7, 9]);
  });

  it("end tokens that only generation_config.json has", async () => {
    const config = { ...common, model_type: "llama", eos_token_id: 7 };
    const load = async (generation?: Json) => {
      const files = memoryFiles();
      await files.writeFile("m/config.json", JSON.stringify(config));
      if (generation) await files.writeFile("m/generation_config.json", JSON.stringify(generation));
      return (await loadConfig(files, "m")).eosIds;
    };
    expect(await load()).toEqual([7]);
    expect(await load({})).toEqual([7]);
    expect(await load({ eos_token_id: 9 })).toEqual([7, 9]);
    expect(await load({ eos_token_id: [9, 7, 64, -1, "x"] }), "others are no tokens").toEqual([7, 9]);
  });

  it("Qwen with a window that is not in use", () => {
    const c = read("qwen2", { use_sliding_window: false, sliding_window: 4, max_window_layers: 1 });
    expect([c.slidingWindow, c.slidingLayers]).toEqual([null, [false, false]]);
    expect(read("qwen2", { use_sliding_window: true, sliding_window: null }).slidingWindow).toBe(null);
    expect(read("llama", { num_key_value_heads: undefined }).kvHeads).toBe(4);
    expect(read("qwen2", { num_key_value_heads: null }).kvHeads).toBe(4);
  });

  it("Mistral without a window, and its first release", () => {
    expect(read("mistral", { sliding_window: null }).slidingWindow).toBe(null);
    expect(read("mistral", {}).slidingWindow).toBe(4096);
  });

  it("GPT-Neo without its list of layers", () => {
    expect(read("gpt_neo", {}, neo).slidingLayers).toEqual([false, true]);
    expect(read("gpt_neo", {}, neo).attentionScale).toBe(1);
  });

  it("yarn computes its attention factor", () => {
    const rope = { rope_type: "yarn", factor: 4, original_max_position_embeddings: 32 };
    const { ropeScaling } = read("llama", { rope_parameters: rope });
    expect(ropeScaling).toMatchObject({ attentionFactor: 0.1 * Math.log(4) + 1, betaFast: 32, betaSlow: 1 });
    const { frequencies, magnitude } = rotaryFrequencies(8, 10000, ropeScaling);
    expect([frequencies[0], magnitude]).toEqual([1, 0.1 * Math.log(4) + 1]);
    expect(frequencies[3]).toBeCloseTo(0.001 / 4, 9);
  });
});

describe("decoderConfig", () => {
  const shape = { vocabSize: 64, hiddenSize: 32, layers: 4, heads: 4 };

  it.each(familyNames())("makes a %s that its files can describe", (family) => {
    const config = decoderConfig({ ...shape, family });
    expect(fromHfConfig(toHfConfig(config, "lm"), "config.json")).toEqual(config);
    const parameters = fileTensors(config, "lm").map((t) => t.parameter);
    expect(parameters).toContain("decoder.embed.weight");
    expect(toHfConfig(config, "score").architectures).toEqual([findFamily(family)?.classes.score]);
  });

  it("refuses what the family's files could not say", () => {
    const refused = (more: Partial<DecoderShape>) => () => decoderConfig({ ...shape, family: "llama", ...more });
    expect(refused({ qkNorm: true })).toThrow("llama models have qkNorm = false, not true");
    expect(refused({ logitSoftcap: 30 })).toThrow("llama models have logitSoftcap = null, not 30");
    expect(refused({ qkvBias: true, outBias: false })).toThrow("llama models have outBias = true, not false");
    expect(refused({ family: "gptj" as never })).toThrow('family "gptj" is unknown; these are known: gpt2, ');
    expect(refused({ layers: 0.5 })).toThrow("model config: layers must be a whole number from 1 to 10000, not 0.5");
    expect(refused({ ropeLayers: [true] })).toThrow("ropeLayers has 1 entries for 4 layers");
  });
});

describe("names in files", () => {
  const config = decoderConfig({ family: "llama", vocabSize: 64, hiddenSize: 32, layers: 1, heads: 4 });

  it("of the bare model, and of other score heads, are found", () => {
    const [embed] = fileTensors(config, "score");
    const head = fileTensors(config, "score").at(-1) as ReturnType<typeof fileTensors>[number];
    expect(nameIn(embed, new Set(["model.embed_tokens.weight"]))).toBe("model.embed_tokens.weight");
    expect(nameIn(embed, new Set(["embed_tokens.weight"]))).toBe("embed_tokens.weight");
    expect(nameIn(embed, new Set(["other.embed_tokens.weight"]))).toBe(null);
    expect(nameIn(head, new Set(["score_head.weight"]))).toBe("score_head.weight");
  });

  it("of buffers and the other head are passed over", () => {
    const extra = [
      "transformer.h.0.attn.bias",
      "h.11.attn.masked_bias",
      "transformer.h.0.attn.attention.bias",
      "transformer.h.0.attn.attention.masked_bias",
      "gpt_neox.layers.0.attention.bias",
      "gpt_neox.layers.0.attention.rotary_emb.inv_freq",
      "model.layers.0.self_attn.rotary_emb.inv_freq",
      "model.rotary_emb.inv_freq",
      "lm_head.weight",
      "embed_out.weight",
      "score.weight",
    ];
    for (const name of extra) expect([name, isExtra(name)]).toEqual([name, true]);
    const own = [
      "model.layers.0.self_attn.q_proj.bias",
      "gpt_neox.layers.0.attention.dense.bias",
      "transformer.h.0.attn.c_attn.bias",
    ];
    for (const name of own) expect([name, isExtra(name)]).toEqual([name, false]);
  });
});
