// Fields of config.json that nobody knows: refused by name, unless they change nothing.
import { expect, it } from "vitest";
import { decoderConfig, fromHfConfig, toHfConfig } from "webrlhf/nn";

const families = "gpt2 gpt_neo gpt_neox llama smollm3 mistral qwen2 qwen3 gemma gemma2 gemma3_text".split(" ");
const made = (family: string) =>
  toHfConfig(decoderConfig({ family, vocabSize: 32, hiddenSize: 16, layers: 2, heads: 2 }), "lm");
/** What published files have besides. */
const published = {
  _name_or_path: "x/y",
  _attn_implementation_autoset: true,
  auto_map: { AutoModel: "modeling.Own" },
  initializer_range: 0.02,
  transformers_version: "4.57.0",
  use_cache: true,
  pretraining_tp: 1,
  task_specific_params: { "text-generation": { do_sample: true } },
  unsloth_fixed: true,
  n_ctx: 1024,
  cache_implementation: "hybrid",
  some_new_feature: false,
  other_feature: null,
};

it.each(families)("%s is read with what published files have besides", (family) => {
  const json = made(family);
  expect(fromHfConfig({ ...json, ...published }, "config.json")).toEqual(fromHfConfig(json, "config.json"));
});

it.each(families)("%s is refused with a field that nobody knows, by its name", (family) => {
  for (const [key, value] of Object.entries({
    logit_scale: 0.5,
    use_mup: true,
    attention_sinks: [1],
    residual_kind: "x",
  })) {
    expect(() => fromHfConfig({ ...made(family), [key]: value }, "m/config.json")).toThrow(
      new RegExp(`^m/config\\.json: ${key} = .* is not known`),
    );
  }
});
