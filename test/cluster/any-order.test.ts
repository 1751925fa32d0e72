/** A run in any order over a real server: what is slow holds nobody up, and a trainer that is killed loses nothing. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { diskFiles, memoryFiles, openDevice } from "webrlhf";
import { CausalLM } from "webrlhf/nn";
import { type Response, type RunOptions, type TrainEvent, trainGrpo } from "webrlhf/rlhf";
import type { TrainerOptions } from "../../src/cluster/asked.ts";
import { sampling } from "../../src/cluster/kinds.ts";
import { clusterSource } from "../../src/cluster/source.ts";
import { jobsConsumer, streamsOf } from "../../src/cluster/streams.ts";
import { ClusterTrainer } from "../../src/cluster/trainer.ts";
import { prompts, tinyConfig, tokenizer } from "../rlhf/tiny.ts";
import { natsServer, TestCluster } from "./server.ts";

describe.skipIf(!natsServer)("a run in any order", () => {
  let cluster: TestCluster;
  let runs = 0;
  const dirs: string[] = [];
  const models: CausalLM[] = [];
  beforeAll(async () => {
    await openDevice();
    cluster = await TestCluster.start();
  });
  afterAll(() => cluster?.close());
  afterEach(async () => {
    await cluster.part();
    for (const model of models.splice(0)) model.destroy();
    for (const dir of dirs.splice(0)) await rm(dir, { recursive: true });
  });

  const begin = async (more: object = {}, run?: RunOptions, options: Partial<TrainerOptions> = {}) => {
    const dir = await mkdtemp(join(tmpdir(), "webrlhf-any-"));
    dirs.push(dir);
    const files = await diskFiles();
    let trainer: ClusterTrainer<never, never, never> | null = null;
    const source = clusterSource(
      async () => {
        const kept = { files, folder: join(dir, "results") };
        const own = { run: `any-${runs++}`, who: "test", kept, say: () => {}, waitsMs: 1500, ...options };
        const opened = await ClusterTrainer.open(await cluster.join("trainer"), sampling, own);
        trainer = opened as never;
        return opened;
      },
      { onPolicy: false, promptsPerJob: 1 },
    );
    const policy = new CausalLM(tinyConfig()).initialize(5);
    models.push(policy);
    const scored: Response[][] = [];
    const rewards = async (responses: readonly Response[]) => {
      scored.push([...responses]);
      return responses.map(({ ids }) => ids.length + (ids.at(-1) ?? 0) / 100);
    };
    const settings = {
      ...{ learningRate: 1e-3, responseLength: 5, perDeviceTrainBatchSize: 12, seed: 3, saveMinutes: 0, maxSteps: 5 },
      ...{ numGenerations: 3, generationBatchSize: 12, rolloutOrder: "any", maxStaleness: 1, ...more },
    };
    const events = trainGrpo({ policy, tokenizer, rewards, source }, prompts(20), settings as object, run);
    return { events, scored, counts: () => trainer?.counts };
  };
  const told = async (events: AsyncGenerator<TrainEvent>) => {
    const found: Record<string, number>[] = [];
    for await (const event of events) if (event.type === "step") found.push(event.metrics);
    return found;
  };
  const asked = (scored: Response[][]) =>
    scored.flat().flatMap(({ promptText, sample }) => (sample === 0 ? [promptText] : []));

  it("learns from workers' responses that are new enough, from each prompt once", async () => {
    await cluster.worker({ name: "a" });
    await cluster.worker({ name: "b" });
    const { events, scored, counts } = await begin();
    const metrics = await told(events);
    expect(metrics).toHaveLength(5);
    for (const { staleness, "rollouts/stale_dropped": dropped } of metrics) {
      expect(staleness).toBeLessThanOrEqual(1);
      expect(dropped).toBe(0);
    }
    expect([...asked(scored)].sort()).toEqual(
      prompts(20)
        .map(({ text }) => text)
        .sort(),
    );
    expect(counts()?.by.get("worker")).toBeGreaterThan(0);
    expect(counts()?.refused).toBe(0);
  }, 60_000);

  it("draws alone where there is no worker, and with responses that are drawn again to be sure", async () => {
    const alone = await begin();
    expect(await told(alone.events)).toHaveLength(5);
    await cluster.worker({ name: "a" });
    const sure = await begin({}, undefined, { check: 0.5 });
    expect(await told(sure.events)).toHaveLength(5);
    expect(sure.counts()).toMatchObject({ refused: 0, caught: 0 });
  }, 60_000);

  it("does not wait for a worker that has begun and is never heard of again", async () => {
    const { events, scored } = await begin({ maxStaleness: 2 });
    // It takes the first job that is there.
    const { nc } = await cluster.join("worker");
    const streams = await streamsOf(nc);
    let stolen = false;
    const stealing = (async () => {
      while (!stolen && !nc.isClosed()) {
        const consumer = await jobsConsumer(streams, "sample").catch(() => null);
        stolen = Boolean(await consumer?.next({ expires: 1000 }).catch(() => null));
        if (!stolen) await new Promise((resolve) => setTimeout(resolve, 20));
      }
    })();
    await cluster.worker({ name: "a" });
    const metrics = await told(events);
    await nc.close();
    await stealing;
    expect(metrics).toHaveLength(5);
    expect(asked(scored)).toHaveLength(20);
    expect(new Set(asked(scored)).size).toBe(20);
  }, 60_000);

  it("goes on where it was stopped, and draws nothing again that it has", async () => {
    await cluster.worker({ name: "a" });
    const folder = { files: memoryFiles(), path: "out" };
    const stop = new AbortController();
    const first = await begin({ saveSteps: 1 }, { folder, signal: stop.signal });
    for await (const event of first.events) if (event.type === "step" && event.step === 2) stop.abort();
    const second = await begin({ saveSteps: 1 }, { folder, resume: true });
    expect(await told(second.events)).toHaveLength(3);
    const all = [...asked(first.scored), ...asked(second.scored)];
    expect(all).toHaveLength(20);
    expect(new Set(all).size).toBe(20);
    // What was ready when it stopped is drawn no second time.
    const drawn = [...(second.counts()?.by.values() ?? [])].reduce((a, b) => a + b, 0);
    expect(drawn).toBeLessThan(12);
  }, 60_000);
});
