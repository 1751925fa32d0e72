// config.json as transformers and the hub have it: read as transformers reads it, or refused where it contradicts itself.
import { describe, expect, it } from "vitest";
import { fromHfConfig } from "webrlhf/nn";
import { CONFIGS } from "../mutations/config-cases.ts";

const read = (json: Record<string, unknown>) => fromHfConfig(json, "config.json");
const of = (family: string) => CONFIGS.filter((config) => config.model_type === family);

describe("config.json", () => {
  it.each(CONFIGS.map((config, i) => [`${i}: ${config.model_type}`, config] as const))(
    "is accepted: %s",
    (_, config) => {
      expect(read(config).family).toBe(config.model_type);
      // Fields that say how a model is stored, loaded or used.
      const besides = {
        _name_or_path: "a/b",
        transformers_version: "4.51.0",
        torch_dtype: "bfloat16",
        dtype: "bfloat16",
        use_cache: false,
        auto_map: { AutoConfig: "configuration_x.X" },
        attn_implementation: "flash_attention_2",
        _attn_implementation: "sdpa",
        pretraining_tp: 2,
        num_labels: 1,
        id2label: { 0: "LABEL_0" },
        label2id: { LABEL_0: 0 },
      };
      expect(read({ ...config, ...besides })).toEqual(read(config));
    },
  );

  it.each(CONFIGS.map((config, i) => [`${i}: ${config.model_type}`, config] as const))(
    "is refused where it is quantized or has what nobody knows: %s",
    (_, config) => {
      for (const more of [{ quantization_config: { quant_method: "gptq" } }, { logit_scale: 2 }, { num_experts: 8 }]) {
        expect(() => read({ ...config, ...more })).toThrow(Object.keys(more)[0]);
      }
    },
  );

  it("is refused where two fields say different things", () => {
    const linear = { rope_type: "linear", factor: 2 };
    const cases: [string, Record<string, unknown>][] = [
      ["llama", { rope_parameters: { rope_type: "default" }, rope_scaling: linear }],
      ["llama", { rope_parameters: { ...linear, rope_theta: 5000 }, rope_scaling: linear, rope_theta: 10000 }],
      ["gpt2", { n_positions: 256, max_position_embeddings: 512 }],
      ["gpt_neo", { attention_layers: new Array(6).fill("global") }],
      ["gemma", { hidden_act: "silu", hidden_activation: "gelu" }],
      ["gemma2", { hidden_act: "silu" }],
    ];
    for (const [family, fields] of cases) {
      const [config] = of(family);
      expect(() => read({ ...config, ...fields }), JSON.stringify(fields)).toThrow("contradicts");
    }
  });

  it("is refused where a field would be read by webrlhf alone", () => {
    const cases: [string, Record<string, unknown>, string][] = [
      ["gpt_neox", { rope_theta: 5000 }, "rope_theta = 5000"],
      ["gemma3_text", { layer_types: null, _sliding_window_pattern: 2 }, "_sliding_window_pattern = 2"],
      ["gemma3_text", { rope_parameters: null, rope_scaling: { type: "linear", factor: 2 } }, "rope_scaling: type"],
      ["gemma3_text", { rope_parameters: { rope_type: "linear", factor: 2 } }, "rope_type"],
      ["llama", { rope_parameters: { rope_type: "default", mrope_section: [4, 4] } }, "mrope_section"],
      ["smollm3", { no_rope_layers: [2, 1, 1, 0, 1, 1] }, "no_rope_layers"],
    ];
    for (const [family, fields, name] of cases) {
      const [config] = of(family);
      expect(() => read({ ...config, ...fields }), JSON.stringify(fields)).toThrow(name);
    }
  });

  it("says by null that nothing slides in Gemma 2; in Gemma 3 only where no layer has the base of those that do", () => {
    const [two] = of("gemma2");
    const [three] = of("gemma3_text");
    const full = { layer_types: Array(three.num_hidden_layers as number).fill("full_attention") };
    for (const config of [two, { ...three, ...full }]) {
      const { slidingWindow, slidingLayers } = read({ ...config, sliding_window: null });
      expect(slidingWindow).toBeNull();
      expect(slidingLayers).not.toContain(true);
    }
    expect(() => read({ ...three, sliding_window: null })).toThrow("sliding_window is null, but some layers");
  });

  it("has no token -0", () => {
    expect(Object.is(read({ ...of("llama")[0], pad_token_id: -0 }).padId, 0)).toBe(true);
  });

  it("does not round Gemma 3's yarn otherwise than transformers does", () => {
    const rope_scaling = { rope_type: "yarn", factor: 4, original_max_position_embeddings: 512, truncate: false };
    expect(() => read({ ...of("gemma3_text")[0], rope_scaling })).toThrow("truncate");
  });

  it("scales Gemma 3's full layers by rope_scaling, whatever rope_parameters say of them", () => {
    const [config] = of("gemma3_text");
    const both = {
      rope_parameters: { full_attention: { rope_theta: 1e6 }, sliding_attention: { rope_type: "default" } },
      rope_scaling: { rope_type: "linear", factor: 8 },
    };
    expect(read({ ...config, ...both }).ropeScaling).toEqual({ type: "linear", factor: 8 });
  });
});
