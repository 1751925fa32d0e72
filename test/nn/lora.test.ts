/** Adapters against PEFT in float64: files both ways, logits, gradients, training; and what adapters promise about their base. */
import { beforeAll, describe, expect, it } from "vitest";
import {
  backward,
  caps,
  memoryFiles,
  mul,
  noGrad,
  packing,
  parseSafetensors,
  scale,
  scope,
  sum,
  type Tensor,
  tensor,
  writeSafetensors,
} from "webrlhf";
import {
  AdamW,
  type Adapter,
  adapterFiles,
  CausalLM,
  type LoraOptions,
  type Model,
  openAdapter,
  readAdapterFolder,
  ScoreModel,
  withDropout,
} from "webrlhf/nn";
import { ADAPTER_CONFIG, ADAPTER_WEIGHTS } from "../../src/nn/peft.ts";
import { type FixtureArray, values } from "../fixture.ts";
import fixture from "../fixtures/lora.json" with { type: "json" };
import gpt2 from "../fixtures/models-gpt2.json" with { type: "json" };
import llama from "../fixtures/models-llama.json" with { type: "json" };
import llamaScore from "../fixtures/models-llama-score.json" with { type: "json" };
import llamaTied from "../fixtures/models-llama-tied.json" with { type: "json" };
import { expectClose, gpuReady } from "../helpers.ts";
import { keeper } from "../keep.ts";
import { openLM, openScorer, type ReferenceModel } from "./reference-model.ts";

beforeAll(gpuReady);

interface Case {
  name: string;
  base: string;
  adapterConfig: Record<string, unknown>;
  tensors: Record<string, FixtureArray>;
  ids: number[][];
  logits: FixtureArray[];
  loss: number;
  gradients: Record<string, FixtureArray>;
  optimizer: { learningRate: number; weightDecay: number; maxGradNorm: number; steps: number };
  losses: number[];
  trained: Record<string, FixtureArray>;
}

const cases = fixture.cases as unknown as Case[];
const bases: Record<string, unknown> = {
  "models-gpt2.json": gpt2,
  "models-llama.json": llama,
  "models-llama-tied.json": llamaTied,
  "models-llama-score.json": llamaScore,
};

const keep = keeper();

async function openBase(fixture: string): Promise<CausalLM | ScoreModel> {
  const reference = bases[fixture] as ReferenceModel;
  return keep(await (fixture.includes("score") ? openScorer(reference) : openLM(reference)));
}

/** A folder in memory as PEFT writes it. */
async function folder({ adapterConfig, tensors }: Pick<Case, "adapterConfig" | "tensors">) {
  const files = memoryFiles();
  const all = Object.entries(tensors).map(([name, a]) => [name, { shape: a.shape, data: values(a) as Float32Array }]);
  await files.writeFolder("adapter", {
    [ADAPTER_CONFIG]: JSON.stringify(adapterConfig),
    [ADAPTER_WEIGHTS]: writeSafetensors(Object.fromEntries(all)),
  });
  return files;
}

async function openCase(c: Case, base: Model): Promise<CausalLM | ScoreModel> {
  const files = await folder(c);
  const read = await readAdapterFolder(files, "adapter");
  if (!read) throw new Error("no adapter");
  return keep(await openAdapter(files, read, base, base instanceof ScoreModel ? "score" : "lm"));
}

function batchOf(sequences: number[][]) {
  const host = Uint32Array.from(sequences.flat());
  const packed = packing(sequences.map((s) => s.length));
  return { ids: { gpu: tensor(host), host }, packed };
}

/** As the generator computes it: minus the mean log-probability, or the weighted sum of scores. */
function lossOf(model: CausalLM | ScoreModel, sequences: number[][]): Tensor {
  const { ids, packed } = batchOf(sequences);
  if (model instanceof ScoreModel) {
    const ends = Uint32Array.from(sequences, (s, i) => packed.starts[i] + s.length - 1);
    return sum(mul(model.scores(ids, packed, ends), tensor([1, -0.5, 0.75])));
  }
  const rows = Uint32Array.from(sequences.flatMap((s, i) => s.slice(1).map((_, t) => packed.starts[i] + t)));
  const targets = Uint32Array.from(sequences.flatMap((s) => s.slice(1)));
  return scale(sum(model.logProbs(ids, packed, rows, targets).logProbs), -1 / rows.length);
}

