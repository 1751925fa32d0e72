import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { diskFiles, parseSafetensors, scope } from "webrlhf";
import { AdamW, adapterFiles, CausalLM, generate } from "webrlhf/nn";
import { sftStep } from "../../src/rlhf/sft.ts";
import { type Datum, datum, type TinyTraining, TrainingClient, tinyTraining } from "./training-client.ts";

let tiny: TinyTraining;
let client: TrainingClient;
beforeAll(async () => {
  tiny = await tinyTraining({ maxTrainModels: 64 });
  client = await new TrainingClient(tiny.server.url).open();
});
afterAll(() => tiny.stop());

const adam = { learning_rate: 1e-2, beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1, grad_clip_norm: 1 };
const sequences = [
  [40, 41, 42, 43, 44, 45, 46],
  [50, 51, 52, 53, 54],
];

/** The tensors of saved weights, by the path that clients know them by. */
async function tensorsAt(path: unknown): Promise<Record<string, Float32Array>> {
  const [run, kind, name] = String(path).slice("tinker://".length).split("/");
  const file = join(tiny.folder, run.replaceAll(":", "-"), kind, name, "adapter_model.safetensors");
  return tensorsOf((await (await diskFiles()).read(file)) as Uint8Array);
}

function tensorsOf(bytes: Uint8Array): Record<string, Float32Array> {
  const read = parseSafetensors(bytes, "adapter_model.safetensors");
  return Object.fromEntries(read.names.map((name) => [name, read.get(name).data]));
}

let saved = 0;
async function weightsOf(model: string): Promise<Record<string, Float32Array>> {
  const { path } = await client.ordered("save_weights_for_sampler", model, { path: `look-${saved++}` });
  return tensorsAt(path);
}

function expectClose(a: Record<string, Float32Array>, b: Record<string, Float32Array>, most: number): void {
  expect(Object.keys(a)).toEqual(Object.keys(b));
  for (const [name, values] of Object.entries(a)) {
    const worst = values.reduce((found, value, i) => Math.max(found, Math.abs(value - b[name][i])), 0);
    expect(worst, name).toBeLessThanOrEqual(most);
  }
}

describe("cross_entropy", () => {
  it("with optim_step is the library's own step of supervised fine-tuning", async () => {
    const model = await client.createModel({ rank: 4, seed: 5 });
    const lora = { rank: 4, alpha: 32, targets: "all-linear" as const };
    const own = new CausalLM({ base: tiny.base, lora }).initialize(5);
    const optimizer = new AdamW(own.store, { betas: [0.9, 0.95], eps: 1e-8, weightDecay: 0.1, maxGradNorm: 1 });
    const promptLength = 2;
    const learned = sequences.reduce((sum, ids) => sum + ids.length - promptLength, 0);
    const data = sequences.map((ids) =>
      datum(ids, { weights: ids.slice(1).map((_, i) => (i + 1 < promptLength ? 0 : 1 / learned)) }),
    );
    for (let step = 0; step < 3; step++) {
      const { loss, logProbs } = await client.pass(model, { loss_fn: "cross_entropy", data });
      const nll = logProbs.flat().reduce((sum, p, i) => sum - p * data.flatMap((d) => d.inputs.weights)[i], 0);
      expect(loss).toBeCloseTo(nll, 5);
      await client.step(model, adam);
      const batch = sequences.map((ids) => ({ ids: Uint32Array.from(ids), promptLength }));
      scope(() => sftStep(own, optimizer, [batch], adam.learning_rate));
    }
    const expected = tensorsOf((await adapterFiles(own))["adapter_model.safetensors"] as Uint8Array);
    expectClose(await weightsOf(model), expected, 1e-6);
    optimizer.destroy();
    own.destroy();
  });

  it("adds up over passes, whatever is sent together", async () => {
    const [together, apart] = [await client.createModel(), await client.createModel()];
    const data = sequences.map((ids) => datum(ids, { weights: ids.slice(1).map(() => 0.5) }));
    await client.pass(together, { loss_fn: "cross_entropy", data });
    for (const one of data) await client.pass(apart, { loss_fn: "cross_entropy", data: [one] });
    for (const model of [together, apart]) await client.step(model, adam);
    expectClose(await weightsOf(together), await weightsOf(apart), 1e-6);
  });

  it("forward alone leaves no gradient", async () => {
    const model = await client.createModel();
    const before = await weightsOf(model);
    const data = [datum(sequences[0], { weights: sequences[0].slice(1).map(() => 1) })];
    await client.pass(model, { loss_fn: "cross_entropy", data, forwardOnly: true });
    await client.step(model, { ...adam, weight_decay: 0 });
    expect(await weightsOf(model)).toEqual(before);
  });
});

