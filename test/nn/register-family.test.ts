/** A family of models from outside: one call, and its models open, save and adapt like those that are built in. */
import { beforeAll, expect, it } from "vitest";
import { memoryFiles, noGrad, openDevice, packing, scope, tensor, writeSafetensors } from "webrlhf";
import {
  adaptableModules,
  CausalLM,
  type DecoderConfig,
  decoderConfig,
  type Family,
  type FileTensor,
  familyNames,
  findFamily,
  loadCausalLM,
  modelFiles,
  registerFamily,
} from "webrlhf/nn";
import { shapeSettings } from "webrlhf/open";
import { settings } from "webrlhf/rlhf";
import { values } from "../fixture.ts";
import llama from "../fixtures/models-llama.json" with { type: "json" };
import { expectClose } from "../helpers.ts";
import { GgufWriter } from "../io/gguf-writer.ts";

/** Llama under names of its own: those of the weights here, of the fields below. */
const parts: Record<string, string> = {
  "model.embed_tokens": "words",
  input_layernorm: "before",
  "self_attn.q_proj": "ask",
  "self_attn.k_proj": "find",
  "self_attn.v_proj": "take",
  "self_attn.o_proj": "join",
  post_attention_layernorm: "between",
  "mlp.gate_proj": "gate",
  "mlp.up_proj": "wide",
  "mlp.down_proj": "narrow",
  "model.norm": "after",
  lm_head: "speech",
};
const rename = (name: string) =>
  Object.entries(parts).reduce((now, [theirs, ours]) => now.replace(theirs, ours), name.replace("model.layers", "net"));

const family: Family = {
  modelType: "pico",
  classes: { lm: "PicoForCausalLM", score: "PicoForSequenceClassification" },
  prefix: "net.",
  headName: "speech.weight",
  defaults: () => ({ gated: true, tieEmbeddings: false }),
  tensors: (config: DecoderConfig): FileTensor[] =>
    (findFamily("llama") as Family).tensors(config).map((t) => ({ ...t, name: rename(t.name) })),
  read: (json) => ({
    vocabSize: json.number("vocab_size"),
    hiddenSize: json.number("width"),
    layers: json.layers("depth"),
    heads: json.number("askers"),
    kvHeads: json.number("finders"),
    intermediateSize: json.number("inner"),
    maxPositions: json.number("length"),
    normEps: json.optional("epsilon", 1e-5),
    ropeTheta: json.number("theta"),
    tieEmbeddings: json.flag("tie_word_embeddings", false),
    ...(json.has("size") && { headDim: json.number("size") }),
  }),
  write: (c) => ({
    width: c.hiddenSize,
    depth: c.layers,
    askers: c.heads,
    finders: c.kvHeads,
    size: c.headDim,
    inner: c.intermediateSize,
    length: c.maxPositions,
    epsilon: c.normEps,
    theta: c.ropeTheta,
  }),
  gguf: {
    architecture: "pico",
    names: {
      outside: { token_embd: "words", output_norm: "after", output: "speech" },
      block: "net.#.",
      inside: {
        attn_norm: "before",
        attn_q: "ask",
        attn_k: "find",
        attn_v: "take",
        attn_output: "join",
        ffn_norm: "between",
        ffn_gate: "gate",
        ffn_up: "wide",
        ffn_down: "narrow",
      },
    },
    config: (reader) => ({
      architectures: ["PicoForCausalLM"],
      model_type: "pico",
      width: reader.number("embedding_length"),
      depth: reader.number("block_count"),
      askers: reader.number("attention.head_count"),
      finders: reader.number("attention.head_count"),
      inner: reader.number("feed_forward_length"),
      length: reader.number("context_length"),
      theta: 10000,
    }),
  },
};

const config = {
  architectures: ["PicoForCausalLM"],
  model_type: "pico",
  vocab_size: 47,
  width: 24,
  depth: 2,
  askers: 4,
  finders: 2,
  size: 8,
  inner: 40,
  length: 32,
  epsilon: 1e-5,
  theta: 1000,
  eos_token_id: 2,
};

beforeAll(async () => {
  await openDevice();
  registerFamily(family);
});

async function folders() {
  const files = memoryFiles();
  const weights = Object.entries(llama.weights).map(
    ([name, a]) => [name, { shape: a.shape, data: values(a) as Float32Array }] as const,
  );
  await files.writeFolder("llama", {
    "config.json": JSON.stringify(llama.config),
    "model.safetensors": writeSafetensors(Object.fromEntries(weights)),
  });
  await files.writeFolder("pico", {
    "config.json": JSON.stringify(config),
    "model.safetensors": writeSafetensors(Object.fromEntries(weights.map(([name, t]) => [rename(name), t]))),
  });
  return files;
}

