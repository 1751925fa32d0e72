import { afterEach, beforeAll, describe, expect, it } from "vitest";
import { memoryFiles, openDevice } from "webrlhf";
import { CausalLM } from "webrlhf/nn";
import {
  type JobResult,
  localSource,
  type Response,
  type RolloutSource,
  type RunFolder,
  type RunOptions,
  runJob,
  type TrainEvent,
  trainGrpo,
  trainIteratively,
  trainPpo,
  trainRaft,
  trainReinforce,
  trainRloo,
} from "webrlhf/rlhf";
import { versionOf } from "../../src/rlhf/ahead.ts";
import { offPolicy } from "../../src/rlhf/off-policy.ts";
import { collect, metricsOf, prompts, tinyConfig, tokenizer } from "./tiny.ts";

beforeAll(() => openDevice());

const models: CausalLM[] = [];
const newPolicy = () => {
  const model = new CausalLM(tinyConfig()).initialize(5);
  models.push(model);
  return model;
};
afterEach(() => {
  for (const model of models.splice(0)) model.destroy();
});

/** Prefers texts with many of the letter a; no two of them are alike. */
const rewards = async (responses: readonly Response[]) =>
  responses.map(({ text, ids }) => [...text].filter((letter) => letter === "a").length + ids.length / 100);

const base = { learningRate: 5e-3, responseLength: 5, perDeviceTrainBatchSize: 6, seed: 3, saveMinutes: 0 };
const group = { ...base, maxSteps: 5, numGenerations: 3, generationBatchSize: 12 };

type Settings = Record<string, unknown>;
type Train = (more?: Settings, run?: RunOptions, source?: RolloutSource) => AsyncGenerator<TrainEvent>;
const trainers: Record<string, Train> = {
  grpo: (more, run, source) =>
    trainGrpo({ policy: newPolicy(), tokenizer, rewards, source }, prompts(8), { ...group, ...more } as object, run),
  rloo: (more, run, source) =>
    trainRloo({ policy: newPolicy(), tokenizer, rewards, source }, prompts(8), { ...group, ...more } as object, run),
  reinforce: (more, run, source) =>
    trainReinforce(
      { policy: newPolicy(), tokenizer, rewards, source },
      prompts(8),
      { ...group, ...more } as object,
      run,
    ),
  ppo: (more, run, source) =>
    trainPpo(
      { policy: newPolicy(), tokenizer, rewards, source },
      prompts(8),
      { ...base, maxSteps: 5, rolloutBatchSize: 6, klCoef: 0.05, ...more } as object,
      run,
    ),
  raft: (more, run, source) =>
    trainRaft(
      { policy: newPolicy(), tokenizer, rewards, source },
      prompts(8),
      { ...base, maxSteps: 4, raftBatchSize: 4, topRewardPercentage: 0.5, numTrainEpochs: 1, ...more } as object,
      run,
    ),
};
const names = Object.keys(trainers);

/** Numbers by step, without the times. */
const run = async (name: string, more: Settings = {}, options: RunOptions = {}, source?: RolloutSource) =>
  metricsOf(await collect(trainers[name](more, options, source)));

/** A source that holds copies of the policies it was given, and runs all jobs at the last moment, the last first. */
function lateSource(): RolloutSource & { versions: number[] } {
  const policies = new Map<number, CausalLM>();
  const requests = new Map<number, Parameters<RolloutSource["request"]>>();
  const versions: number[] = [];
  return {
    versions,
    async publish(version, model) {
      const copy = newPolicy();
      for (const [i, { value }] of copy.parameters().entries()) value.write(await model.parameters()[i].value.read());
      policies.set(version, copy);
      versions.push(version);
    },
    async request(...asked) {
      requests.set(asked[0], asked);
    },
    async take(iteration) {
      const [, jobs = [], options] = requests.get(iteration) ?? [];
      const results: JobResult[] = [];
      for (const job of [...jobs].reverse()) {
        results.unshift(await runJob(policies.get(job.version) as CausalLM, job));
        await options?.arrived?.(results[0]);
      }
      return results;
    },
  };
}

describe("which policy draws an iteration", () => {
  it("is the one that is as old as it may be, among those that are handed over", () => {
    const versions = (maxStaleness: number, weightSyncSteps = 1) =>
      Array.from({ length: 8 }, (_, i) => versionOf(i, { maxStaleness, weightSyncSteps }));
    expect(versions(0)).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    expect(versions(2)).toEqual([0, 0, 0, 1, 2, 3, 4, 5]);
    expect(versions(1, 2)).toEqual([0, 0, 2, 2, 4, 4, 6, 6]);
    expect(versions(3, 2)).toEqual([0, 0, 0, 0, 2, 2, 4, 4]);
  });
});

