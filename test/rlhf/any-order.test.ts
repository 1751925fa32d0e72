/** Responses in any order: whole groups, never too old, every prompt as often as there, and nothing lost by a stop. */
import { afterEach, beforeAll, describe, expect, it } from "vitest";
import { memoryFiles, openDevice } from "webrlhf";
import { CausalLM } from "webrlhf/nn";
import {
  type JobResult,
  localSource,
  type Response,
  type RolloutSource,
  type RunOptions,
  runJob,
  type SamplingJob,
  type TrainEvent,
  trainGrpo,
  trainPpo,
  trainRaft,
} from "webrlhf/rlhf";
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

/** What was scored, call by call. */
let scored: Response[][] = [];
const rewards = async (responses: readonly Response[]) => {
  scored.push([...responses]);
  return responses.map(({ text, ids }) => [...text].filter((letter) => letter === "a").length + ids.length / 100);
};

/**
 * Some hands that draw, each a job at a time.
 * @param late the number of the job, among all that are handed out, that one of them is as good as never done with
 */
function hands({ atOnce = 3, late = -1 } = {}) {
  const policies = new Map<number, CausalLM>();
  const handed: SamplingJob[] = [];
  const given: JobResult[] = [];
  const under: SamplingJob[] = [];
  let stuck: SamplingJob | null = null;
  let next: () => SamplingJob | null = () => null;
  let most = 0;
  const more = () => {
    while (under.length + (stuck ? 1 : 0) < atOnce) {
      const job = next();
      if (!job) return;
      if (handed.push(job) - 1 === late) stuck = job;
      else under.push(job);
      most = Math.max(most, under.length);
    }
  };
  const source: RolloutSource = {
    ...localSource(),
    promptsPerJob: 1,
    async publish(version, model) {
      const copy = newPolicy();
      for (const [i, { value }] of copy.parameters().entries()) value.write(await model.parameters()[i].value.read());
      policies.set(version, copy);
    },
    stream(asked) {
      next = asked;
      return {
        more,
        async take() {
          more();
          // The second that was handed out is done before the first.
          const [job = stuck] = under.splice(given.length % 2 === 0 && under.length > 1 ? 1 : 0, 1);
          if (!job) throw new Error("waits for ever");
          if (job === stuck) stuck = null;
          const result = await runJob(policies.get(job.version) as CausalLM, job);
          given.push(result);
          more();
          return [result];
        },
        async giveUp(ids) {
          if (stuck && ids.has(stuck.id)) stuck = null;
          for (const [i, { id }] of [...under.entries()].reverse()) if (ids.has(id)) under.splice(i, 1);
        },
      };
    },
  };
  return { source, handed, given, most: () => most };
}

const base = { learningRate: 5e-3, responseLength: 5, perDeviceTrainBatchSize: 6, seed: 3, saveMinutes: 0 };
const any = { rolloutOrder: "any", maxStaleness: 2 };
type Settings = Record<string, unknown>;
const trainers = {
  grpo: (more: Settings, source?: RolloutSource, run?: RunOptions) =>
    trainGrpo(
      { policy: newPolicy(), tokenizer, rewards, source },
      prompts(8),
      { ...base, maxSteps: 6, numGenerations: 3, generationBatchSize: 12, ...any, ...more } as object,
      run,
    ),
  ppo: (more: Settings, source?: RolloutSource, run?: RunOptions) =>
    trainPpo(
      { policy: newPolicy(), tokenizer, rewards, source },
      prompts(8),
      { ...base, maxSteps: 5, rolloutBatchSize: 6, klCoef: 0.05, ...any, ...more } as object,
      run,
    ),
  raft: (more: Settings, source?: RolloutSource, run?: RunOptions) =>
    trainRaft(
      { policy: newPolicy(), tokenizer, rewards, source },
      prompts(8),
      {
        ...base,
        maxSteps: 4,
        raftBatchSize: 4,
        topRewardPercentage: 0.5,
        numTrainEpochs: 1,
        ...any,
        ...more,
      } as object,
      run,
    ),
};
const metrics = async (events: AsyncGenerator<TrainEvent>) => {
  scored = [];
  return metricsOf(await collect(events)) as Record<string, number>[];
};
const promptsOf = (all: readonly Response[]) => all.map(({ promptText }) => promptText);