async function logits(model: CausalLM): Promise<Float32Array> {
  const ids = Uint32Array.from(llama.ids[0]);
  const found = scope(() =>
    noGrad(() =>
      model.logits(model.decoder.forward({ gpu: tensor(ids), host: ids }, { packing: packing([ids.length]) })),
    ),
  );
  const read = await found.read();
  found.free("the test");
  return read;
}

it("opens a folder of the family, whose logits are those of Llama with the same weights", async () => {
  const files = await folders();
  const [own, built] = await Promise.all([loadCausalLM(files, "pico"), loadCausalLM(files, "llama")]);
  expect(own.config.family).toBe("pico");
  const found = await logits(own);
  expect(found).toEqual(await logits(built));
  expectClose(found, values(llama.logits[0] as Parameters<typeof values>[0]), 1e-5, 1e-6);
  for (const model of [own, built]) model.destroy();
});

it("saves what it opens, under the family's names", async () => {
  const files = await folders();
  const model = await loadCausalLM(files, "pico");
  const before = await logits(model);
  await files.writeFolder("again", await modelFiles(model));
  const json = JSON.parse(new TextDecoder().decode((await files.read("again/config.json")) ?? undefined));
  expect(json).toMatchObject({ architectures: ["PicoForCausalLM"], model_type: "pico", width: 24, finders: 2 });
  const again = await loadCausalLM(files, "again");
  expect(await logits(again)).toEqual(before);
  for (const m of [model, again]) m.destroy();
});

it("adapts its layers by their names, and makes models from nothing", () => {
  const shape = { family: "pico", vocabSize: 16, hiddenSize: 16, layers: 1, heads: 2 };
  const base = new CausalLM(decoderConfig(shape));
  expect(adaptableModules(base)).toEqual(
    ["ask", "find", "take", "join", "gate", "wide", "narrow"].map((n) => `net.0.${n}`),
  );
  const adapted = new CausalLM({ base, lora: { rank: 2, alpha: 4, targets: ["ask", "take"] } });
  expect(adapted.adapter?.modules.map((m) => m.name)).toEqual(["net.0.ask", "net.0.take"]);
  for (const model of [adapted, base]) model.destroy();
  expect(() => decoderConfig({ ...shape, qkNorm: true })).toThrow("pico models have qkNorm = false, not true");
});

it("opens the family's GGUF files", async () => {
  const w = new GgufWriter();
  w.text("general.architecture", "pico");
  const numbers = {
    context_length: 8,
    embedding_length: 8,
    block_count: 1,
    feed_forward_length: 12,
    "attention.head_count": 2,
  };
  for (const [key, value] of Object.entries(numbers)) w.u32(`pico.${key}`, value);
  w.tensor("token_embd.weight", [4, 8]);
  for (const name of ["attn_norm", "ffn_norm"]) w.tensor(`blk.0.${name}.weight`, [8]);
  for (const name of ["attn_q", "attn_k", "attn_v", "attn_output"]) w.tensor(`blk.0.${name}.weight`, [8, 8]);
  for (const name of ["ffn_gate", "ffn_up"]) w.tensor(`blk.0.${name}.weight`, [12, 8]);
  w.tensor("blk.0.ffn_down.weight", [8, 12]);
  w.tensor("output_norm.weight", [8]);
  const files = memoryFiles();
  await files.writeFolder("folder", { "pico.gguf": w.bytes() });
  const model = await loadCausalLM(files, "folder/pico.gguf");
  expect(model.config).toMatchObject({ family: "pico", hiddenSize: 8, layers: 1, vocabSize: 4, tieEmbeddings: true });
  model.destroy();
});

it("can be named where a model from scratch is described", () => {
  const shape = settings("shape", shapeSettings);
  expect(shape({ modelType: "pico" }).modelType).toBe("pico");
  expect(() => shape({ modelType: "nano" })).toThrow("pico");
});

it("refuses a name that is taken, and names the family where families are listed", () => {
  expect(familyNames()).toContain("pico");
  expect(() => registerFamily(family)).toThrow('there is a family "pico" already');
  expect(() => registerFamily({ ...family, modelType: "nano" })).toThrow('there is a GGUF architecture "pico" already');
  expect(familyNames()).not.toContain("nano");
});
