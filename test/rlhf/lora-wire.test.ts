/** Trainers whose adapter is handed over in fewer bits: the rounded policy draws, and learning knows it. */
import { afterEach, beforeAll, describe, expect, it } from "vitest";
import { memoryFiles, openDevice } from "webrlhf";
import { adapterFiles, CausalLM, openAdapter, readAdapterFolder } from "webrlhf/nn";
import { localSource, type Response, type RolloutSource, runJob, trainGrpo, trainPpo } from "webrlhf/rlhf";
import { roundedAdapter } from "../../src/nn/adapter-wire.ts";
import { collect, metricsOf, prompts, tinyConfig, tokenizer } from "./tiny.ts";

beforeAll(() => openDevice());

const models: CausalLM[] = [];
const kept = <M extends CausalLM>(model: M): M => {
  models.push(model);
  return model;
};
const newPolicy = () => {
  const base = kept(new CausalLM(tinyConfig()).initialize(5));
  return kept(new CausalLM({ base, lora: { rank: 4, alpha: 8, targets: "all-linear" } }).initialize(6));
};
afterEach(() => {
  for (const model of models.splice(0).reverse()) model.destroy();
});

const rewards = async (responses: readonly Response[]) =>
  responses.map(({ text, ids }) => [...text].filter((letter) => letter === "a").length + ids.length / 100);
const common = {
  learningRate: 2e-2,
  responseLength: 5,
  perDeviceTrainBatchSize: 6,
  seed: 3,
  saveMinutes: 0,
  maxSteps: 4,
};

type Settings = Record<string, unknown>;
type Train = (policy: CausalLM, more: Settings, source?: RolloutSource) => ReturnType<typeof trainGrpo>;
const trainers: Record<string, Train> = {
  grpo: (policy, more, source) =>
    trainGrpo({ policy, tokenizer, rewards, source }, prompts(8), {
      ...common,
      numGenerations: 3,
      generationBatchSize: 12,
      ...more,
    } as object),
  ppo: (policy, more, source) =>
    trainPpo({ policy, tokenizer, rewards, source }, prompts(8), {
      ...common,
      rolloutBatchSize: 6,
      klCoef: 0.05,
      ...more,
    } as object),
};

describe.each(Object.keys(trainers))("%s", (name) => {
  const run = async (more: Settings) => metricsOf(await collect(trainers[name](newPolicy(), more)));

  it.each(["f16", "int8"] as const)(
    "draws with the adapter in %s, and takes ratios from that",
    async (wire) => {
      const policy = newPolicy();
      const inner = localSource();
      let drawing: CausalLM | null = null;
      let rounded = 0;
      const source: RolloutSource = {
        ...inner,
        async publish(version, model) {
          const own = await adapterFiles(policy);
          expect(await adapterFiles(model)).toEqual(roundedAdapter(own, wire));
          if (version > 0) expect(await adapterFiles(model)).not.toEqual(own);
          drawing = model;
          rounded += 1;
          await inner.publish(version, model);
        },
        async request(iteration, jobs, options) {
          await inner.request(iteration, jobs, options);
          // What is drawn, with its log-probabilities, is what another process makes of the bytes.
          const files = memoryFiles();
          await files.writeFolder("m", roundedAdapter(await adapterFiles(policy), wire));
          const folder = await readAdapterFolder(files, "m");
          const other = await openAdapter(files, folder!, policy.baseModel!, "lm");
          const results = await inner.take(iteration);
          for (const [i, job] of jobs.entries()) expect(await runJob(other, job)).toEqual(results[i]);
          other.destroy();
          await inner.request(iteration, jobs);
        },
      };
      const found = metricsOf(await collect(trainers[name](policy, { loraWire: wire }, source)));
      expect(drawing).not.toBe(policy);
      expect(rounded).toBe(4);
      expect(found).toEqual(await run({ loraWire: wire }));
      const differences = found.map((metrics) => metrics.sampling_logp_difference);
      for (const difference of differences.slice(1)) expect(difference).toBeGreaterThan(0);
      // Told outright, and told otherwise.
      expect(await run({ loraWire: wire, importanceSamplingCorrection: "behaviour" })).toEqual(found);
      expect(await run({ loraWire: wire, importanceSamplingCorrection: "none" })).not.toEqual(found);
    },
    60_000,
  );

  it("is what it was in f32", async () => {
    const found = await run({});
    expect(await run({ loraWire: "f32" })).toEqual(found);
    for (const metrics of found) expect(metrics).not.toHaveProperty("sampling_logp_difference");
  });
});

it("refuses to round a policy that has no adapter, and functions that draw", async () => {
  const whole = kept(new CausalLM(tinyConfig()).initialize(5));
  await expect(collect(trainers.grpo(whole, { loraWire: "int8" }))).rejects.toThrow(
    /loraWire int8 rounds an adapter, and the policy is trained whole/,
  );
  const models = { policy: newPolicy(), tokenizer, rewards, sampler: async () => [] };
  await expect(
    collect(trainGrpo(models, prompts(8), { ...common, numGenerations: 3, loraWire: "f16" } as object)),
  ).rejects.toThrow(/loraWire f16: a sampler that is a function is handed no adapter/);
});