/** What each loss says of one token, and its derivative by the token's log-probability, in float64. */
const clip = (x: number, low: number, high: number) => Math.min(Math.max(x, low), high);
type Term = (p: number, q: number, a: number) => [loss: number, slope: number];
const terms: Record<string, { config?: Record<string, number>; term: Term }> = {
  importance_sampling: { term: (p, q, a) => [-Math.exp(p - q) * a, -Math.exp(p - q) * a] },
  ppo: {
    config: { clip_low_threshold: 0.9, clip_high_threshold: 1.3 },
    term(p, q, a) {
      const r = Math.exp(p - q);
      const bounded = clip(r, 0.9, 1.3);
      return [-Math.min(r * a, bounded * a), r * a <= bounded * a ? -r * a : 0];
    },
  },
  cispo: {
    term(p, q, a) {
      const weight = clip(Math.exp(p - q), 0.8, 1.2) * a;
      return [-weight * p, -weight];
    },
  },
  dro: { config: { beta: 0.3 }, term: (p, q, a) => [0.15 * (p - q) ** 2 - p * a, 0.3 * (p - q) - a] },
};

describe.each(Object.entries(terms))("%s", (loss_fn, { config, term }) => {
  it("has the loss and the gradient of its formula in float64", async () => {
    const [model, plain] = [await client.createModel(), await client.createModel()];
    const ones = sequences.map((ids) => datum(ids, { weights: ids.slice(1).map(() => 1) }));
    const { logProbs } = await client.pass(model, { loss_fn: "cross_entropy", data: ones, forwardOnly: true });
    // Behaviour policies on both sides of every threshold, and advantages of both signs.
    const moves = [-0.5, 0.05, 0.4, -0.05, 0.6, -0.3];
    const given = logProbs.map((of, s) => ({
      logprobs: of.map((p, t) => Math.fround(p - moves[(s + t) % moves.length])),
      advantages: of.map((_, t) => Math.fround((t + s) % 2 ? 1.5 : -0.7)),
    }));
    const data = sequences.map((ids, s): Datum => datum(ids, given[s]));
    const found = await client.pass(model, { loss_fn, data, config });
    expect(found.logProbs).toEqual(logProbs);
    const all = logProbs.flatMap((of, s) => of.map((p, t) => term(p, given[s].logprobs[t], given[s].advantages[t])));
    const sum = all.reduce((total, [loss]) => total + loss, 0);
    expect(Math.abs(found.loss - sum)).toBeLessThan(1e-4);
    // A sum of weighted log-probabilities with these slopes has the same gradient.
    let at = 0;
    const slopes = sequences.map((ids) => datum(ids, { weights: ids.slice(1).map(() => -all[at++][1]) }));
    await client.pass(plain, { loss_fn: "cross_entropy", data: slopes });
    for (const one of [model, plain]) await client.step(one, { ...adam, eps: 1e-3 });
    expectClose(await weightsOf(model), await weightsOf(plain), 1e-6);
  });
});