describe.each(Object.keys(trainers) as (keyof typeof trainers)[])("%s", (name) => {
  it("learns from whole groups of policies that are new enough, from each prompt as often as in the data's order", async () => {
    const { source, handed, given } = hands();
    const found = await metrics(trainers[name]({}, source));
    const drawn = scored.map(promptsOf);
    // Exact order, for what it asks.
    await metrics(trainers[name]({ rolloutOrder: "exact", maxStaleness: 0 }));
    const exact = scored.map(promptsOf);
    expect(drawn.map(({ length }) => length)).toEqual(exact.map(({ length }) => length));
    const sorted = (all: string[][]) => all.flat().sort();
    expect(sorted(drawn)).toEqual(sorted(exact));
    expect(drawn).not.toEqual(exact);
    for (const [step, { staleness, "rollouts/stale_dropped": dropped }] of found.entries()) {
      expect(staleness).toBeLessThanOrEqual(Math.min(step, 2));
      expect(dropped).toBe(0);
    }
    expect(given.length).toBe(handed.length);
    expect(new Set(handed.map(({ id }) => id)).size).toBe(handed.length);
  });
});

describe("grpo in any order", () => {
  it("has the samples of one job together, of one version", async () => {
    const { source } = hands();
    await metrics(trainers.grpo({}, source));
    for (const responses of scored) {
      for (let i = 0; i < responses.length; i += 3) {
        const group = responses.slice(i, i + 3);
        expect(new Set(promptsOf(group)).size).toBe(1);
        expect(new Set(group.map(({ version }) => version)).size).toBe(1);
        expect(group.map(({ sample }) => sample)).toEqual([0, 1, 2]);
        expect(group.map(({ prompt }) => prompt)).toEqual([i / 3, i / 3, i / 3]);
        expect(group.every(({ logProbs, ids, promptLength }) => logProbs?.length === ids.length - promptLength)).toBe(
          true,
        );
      }
    }
  });

  it("hands out no more than may be used in time", async () => {
    const { source, handed, most } = hands({ atOnce: 100 });
    await metrics(trainers.grpo({ maxStaleness: 1 }, source));
    // 4 prompts a step: two steps' worth while the first is learned.
    expect(most()).toBe(8);
    expect(handed).toHaveLength(24);
    for (const [i, { version }] of handed.entries()) expect(version).toBe(Math.max(0, Math.floor(i / 4) - 1));
  });

  it("drops what comes too late, says so, and has another policy draw it", async () => {
    const { source, handed } = hands({ late: 2, atOnce: 4 });
    const found = await metrics(trainers.grpo({ maxStaleness: 1 }, source));
    const dropped = found.map(({ "rollouts/stale_dropped": n }) => n);
    expect(dropped.reduce((a, b) => a + b)).toBe(3); // a prompt's responses
    const again = handed.filter(({ id }) => id === handed[2].id);
    expect(again.map(({ version }) => version)).toEqual([0, dropped.findIndex((n) => n > 0)]);
    expect(scored.map(({ length }) => length)).toEqual([12, 12, 12, 12, 12, 12]);
    for (const { staleness } of found) expect(staleness).toBeLessThanOrEqual(1);
  });

  it("goes on from a checkpoint with what was drawn, and draws nothing of it again", async () => {
    const folder = { files: memoryFiles(), path: "out" };
    const first = hands();
    const stop = new AbortController();
    scored = [];
    const events: TrainEvent[] = [];
    for await (const event of trainers.grpo({ saveSteps: 1 }, first.source, { folder, signal: stop.signal })) {
      events.push(event);
      if (event.type === "step" && event.step === 3) stop.abort();
    }
    const before = scored.flat();
    const second = hands();
    scored = [];
    await collect(trainers.grpo({ saveSteps: 1 }, second.source, { folder, resume: true }));
    const after = scored.flat();
    expect(before).toHaveLength(36);
    expect(after).toHaveLength(36);
    // Nothing is drawn twice, and nothing is lost.
    const all = [...first.given, ...second.given].map(({ id }) => id);
    expect(new Set(all).size).toBe(all.length);
    expect(all).toHaveLength(24);
    expect(second.given.length).toBeLessThan(12);
  });

  it("is refused where nothing could be in another order, or nobody draws so", async () => {
    const { source } = hands();
    expect(() => trainers.grpo({ maxStaleness: 0 }, source)).toThrow(
      /rolloutOrder any with maxStaleness 0.*set maxStaleness to 1 or more/,
    );
    await expect(metrics(trainers.grpo({}))).rejects.toThrow(
      /rolloutOrder any takes responses as a cluster's workers finish/,
    );
    await expect(metrics(trainers.raft({}, localSource()))).rejects.toThrow(/name a cluster/);
  });
});