describe.each(names)("%s", (name) => {
  it("gives the same numbers however its sampling is cut, in whatever order and by whomever it is drawn", async () => {
    const plain = await run(name);
    expect(plain.length).toBeGreaterThan(3);
    expect(plain.some((metrics) => "staleness" in metrics)).toBe(false);
    expect(await run(name, { promptsPerJob: 1 })).toEqual(plain);
    expect(await run(name, { promptsPerJob: 3 }, {}, lateSource())).toEqual(plain);
  });

  it("draws with older policies, the same ones wherever it is drawn", async () => {
    const stale = { maxStaleness: 2 };
    const here = await run(name, stale);
    expect(here.map(({ staleness = 0 }) => staleness)).toEqual([0, 1, 2, 2, 2].slice(0, here.length));
    expect(here).not.toEqual(await run(name));
    const source = lateSource();
    expect(await run(name, { ...stale, promptsPerJob: 2 }, {}, source)).toEqual(here);
    expect(source.versions).toEqual([0, 1, 2].slice(0, here.length - 2));
    const rare = lateSource();
    const synced = await run(name, { maxStaleness: 1, weightSyncSteps: 2 }, {}, rare);
    expect(synced.map(({ staleness = 0 }) => staleness)).toEqual([0, 1, 0, 1, 0].slice(0, here.length));
    expect(rare.versions).toEqual([0, 2, 4].slice(0, Math.ceil(here.length / 2)));
  });

  it("goes on from a checkpoint to the same numbers", async () => {
    const more = { maxStaleness: 2, saveSteps: 1 };
    const whole = await run(name, more);
    const folder = { files: memoryFiles(), path: "out" };
    const stop = new AbortController();
    const first: TrainEvent[] = [];
    for await (const event of trainers[name](more, { folder, signal: stop.signal })) {
      first.push(event);
      if (event.type === "step" && event.step === 2) stop.abort();
    }
    const rest = await run(name, more, { folder, resume: true });
    expect([...metricsOf(first), ...rest]).toEqual(whole);
    expect(metricsOf(first)).toHaveLength(2);
  });

  it("refuses what cannot be", async () => {
    await expect(run(name, { maxStaleness: 1, weightSyncSteps: 3 })).rejects.toThrow(/maxStaleness to at least that/);
    await expect(run(name, { weightSyncSteps: 2 })).rejects.toThrow(/weightSyncSteps/);
  });
});

describe("iterate", () => {
  const settings = {
    ...{ iterations: 3, promptsPerIteration: 4, numGenerations: 3, responseLength: 5, seed: 3, saveMinutes: 0 },
    ...{ perDeviceTrainBatchSize: 2, numTrainEpochs: 1, learningRate: 5e-3 },
  };
  type Options = Partial<RunOptions> & { source?: RolloutSource };
  const begin = (more: Settings, folder: RunFolder, { source, ...options }: Options = {}) =>
    trainIteratively(
      { policy: newPolicy(), tokenizer, rewards, source },
      prompts(12),
      { ...settings, ...more } as object,
      {
        ...options,
        folder,
      },
    );
  const newFolder = () => ({ files: memoryFiles(), path: "out" });
  const evaluations = (events: readonly TrainEvent[]) =>
    events.flatMap((event) => (event.type === "eval" ? [event.metrics] : []));
  const numbers = async (more: Settings, options?: Options) =>
    evaluations(await collect(begin(more, newFolder(), options)));

  it("gives the same numbers however its sampling is cut, and by whomever it is drawn", async () => {
    const plain = await numbers({});
    expect(plain.map(({ pairs }) => pairs)).toEqual([undefined, 3, 4, 4]);
    expect(await numbers({ promptsPerJob: 1 })).toEqual(plain);
    expect(await numbers({ promptsPerJob: 3 }, { source: lateSource() })).toEqual(plain);
  });

  it("draws with older policies, and goes on to the same end although what was drawn ahead is lost", async () => {
    const stale = { maxStaleness: 1 };
    const whole = await numbers(stale);
    expect(whole.map(({ staleness }) => staleness)).toEqual([undefined, 0, 1, 1]);
    expect(whole).not.toEqual(await numbers({}));
    expect(await numbers(stale, { source: lateSource() })).toEqual(whole);
    const folder = newFolder();
    const stop = new AbortController();
    for await (const event of begin(stale, folder, { signal: stop.signal })) {
      if (event.type === "eval" && event.metrics.iteration === 2) stop.abort();
    }
    expect(await folder.files.read("out/iteration_3/metrics.json")).toBeNull();
    await folder.files.remove("out/iteration_3/responses.jsonl"); // drawn by the policy after iteration 1
    expect(evaluations(await collect(begin(stale, folder, { resume: true })))).toEqual(whole);
  });
});