describe("saving and loading", () => {
  const learn = async (model: string) => {
    const data = sequences.map((ids) => datum(ids, { weights: ids.slice(1).map(() => 1) }));
    await client.pass(model, { loss_fn: "cross_entropy", data });
    await client.step(model, adam);
  };

  it("goes on from a saved state as if nothing had been between, bit for bit", async () => {
    const model = await client.createModel();
    await learn(model);
    await learn(model);
    const { path } = await client.ordered("save_weights", model, { path: "half-way" });
    await learn(model);
    const whole = await weightsOf(model);
    const resumed = await client.createFrom(String(path), true);
    await learn(resumed);
    expect(await weightsOf(resumed)).toEqual(whole);
    // The same into a model that is there, and without the optimizer's memory another way.
    await client.ordered("load_weights", model, { path, optimizer: true });
    await learn(model);
    expect(await weightsOf(model)).toEqual(whole);
    const fresh = await client.createFrom(String(path), false);
    await learn(fresh);
    expect(await weightsOf(fresh)).not.toEqual(whole);
  });

  it("lists what is saved, says what it is, and deletes it", async () => {
    const model = await client.createModel({ rank: 3, train_mlp: false }, { user_metadata: { renderer: "plain" } });
    const { path } = await client.ordered("save_weights", model, { path: "a.b-c_1", user_metadata: { step: "1" } });
    await client.ordered("save_weights_for_sampler", model, { path: "a", ttl_seconds: 3600 });
    await expect(client.ordered("save_weights", model, { path: "a.b-c_1" })).rejects.toThrow(
      /is there already.*overwrite/,
    );
    await client.ordered("save_weights", model, { path: "a.b-c_1", overwrite: true });
    const info = (await client.send("POST", "weights_info", { tinker_path: path })).json;
    expect(info).toMatchObject({
      base_model: "tiny",
      lora_rank: 3,
      train_attn: true,
      train_mlp: false,
      train_unembed: false,
    });
    const list = async () =>
      (await client.send("GET", `training_runs/${model}/checkpoints`)).json.checkpoints as Record<string, unknown>[];
    expect((await list()).map((one) => one.checkpoint_id).sort()).toEqual(["sampler_weights/a", "weights/a.b-c_1"]);
    const run = (await client.send("GET", `training_runs/${encodeURIComponent(model)}`)).json;
    expect(run).toMatchObject({ base_model: "tiny", lora_rank: 3, user_metadata: { renderer: "plain" } });
    expect((await client.send("DELETE", `training_runs/${model}/checkpoints/weights/a.b-c_1`)).status).toBe(200);
    expect((await list()).map((one) => one.checkpoint_id)).toEqual(["sampler_weights/a"]);
    await expect(client.createFrom(String(path), true)).rejects.toThrow(/no weights at/);
  });
});