async function logitsOf(model: CausalLM | ScoreModel, sequences: number[][]): Promise<Float32Array> {
  const out = scope(() =>
    noGrad(() => {
      const { ids, packed } = batchOf(sequences);
      if (model instanceof CausalLM) return model.logits(model.decoder.forward(ids, { packing: packed }));
      return model.scores(
        ids,
        packed,
        Uint32Array.from(sequences, (s, i) => packed.starts[i] + s.length - 1),
      );
    }),
  );
  const read = await out.read();
  out.free("the test");
  return read;
}

const joined = (arrays: FixtureArray[]) => arrays.flatMap((a) => [...values(a)]);

/** The adapter's tensors as its file holds them. */
async function written(model: Model): Promise<Record<string, { shape: number[]; data: Float32Array }>> {
  const files = await adapterFiles(model);
  const parsed = parseSafetensors(files[ADAPTER_WEIGHTS] as Uint8Array, "written");
  return Object.fromEntries(
    parsed.names.map((name) => {
      const { shape, data } = parsed.get(name);
      return [name, { shape: [...shape], data }];
    }),
  );
}

/** Gradients under the names of the file: the values are replaced by the gradients, and then written. */
async function gradients(model: Model) {
  const grads = await Promise.all(model.store.parameters.map((p) => (p.value.grad as Tensor).read()));
  model.store.parameters.forEach((p, i) => {
    p.value.write(grads[i]);
  });
  return written(model);
}

describe.each(cases.map((c): [string, Case] => [`${c.base} with ${c.name}`, c]))("%s as PEFT computes it", (_, c) => {
  it("logits", async () => {
    const model = await openCase(c, await openBase(c.base));
    expectClose(await logitsOf(model, c.ids), joined(c.logits), 1e-5, 1e-6, "logits");
  });

  it("loss and every gradient", async () => {
    const base = await openBase(c.base);
    const model = await openCase(c, base);
    model.store.trainable();
    const loss = scope(() => {
      const found = lossOf(model, c.ids);
      backward(found);
      return found;
    });
    expectClose(await loss.read(), [c.loss], 1e-5);
    loss.free("the test");
    const found = await gradients(model);
    expect(Object.keys(found).sort()).toEqual(Object.keys(c.gradients).sort());
    for (const [name, { data }] of Object.entries(found)) {
      expectClose(data, values(c.gradients[name]), 2e-5, 1e-6, name);
    }
    expect(base.store.gradients).toBeNull();
  });

  it("three steps of AdamW, which leave the base as it was", async () => {
    const base = await openBase(c.base);
    const before = await base.store.read();
    const model = await openCase(c, base);
    const { learningRate, weightDecay, maxGradNorm, steps } = c.optimizer;
    const optimizer = new AdamW(model.store, { weightDecay, maxGradNorm });
    for (let step = 0; step < steps; step++) {
      const loss = scope(() => {
        const found = lossOf(model, c.ids);
        backward(found);
        optimizer.step(learningRate);
        return found;
      });
      expectClose(await loss.read(), [c.losses[step]], 1e-4);
      loss.free("the test");
    }
    optimizer.destroy();
    for (const [name, { data }] of Object.entries(await written(model))) {
      expectClose(data, values(c.trained[name]), 2e-4, 1e-6, name);
    }
    expect(await base.store.read()).toEqual(before);
  });

  it("writes what it read", async () => {
    const base = await openBase(c.base);
    const model = await openCase(c, base);
    const found = await written(model);
    expect(Object.keys(found).sort()).toEqual(Object.keys(c.tensors).sort());
    for (const [name, { shape, data }] of Object.entries(found)) {
      expect(shape).toEqual(c.tensors[name].shape);
      expect([...data]).toEqual([...(values(c.tensors[name]) as Float32Array)]);
    }
    const files = memoryFiles();
    await files.writeFolder("again", await adapterFiles(model));
    const again = await readAdapterFolder(files, "again");
    const reopened = keep(await openAdapter(files, again!, base, base instanceof ScoreModel ? "score" : "lm"));
    expect(await logitsOf(reopened, c.ids)).toEqual(await logitsOf(model, c.ids));
  });

  it("merged into the base and taken out again", async () => {
    const base = await openBase(c.base);
    const plain = await logitsOf(base, c.ids);
    const weights = await base.store.read();
    const model = await openCase(c, base);
    const adapted = await logitsOf(model, c.ids);
    (model.adapter as Adapter).merge();
    expectClose(await logitsOf(model, c.ids), adapted, 1e-5, 1e-6, "merged");
    (model.adapter as Adapter).unmerge();
    for (const [name, data] of await base.store.read()) {
      expectClose(data, weights.get(name) as Float32Array, 3e-7, 1e-7, name);
    }
    expectClose(await logitsOf(base, c.ids), plain, 1e-5, 1e-6, "unmerged");
  });
});