describe("responses of another policy", () => {
  const response = (logProbs?: number[]) =>
    ({
      ...{ ids: Uint32Array.of(1, 2, 3), promptLength: 1, prompt: 0, sample: 0, promptText: "", text: "", ended: true },
      ...{ version: 1, ...(logProbs && { logProbs: Float32Array.from(logProbs) }) },
    }) as Response;
  const own = [Float32Array.of(-1, -2)];
  const settings = { importanceSamplingCorrection: "behaviour", importanceSamplingCap: 1.5 } as const;

  it("are taken by how probable they were to whom drew them", () => {
    const found = offPolicy([response([-1.5, -1.75])], own, 3, settings, "token");
    expect(found.oldLogProbs).toEqual([Float32Array.of(-1.5, -1.75)]);
    expect(found.importance).toBeNull();
    expect(found.metrics).toEqual({ staleness: 2, sampling_logp_difference: 0.375 });
  });

  it("or with truncated weights, of tokens or of whole responses", () => {
    const weights = (level: "token" | "sequence" | "product") =>
      offPolicy([response([-1.5, -1.75])], own, 3, { ...settings, importanceSamplingCorrection: "truncated" }, level);
    const { oldLogProbs, importance, metrics } = weights("token");
    expect(oldLogProbs).toEqual(own);
    expect(importance).toEqual([[1.5, Math.exp(-0.25)]]); // e^0.5 is above the cap
    expect(metrics).toEqual({ staleness: 2, sampling_logp_difference: 0.375, frac_truncated: 0.5 });
    expect(weights("sequence").importance).toEqual([[Math.exp(0.125), Math.exp(0.125)]]);
    expect(weights("product").importance).toEqual([[Math.exp(0.25), Math.exp(0.25)]]);
  });

  it("or as the policy's own, or are refused where nobody says", () => {
    const none = { ...settings, importanceSamplingCorrection: "none" } as const;
    expect(offPolicy([response()], own, 3, none, "token")).toEqual({
      oldLogProbs: own,
      importance: null,
      metrics: { staleness: 2 },
    });
    for (const logProbs of [undefined, [-1]]) {
      expect(() => offPolicy([response(logProbs)], own, 3, settings, "token")).toThrow(/does not say their log-prob/);
    }
  });

  /** What the first response of the last step was measured from, and the ratios before anything was learned of it. */
  async function shown(name: string, more: Settings) {
    const drawn: JobResult[][] = [];
    const here = localSource();
    const source: RolloutSource = {
      ...here,
      async take(iteration) {
        drawn.push(await here.take(iteration));
        return drawn[drawn.length - 1];
      },
    };
    const settings = { maxSteps: 2, maxStaleness: 1, showRollouts: 1, ...more };
    const events = await collect(trainers[name](settings, {}, source));
    const rows = events.flatMap((event) => (event.type === "rollout" ? [event.rows[0]] : []));
    const [{ logProbs, updates }] = rows.slice(-1);
    return {
      logProbs,
      ratios: updates[0].ratios,
      drawn: Array.from(drawn[1][0].responses[0].logProbs as Float32Array),
    };
  }

  it.each(["grpo", "reinforce", "ppo"])("of %s: ratios begin where the older policy drew", async (name) => {
    const { logProbs, drawn, ratios } = await shown(name, {});
    expect(logProbs).toEqual(drawn);
    expect(Math.max(...ratios.map((ratio) => Math.abs(ratio - 1)))).toBeGreaterThan(1e-3);
    const without = await shown(name, { importanceSamplingCorrection: "none" });
    expect(Math.max(...without.ratios.map((ratio) => Math.abs(ratio - 1)))).toBeLessThan(1e-5);
  });

  it("are measured at the temperature that losses take", async () => {
    const warm = await shown("grpo", { temperature: 1.5 });
    expect(warm.logProbs).toEqual(warm.drawn);
    const cold = await shown("ppo", { temperature: 1.5 }); // PaddleNLP's way: never tempered
    expect(cold.logProbs).toEqual(cold.drawn);
    const [first] = (await run("grpo", { temperature: 1.5, maxStaleness: 1, maxSteps: 1 })) as [
      { sampling_logp_difference: number },
    ];
    expect(first.sampling_logp_difference).toBeLessThan(1e-5); // nobody is behind yet
  });

  it("are those of a moving average, too", async () => {
    const events = await run("ppo", { emaBeta: 0.9, maxSteps: 3 });
    expect(events[0].sampling_logp_difference).toBeLessThan(1e-5);
    expect(events[2].sampling_logp_difference).toBeGreaterThan(1e-4);
    expect(events[2].staleness).toBe(0);
    const plain = await run("ppo", { emaBeta: 0.9, emaGeneration: false, maxSteps: 3 });
    expect(plain[2]).not.toHaveProperty("sampling_logp_difference");
  });

  it("are refused where whoever draws cannot say what is needed, or cannot draw ahead", async () => {
    const untempered: RolloutSource = { ...localSource(), measuresAt: 1 };
    const hot = { temperature: 1.5, maxStaleness: 1 };
    await expect(run("grpo", hot, {}, untempered)).rejects.toThrow(/at the temperature 1 alone.*set temperature to 1/);
    expect(await run("ppo", hot, {}, untempered)).toHaveLength(5);
    const sampler = async () => [];
    const models = { policy: newPolicy(), tokenizer, rewards, sampler };
    await expect(collect(trainGrpo(models, prompts(4), { ...group, maxStaleness: 1 }))).rejects.toThrow(
      /maxStaleness 1: a sampler that is a function cannot draw ahead/,
    );
  });
});