describe("sampling", () => {
  const prompt = [40, 41, 42];

  const learn = async (model: string, ids: readonly number[]) => {
    const data = [datum(ids, { weights: ids.slice(1).map(() => 1) })];
    for (let step = 0; step < 4; step++) {
      await client.pass(model, { loss_fn: "cross_entropy", data });
      await client.step(model, { ...adam, learning_rate: 0.05 });
    }
  };
  const params = { max_tokens: 5, temperature: 0, stop: [] };

  it("draws from the weights of their time, with their log-probabilities", async () => {
    const model = await client.createModel();
    await learn(model, [40, 41, 42, 60, 61, 62]);
    const client7 = { sampling_session_seq_id: 7 };
    const { sampling_session_id: id } = await client.ordered("save_weights_for_sampler", model, client7);
    const live = String(id);
    const drawn = await client.sample(live, prompt, params, { num_samples: 2, prompt_logprobs: true });
    const [{ ids, logProbs }, second] = drawn.sequences;
    expect(ids).toHaveLength(5);
    expect(second.ids).toEqual(ids);
    const all = [...prompt, ...ids];
    const data = [datum(all, { weights: all.slice(1).map(() => 1) })];
    const measured = await client.pass(model, { loss_fn: "cross_entropy", data, forwardOnly: true });
    const given = [...(drawn.promptLogProbs as number[]).slice(1), ...(logProbs as number[])];
    for (const [i, p] of measured.logProbs[0].entries()) expect(given[i]).toBeCloseTo(p, 3);
    expect(drawn.promptLogProbs?.[0]).toBeNaN();
    const last = await client.sample(live, prompt, params, { prompt_logprobs: true, prompt_logprobs_last_n: 1 });
    expect(last.promptLogProbs?.slice(0, 2)).toEqual([Number.NaN, Number.NaN]);
    expect(last.promptLogProbs?.[2]).toBe(drawn.promptLogProbs?.[2]);
    // Neither what is learned later nor the adapter changes what others sample from.
    await learn(model, [40, 41, 42, 70, 71, 72]);
    expect((await client.sample(live, prompt, params)).sequences[0].ids).toEqual(ids);
    const base = await client.sampler({ base_model: "tiny" });
    const greedy = { maxNewTokens: 5, temperature: 0, seed: 1, ignoreEos: true };
    const [expected] = await generate(tiny.base, [Uint32Array.from(prompt)], greedy);
    const plain = (await client.sample(base, prompt, params)).sequences[0].ids;
    expect(plain).toEqual([...expected.ids]);
    expect(plain).not.toEqual(ids);
  });

  it("ends at ids and texts, which it gives back, and says so; seeds say what is drawn", async () => {
    const base = await client.sampler({ base_model: "tiny" });
    const drawing = { max_tokens: 12, temperature: 1, seed: 3 };
    const all = (await client.sample(base, prompt, { ...drawing, stop: [] })).sequences[0];
    expect(all).toMatchObject({ stopped: false });
    expect(all.ids).toHaveLength(12);
    expect((await client.sample(base, prompt, { ...drawing, stop: [] })).sequences[0]).toEqual(all);
    const at = all.ids.findIndex((id, i) => i > 1 && all.ids.indexOf(id) === i);
    const byId = (await client.sample(base, prompt, { ...drawing, stop: [all.ids[at]] })).sequences[0];
    expect(byId).toMatchObject({ ids: all.ids.slice(0, at + 1), stopped: true });
    const word = tiny.opened.model.token(all.ids[at]).text;
    const byText = (await client.sample(base, prompt, { ...drawing, stop: word })).sequences[0];
    expect(byText.stopped).toBe(true);
    expect(byText.ids).toEqual(all.ids.slice(0, byText.ids.length));
    expect(tiny.opened.model.decode(byText.ids)).toContain(word);
    const two = (await client.sample(base, prompt, drawing, { num_samples: 2 })).sequences;
    expect(two[0].ids).not.toEqual(two[1].ids);
  });

  it("draws from what is saved now under a name that was there before", async () => {
    const model = await client.createModel();
    const drawn = async (path: unknown) =>
      (await client.sample(await client.sampler({ model_path: path }), prompt, params)).sequences;
    const named = { path: "again" };
    const { path } = await client.ordered("save_weights_for_sampler", model, named);
    const { path: state } = await client.ordered("save_weights", model, named);
    const before = await drawn(path);
    expect(await drawn(state)).toEqual(before);
    await learn(model, [40, 41, 42, 70, 71, 72, 73]);
    await client.send("DELETE", `training_runs/${model}/checkpoints/sampler_weights/again`);
    await client.ordered("save_weights_for_sampler", model, named);
    await client.ordered("save_weights", model, { ...named, overwrite: true });
    const now = await drawn(path);
    expect(now).not.toEqual(before);
    expect(await drawn(state)).toEqual(now);
  });

  it("of kind inflight follows the weights that are saved later", async () => {
    const model = await client.createModel();
    const save = async (kind: string) => {
      const request = { sampling_session_seq_id: 1, kind };
      return String((await client.ordered("save_weights_for_sampler", model, request)).sampling_session_id);
    };
    const first = await save("inflight");
    const before = await client.sample(first, prompt, params);
    await learn(model, [40, 41, 42, 70, 71, 72, 73]);
    expect(await client.sample(first, prompt, params)).toEqual(before);
    const now = await client.sample(await save("snapshot"), prompt, params);
    expect(await client.sample(first, prompt, params)).toEqual(before);
    await save("inflight");
    expect(await client.sample(first, prompt, params)).toEqual(now);
    expect(now).not.toEqual(before);
  });
});