const lora = (more: Partial<LoraOptions> = {}): LoraOptions => ({ rank: 4, alpha: 8, targets: "all-linear", ...more });
const sequences = [
  [3, 5, 7, 9, 11],
  [4, 6, 8],
];

describe("an adapter on a shared base", () => {
  it.each(["models-llama.json", "models-llama-tied.json", "models-gpt2.json"])(
    "starts as the base, bit for bit where both have the same kernels (%s)",
    async (name) => {
      const base = (await openBase(name)) as CausalLM;
      const wholes = name.includes("gpt2") ? ["wte", "lm_head"] : ["embed_tokens", "lm_head", "norm"];
      const on = keep(new CausalLM({ base, lora: lora({ dropout: 0.5, modulesToSave: wholes }) }).initialize(7));
      const plain = await logitsOf(base, sequences);
      const started = await logitsOf(on, sequences);
      // A GPU norms few rows as it multiplies them, but for a layer with an adapter.
      if (caps().kind === "hardware") expectClose(started, plain, 1e-6, 1e-5);
      else expect(started).toEqual(plain);
      const low = on.store.parameters.filter((p) => p.name.endsWith("lora_A"));
      const drawn = await low[0].value.read();
      const bound = 1 / Math.sqrt(low[0].shape[1]);
      expect(Math.max(...drawn.map(Math.abs))).toBeLessThanOrEqual(bound);
      expect(Math.max(...drawn.map(Math.abs))).toBeGreaterThan(0.8 * bound);
    },
  );

  it("keeps actor, critic and reward model apart, and the base is the reference", async () => {
    const base = (await openBase("models-llama.json")) as CausalLM;
    const plain = await logitsOf(base, sequences);
    const actor = keep(new CausalLM({ base, lora: lora({ targets: ["q_proj", "v_proj"] }) }, "actor").initialize(1));
    const critic = keep(new ScoreModel({ base, lora: lora() }, "critic").initialize(2));
    const judge = keep(new ScoreModel({ base, lora: lora({ targets: ["down_proj"] }) }, "reward model").initialize(3));
    const judged = await logitsOf(judge, sequences);
    const optimizers = [actor, critic].map((m) => new AdamW(m.store));
    for (let step = 0; step < 2; step++) {
      scope(() => {
        backward(lossOf(actor, sequences));
        const { ids, packed } = batchOf(sequences);
        backward(sum(critic.scores(ids, packed, Uint32Array.of(0, 6))));
        for (const optimizer of optimizers) optimizer.step(1e-2);
      });
    }
    expect(await logitsOf(actor, sequences)).not.toEqual(plain);
    expect(await logitsOf(base, sequences)).toEqual(plain);
    expect(await logitsOf(judge, sequences)).toEqual(judged);
    for (const optimizer of optimizers) optimizer.destroy();
  });

  it("takes the memory of its own parameters only", async () => {
    const base = (await openBase("models-llama.json")) as CausalLM;
    const { layers, hiddenSize, heads, kvHeads, headDim } = base.config;
    const on = keep(new CausalLM({ base, lora: lora({ rank: 3, targets: ["q_proj", "k_proj"] }) }));
    const columns = (heads + kvHeads) * headDim;
    expect(on.store.count).toBe(layers * 3 * (2 * hiddenSize + columns));
    on.store.trainable();
    expect(base.store.gradients).toBeNull();
    expect(base.store.parameters.every((p) => !p.value.requiresGrad)).toBe(true);
    const bytes = on.store.gradients!.reduce((n, g) => n + g.size, 0);
    expect(bytes).toBe(on.store.chunks.reduce((n, c) => n + c.size, 0) * 4);
    expect(bytes).toBeLessThan(on.store.count * 4 + 256 * on.store.parameters.length);
  });

  it("drops out in training only, by seed, step and pass", async () => {
    const base = (await openBase("models-llama.json")) as CausalLM;
    const on = keep(new CausalLM({ base, lora: lora({ dropout: 0.5 }) }).initialize(1));
    for (const p of on.store.parameters) {
      p.value.write(Float32Array.from({ length: p.size }, (_, i) => Math.sin(i) / 10));
    }
    const train = async (key: { seed: number; step: number; pass: number } | null) => {
      const loss = withDropout(key, () => scope(() => noGrad(() => lossOf(on, sequences))));
      const [value] = await loss.read();
      loss.free("the test");
      return value;
    };
    const key = { seed: 1, step: 2, pass: 3 };
    const [off, first] = [await train(null), await train(key)];
    expect(await train(key)).toBe(first);
    expect(first).not.toBe(off);
    expect(await train({ ...key, seed: 2 })).not.toBe(first);
    expect(await train({ ...key, step: 3 })).not.toBe(first);
    expect(await train({ ...key, pass: 4 })).not.toBe(first);
    expect(await train(null)).toBe(off);
  });

  it("makes a scorer of a language model's adapter", async () => {
    const base = (await openBase("models-llama.json")) as CausalLM;
    const files = await folder(cases[0]);
    const read = await readAdapterFolder(files, "adapter");
    const scorer = keep(await openAdapter(files, read!, base, "score", { seed: 5 }));
    expect((await scorer.score.value.read()).some((v) => v !== 0)).toBe(true);
    const config = JSON.parse((await adapterFiles(scorer))[ADAPTER_CONFIG] as string);
    expect([config.task_type, config.modules_to_save]).toEqual(["SEQ_CLS", ["score"]]);
  });
});

