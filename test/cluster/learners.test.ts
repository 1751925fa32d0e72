/** Learners over a real server: who comes, goes, dies or forgets, all that remain have the same bits. */
import { readFile } from "node:fs/promises";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { openDevice } from "webrlhf";
import { connectCluster } from "webrlhf/cluster";
import { CausalLM } from "webrlhf/nn";
import { LearnerGroup, type RunOptions, trainSft } from "webrlhf/rlhf";
import { ClusterLearners, type LearnerOptions } from "../../src/cluster/learners.ts";
import { sequences, tinyConfig } from "../rlhf/tiny.ts";
import { natsServer, TestCluster } from "./server.ts";

describe.skipIf(!natsServer)("learners of a cluster", () => {
  let cluster: TestCluster;
  const opened: ClusterLearners[] = [];
  let runs = 0;
  beforeAll(async () => {
    await openDevice();
    cluster = await TestCluster.start();
  });
  afterAll(() => cluster?.close());
  afterEach(async () => {
    for (const one of opened.splice(0)) await one.close();
  });

  const joined = async (number: number, run: string, more: Partial<LearnerOptions> = {}) => {
    const creds = await readFile(cluster.creds("trainer"), "utf8");
    const connection = await connectCluster({ url: cluster.url, creds, file: "trainer" }, `learner ${number}`);
    const options = { run, number, who: `learner ${number}`, say: () => {}, waitsMs: 500, ...more };
    const one = await ClusterLearners.join(connection, options).catch(async (error) => {
      await connection.nc.close();
      throw error;
    });
    opened.push(one);
    return one;
  };
  const learn = async (run: RunOptions, settings: object = {}) => {
    const policy = new CausalLM(tinyConfig()).initialize(1);
    const own = { maxSteps: 6, learningRate: 5e-3, perDeviceTrainBatchSize: 2, dilocoSteps: 2, ...settings };
    const metrics: Record<string, number>[] = [];
    for await (const event of trainSft({ policy }, sequences(8), own, run)) {
      if (event.type === "step") metrics.push(event.metrics);
    }
    const values = await policy.store.read();
    policy.destroy();
    return { values, learners: metrics.flatMap((m) => m.diloco_learners ?? []) };
  };
  const part = (...bytes: number[]) => Uint8Array.from(bytes);

  it.each(["float32", "int8"])("train as those of one process do, to the bit: %s", async (dilocoWire) => {
    const group = new LearnerGroup();
    const here = [1, 2, 3].map((number) => group.learner(number));
    const expected = await Promise.all(here.map((learners) => learn({ learners }, { dilocoWire })));
    const run = `run-${runs++}`;
    const there = await Promise.all([1, 2, 3].map((number) => joined(number, run)));
    const found = await Promise.all(there.map((learners) => learn({ learners }, { dilocoWire })));
    expect(found).toEqual(expected);
    expect(found[0].learners).toEqual([3, 3, 3]);
  });

  it("wait for a quorum, then for those who are there, for as long as is said", async () => {
    const run = `run-${runs++}`;
    const options = { quorum: 2, graceMs: 1500 };
    const [a, b, slow] = await Promise.all([1, 2, 3].map((number) => joined(number, run, options)));
    let closed = false;
    const first = a.round(0, part(1)).finally(() => {
      closed = true;
    });
    await new Promise((resolve) => setTimeout(resolve, 2000));
    expect(closed).toBe(false);
    const second = b.round(0, part(2));
    const parts = [part(1), part(2)];
    expect(await first).toEqual({ parts });
    expect(await second).toEqual({ parts });
    expect(await slow.round(0, part(3))).toEqual({ parts }); // too late to count
    await slow.close();
    opened.splice(opened.indexOf(slow), 1);
    const began = Date.now();
    const [again] = await Promise.all([a.round(1, part(4)), b.round(1, part(5))]);
    expect(again).toEqual({ parts: [part(4), part(5)] });
    expect(Date.now() - began).toBeLessThan(1500);
  });

  it("give one that comes the state that they stand at, and one that is behind as well", async () => {
    const run = `run-${runs++}`;
    const [a, b] = await Promise.all([1, 2].map((number) => joined(number, run, { graceMs: 300 })));
    expect(await b.enter()).toBeNull();
    for (let round = 0; round < 4; round++) {
      expect(await a.round(round, part(round))).toEqual({ parts: [part(round)] });
      await a.offer(round + 1, () => part(100 + round));
    }
    await a.close();
    opened.splice(opened.indexOf(a), 1);
    expect(await b.round(0, part(9))).toEqual({ rounds: 4, state: part(103) });
    const late = await joined(3, run);
    expect(await late.enter()).toEqual({ rounds: 4, state: part(103) });
  });

  it("refuse a second one of the same number", async () => {
    const run = `run-${runs++}`;
    await joined(1, run);
    await expect(joined(1, run)).rejects.toThrow(/has a learner 1 already \(learner 1\): give this one another number/);
    await expect(joined(1, "a run")).rejects.toThrow(/a run cannot be a run's name/);
  });

  it("lose nothing where the server dies and forgets everything", async () => {
    const run = `run-${runs++}`;
    const [a, b] = await Promise.all([1, 2].map((number) => joined(number, run)));
    const [first] = await Promise.all([a.round(0, part(1)), b.round(0, part(2))]);
    expect(first).toEqual({ parts: [part(1), part(2)] });
    for (const one of [a, b]) await one.offer(1, () => part(50));
    const waiting = a.round(1, part(3));
    await new Promise((resolve) => setTimeout(resolve, 500));
    await cluster.kill();
    await cluster.wipe();
    await cluster.up();
    const parts = [part(3), part(4)];
    expect(await b.round(1, part(4))).toEqual({ parts });
    expect(await waiting).toEqual({ parts });
  }, 60_000);
});
