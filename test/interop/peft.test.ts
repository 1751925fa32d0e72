/**
 * PEFT opens the adapters that webrlhf writes, and webrlhf opens PEFT's; merged models open in transformers. Needs a Python
 * with torch, transformers and peft: python3 on the PATH, or the one that WEBRLHF_PYTHON names. Skipped, with the reason,
 * where there is none.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { backward, diskFiles, parseSafetensors, scale, scope, sum } from "webrlhf";
import {
  adapterFiles,
  CausalLM,
  type DecoderConfig,
  decoderConfig,
  type LoraOptions,
  loadCausalLM,
  loadScoreModel,
  type Model,
  mergeAdapter,
  modelFiles,
  openAdapter,
  readAdapterFolder,
  ScoreModel,
} from "webrlhf/nn";
import { pack, predictions } from "webrlhf/rlhf";
import { normal } from "../../src/runtime/rng.ts";
import { expectClose, gpuReady } from "../helpers.ts";
import { logitsOf, runPython, whyNot } from "./python.ts";

const reason = whyNot(["torch", "transformers", "peft"]);

const ids = [[3, 5, 7, 4, 6, 40, 41], [9], [10, 10, 11, 42]];
const shape = { vocabSize: 48, hiddenSize: 16, layers: 2, heads: 4, maxPositions: 32, eosId: 2, padId: 0 };
const llama = { ...shape, kvHeads: 2, headDim: 8, intermediateSize: 20 };
const bases: Record<string, DecoderConfig> = {
  gpt2: decoderConfig({ ...shape, family: "gpt2" }),
  llama: decoderConfig({ ...llama, family: "llama", tieEmbeddings: false }),
  "llama-tied": decoderConfig({ ...llama, family: "llama", tieEmbeddings: true }),
  qwen2: decoderConfig({ ...llama, family: "qwen2", tieEmbeddings: false }),
  neox: decoderConfig({ ...shape, family: "gpt_neox", hiddenSize: 32, tieEmbeddings: false }),
};

interface Ours {
  name: string;
  base: string;
  scorer?: boolean;
  lora: LoraOptions;
}
const all = "all-linear" as const;
const ours: Ours[] = [
  { name: "gpt2-all", base: "gpt2", lora: { rank: 3, alpha: 6, targets: all } },
  { name: "gpt2-attn", base: "gpt2", lora: { rank: 2, alpha: 1, targets: ["attn.c_proj", "c_attn"], rsLora: true } },
  { name: "llama-qv", base: "llama", lora: { rank: 4, alpha: 8, targets: ["q_proj", "v_proj"], dropout: 0.1 } },
  {
    name: "llama-whole",
    base: "llama",
    lora: { rank: 1, alpha: 2, targets: all, modulesToSave: ["embed_tokens", "lm_head"] },
  },
  {
    name: "tied-head",
    base: "llama-tied",
    lora: { rank: 2, alpha: 2, targets: ["k_proj"], modulesToSave: ["lm_head", "norm"] },
  },
  { name: "llama-score", base: "llama", scorer: true, lora: { rank: 2, alpha: 4, targets: ["o_proj", "gate_proj"] } },
  { name: "qwen2-all", base: "qwen2", lora: { rank: 2, alpha: 4, targets: all } },
  {
    name: "llama-dora",
    base: "llama",
    lora: { rank: 3, alpha: 6, targets: ["q_proj", "v_proj", "up_proj"], dora: true },
  },
  { name: "gpt2-dora", base: "gpt2", lora: { rank: 2, alpha: 4, targets: all, dora: true } },
  { name: "neox-dora", base: "neox", lora: { rank: 2, alpha: 1, targets: all, dora: true, rsLora: true } },
  { name: "neox-all", base: "neox", lora: { rank: 2, alpha: 4, targets: all } },
];

interface Theirs {
  name: string;
  base: string;
  config: Record<string, unknown>;
}
const lm = { task_type: "CAUSAL_LM", r: 3, lora_alpha: 5 };
const theirs: Theirs[] = [
  { name: "peft-llama", base: "llama", config: { ...lm, target_modules: ["q_proj", "down_proj"] } },
  {
    name: "peft-patterns",
    base: "llama",
    config: { ...lm, target_modules: all, rank_pattern: { v_proj: 2 }, alpha_pattern: { "0.self_attn.q_proj": 9 } },
  },
  {
    name: "peft-some-layers",
    base: "llama-tied",
    config: { ...lm, target_modules: ["up_proj"], layers_to_transform: [1], use_rslora: true },
  },
  { name: "peft-regex", base: "llama", config: { ...lm, target_modules: ".*layers\\.1.*(q|k)_proj" } },
  {
    name: "peft-gpt2",
    base: "gpt2",
    config: { ...lm, target_modules: ["c_attn", "c_fc"], fan_in_fan_out: true, modules_to_save: ["ln_f"] },
  },
  { name: "peft-dora", base: "llama", config: { ...lm, target_modules: all, use_dora: true } },
  {
    name: "peft-gpt2-dora",
    base: "gpt2",
    config: { ...lm, target_modules: ["c_attn", "c_fc"], fan_in_fan_out: true, use_dora: true },
  },
  { name: "peft-score", base: "llama", config: { ...lm, task_type: "SEQ_CLS", target_modules: all } },
  { name: "peft-neox", base: "neox", config: { ...lm, target_modules: ["query_key_value"] } },
];

interface Answer {
  logits: number[][] | number[][][];
  merged: number[][] | number[][][];
}

describe.skipIf(reason !== "")(`PEFT${reason && ` (skipped: ${reason})`}`, () => {
  let root = "";
  const answers = new Map<string, Answer>();
  const computed = new Map<string, Float32Array>();

  beforeAll(async () => {
    await gpuReady();
    root = mkdtempSync(join(tmpdir(), "webrlhf-peft-"));
    const files = await diskFiles();
    const jobs: [string, object][] = [];
    for (const [name, config] of Object.entries(bases)) {
      const base = new CausalLM(config, name);
      randomize(base, 1);
      await files.writeFolder(join(root, name), await modelFiles(base));
      base.destroy();
    }
    for (const { name, base, scorer, lora } of ours) {
      const under = await (scorer ? loadScoreModel : loadCausalLM)(files, join(root, base));
      const model = scorer ? new ScoreModel({ base: under, lora }, name) : new CausalLM({ base: under, lora }, name);
      model.initialize(1);
      randomize(model, 2);
      await files.writeFolder(join(root, name), await adapterFiles(model));
      computed.set(name, await logitsOf(model, ids));
      const merged = mergeAdapter(model, under);
      await files.writeFolder(join(root, `${name}-merged`), await modelFiles(merged));
      if (merged !== under) merged.destroy();
      model.withBase(under).destroy();
      jobs.push([name, { open: join(root, name), base: join(root, base) }]);
      if (lora.dora) jobs.push([`${name}-train`, { train: join(root, name), base: join(root, base) }]);
      jobs.push([`${name}-merged`, { plain: join(root, `${name}-merged`) }]);
    }
    for (const [i, { name, base, config }] of theirs.entries()) {
      const settings = config.target_modules === all ? { ...config, target_modules: "all-linear" } : config;
      jobs.push([name, { write: join(root, name), base: join(root, base), config: settings, seed: i }]);
    }
    const request = join(root, "request.json");
    writeFileSync(request, JSON.stringify({ ids, jobs: jobs.map(([, job]) => job) }));
    const lines = runPython("check_peft.py", [request]);
    for (const [i, [name]] of jobs.entries()) answers.set(name, JSON.parse(lines[i]));
  }, 300_000);

  afterAll(() => {
    if (root) rmSync(root, { recursive: true, force: true });
  });

  it.each(ours)("opens $name and computes the same; so does the merged model", ({ name }) => {
    const own = computed.get(name) as Float32Array;
    const answer = answers.get(name) as Answer;
    expectClose(own, flat(answer.logits), 1e-5, 1e-6, "adapter");
    expectClose(flat((answers.get(`${name}-merged`) as Answer).logits), flat(answer.logits), 1e-5, 1e-6, "merged");
  });

  it.each(ours.filter(({ lora }) => lora.dora))("$name has PEFT's loss and gradients", async ({ name, base }) => {
    const files = await diskFiles();
    const under = await loadCausalLM(files, join(root, base));
    const adapter = await readAdapterFolder(files, join(root, name));
    const model = await openAdapter(files, adapter as NonNullable<typeof adapter>, under, "lm");
    model.store.trainable();
    const loss = scope(() => {
      const sequences = ids
        .filter(({ length }) => length > 1)
        .map((own) => ({ ids: Uint32Array.from(own), promptLength: 0 }));
      const { ids: packed, packing, starts } = pack(sequences);
      const { rows, targets } = predictions(sequences, starts);
      const loss = scale(sum(model.logProbs(packed, packing, rows, targets).logProbs), -1);
      backward(loss);
      return loss;
    });
    const answer = answers.get(`${name}-train`) as unknown as { loss: number; gradients: Record<string, number[]> };
    expectClose(await loss.read(), [answer.loss], 1e-5, 0, "loss");
    for (const parameter of model.store.parameters) {
      const grad = (await parameter.value.grad?.read()) as Float32Array<ArrayBuffer>;
      parameter.value.write(grad);
    }
    const written = parseSafetensors((await adapterFiles(model))["adapter_model.safetensors"] as Uint8Array, name);
    expect([...written.names].sort()).toEqual(Object.keys(answer.gradients).sort());
    for (const tensor of written.names) {
      expectClose(written.get(tensor).data, answer.gradients[tensor], 2e-5, 2e-6, tensor);
    }
    model.withBase(under).destroy();
  });

  it.each(theirs)("writes $name, which opens, computes the same and merges here", async ({ name, base, config }) => {
    const files = await diskFiles();
    const scorer = config.task_type === "SEQ_CLS";
    const under = await (scorer ? loadScoreModel : loadCausalLM)(files, join(root, base));
    const adapter = await readAdapterFolder(files, join(root, name));
    expect(adapter?.basePath).toBe(join(root, base));
    const model = await openAdapter(files, adapter!, under, scorer ? "score" : "lm");
    const answer = answers.get(name) as Answer;
    expectClose(await logitsOf(model, ids), flat(answer.logits), 1e-5, 1e-6, "adapter");
    const merged = mergeAdapter(model, under);
    expectClose(await logitsOf(merged as CausalLM, ids), flat(answer.merged), 1e-5, 1e-6, "merged");
    model.withBase(under).destroy();
  });
});

const flat = (logits: Answer["logits"]): number[] => (logits as number[][][]).flat(2);

/** Weights large enough to make every part of the model matter, biases and norms included. */
function randomize(model: Model, seed: number): void {
  for (const [i, { value, init }] of model.store.parameters.entries()) {
    const centre = "constant" in init ? init.constant : 0;
    value.write(Float32Array.from({ length: value.size }, (_, k) => centre + 0.25 * normal(seed, i, k)));
  }
}