describe("what does not fit is refused by name", () => {
  const refuse = async (
    change: (c: { adapterConfig: Record<string, unknown>; tensors: Case["tensors"] }) => void,
    kind: "lm" | "score" = "lm",
  ) => {
    const base = await openBase("models-llama.json");
    const copy = structuredClone({ adapterConfig: cases[0].adapterConfig, tensors: cases[0].tensors });
    change(copy);
    const files = await folder(copy);
    const open = async () => {
      const read = await readAdapterFolder(files, "adapter");
      keep(await openAdapter(files, read!, base, kind));
    };
    return open().then(
      () => "",
      (error: Error) => error.message,
    );
  };
  const first = Object.keys(cases[0].tensors)[0];

  it.each([
    ["use_qalora", true, "adapter_config.json: use_qalora = true is not supported"],
    ["peft_type", "LOHA", 'peft_type = "LOHA" is not supported; LORA is'],
    ["task_type", "SEQ_2_SEQ_LM", "task_type"],
    ["bias", "all", 'bias = "all" is not supported'],
    ["init_lora_weights", "pissa", 'init_lora_weights = "pissa" is not supported'],
    ["layer_replication", [[0, 1]], "layer_replication = [[0,1]] is not supported"],
    ["a_field_of_tomorrow", { x: 1 }, "a_field_of_tomorrow"],
    ["r", "8", 'r = "8" must be a number'],
    ["lora_alpha", null, ""],
    ["alpha_pattern", { ".*q_proj": 3 }, "alpha_pattern"],
    ["target_modules", [3], "target_modules = [3] must be a list of names"],
  ])("%s = %j", async (field, value, message) => {
    expect(
      await refuse((c) => {
        c.adapterConfig[field] = value;
      }),
    ).toContain(message);
  });

  it("tensors that are missing, misshapen or foreign", async () => {
    const where = "adapter/adapter_model.safetensors: tensor";
    expect(await refuse((c) => void delete c.tensors[first])).toBe(`${where} ${first} is missing`);
    expect(
      await refuse((c) => {
        c.tensors[first] = { shape: [3, 7], data: Array(21).fill(0) };
      }),
    ).toBe(`${where} ${first} has shape [3,7], but the base model asks for [3,24]`);
    for (const name of [
      "base_model.model.model.layers.7.self_attn.q_proj.lora_A.weight",
      "x",
      "base_model.model.x.weight",
    ]) {
      expect(
        await refuse((c) => {
          c.tensors[name] = { shape: [1], data: [0] };
        }),
      ).toBe(`${where} ${name} does not belong to an adapter of this llama model`);
    }
    expect(
      await refuse((c) => {
        c.tensors["base_model.model.model.embed_tokens.lora_embedding_A"] = { shape: [1], data: [0] };
      }),
    ).toContain("low-rank adapters of embeddings are not supported");
  });

  it("names of modules that do not exist, a scorer where a language model belongs", async () => {
    const base = (await openBase("models-llama.json")) as CausalLM;
    expect(() => new CausalLM({ base, lora: lora({ targets: ["c_attn"] }) })).toThrow(
      'no linear layer of this llama model is called "c_attn"; its layers are q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj (or all-linear)',
    );
    expect(() => new CausalLM({ base, lora: lora({ modulesToSave: ["wte"] }) })).toThrow('called "wte"');
    expect(() => new CausalLM({ base, lora: lora({ modulesToSave: ["v_proj"] }) })).toThrow("shares its matrix");
    const scorer = cases.find((c) => c.base.includes("score"))!;
    expect(
      await refuse((c) => {
        c.adapterConfig = scorer.adapterConfig;
      }),
    ).toBe("adapter holds a reward model's adapter, not a language model's");
  });
});
