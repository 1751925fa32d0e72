import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { openDevice } from "webrlhf";
import { CausalLM } from "webrlhf/nn";
import { jobsOf, runJob } from "webrlhf/rlhf";
import { sampling } from "../../src/cluster/kinds.ts";
import { helloSubject, RESULTS, resultSubject } from "../../src/cluster/names.ts";
import { PolicyPublisher } from "../../src/cluster/policy.ts";
import { jobsConsumer, streamsOf } from "../../src/cluster/streams.ts";
import { ClusterTrainer } from "../../src/cluster/trainer.ts";
import { prompts, tinyConfig } from "../rlhf/tiny.ts";
import { natsServer, TestCluster } from "./server.ts";

describe.skipIf(!natsServer)("a member of a cluster", () => {
  let cluster: TestCluster;
  let model: CausalLM;
  beforeAll(async () => {
    await openDevice();
    cluster = await TestCluster.start();
    model = new CausalLM(tinyConfig()).initialize(3);
    for (const name of ["flooder", "hoarder", "giant"]) await cluster.folder.invite("worker", name);
  });
  afterAll(async () => {
    model?.destroy();
    await cluster?.close();
  });
  afterEach(() => cluster.part());

  const said: string[] = [];
  const trainer = async (run: string) => {
    const say = (line: string) => void said.push(line);
    const options = { run, who: "test", kept: null, say, waitsMs: 1500 };
    const one = await ClusterTrainer.open(await cluster.join("trainer"), sampling, options);
    cluster.closing(() => one.close());
    const policy = await new PolicyPublisher().take(model);
    await one.publish(policy);
    const asked = prompts(12);
    const drawing = { iteration: 0, seed: 5, maxNewTokens: 6, samples: 2, promptsPerJob: 2 };
    const jobs = jobsOf(
      asked.map(({ ids }) => ids),
      asked.map((_, i) => i),
      drawing,
    );
    await one.request(0, jobs, { policy, vocabSize: model.config.vocabSize, endIds: model.config.eosIds });
    return { one, jobs };
  };
  const here = { draw: (job: Parameters<typeof runJob>[1]) => runJob(model, job), check: async () => null };

  it("that floods changes nothing: not with garbage for each job, made-up results, or greetings", async () => {
    const { one, jobs } = await trainer("flooded");
    const { nc, user } = await cluster.join("flooder");
    const keys = [...(await keysOf("flooded"))];
    expect(keys).toHaveLength(jobs.length);
    for (let i = 0; i < 1000; i++) {
      nc.publish(helloSubject(user), "x".repeat(100));
      nc.publish(resultSubject(user, "flooded", `made-up-${i}`), new Uint8Array(1000));
      nc.publish(resultSubject(user, "flooded", keys[i % keys.length]), new Uint8Array(100).fill(i));
    }
    await nc.flush();
    await cluster.worker();
    const results = await one.take(0, here);
    for (const [i, job] of jobs.entries()) expect(results[i]).toEqual(await runJob(model, job));
    expect(said.join("\n")).toMatch(/nothing that flooder sends is looked at any more: revoke it/);
    expect(one.counts.refused).toBeLessThanOrEqual(keys.length + 3);
    const { jsm } = await streamsOf((await cluster.join("trainer")).nc);
    const { config } = await jsm.streams.info(RESULTS);
    expect(config.max_bytes).toBe(512 << 20);
  });

  it("that takes all jobs and does none costs their time, no more", async () => {
    const { one, jobs } = await trainer("hoarded");
    const streams = await streamsOf((await cluster.join("hoarder")).nc);
    const consumer = await jobsConsumer(streams, "sample");
    const taken = await consumer?.fetch({ max_messages: 1000, expires: 1000 });
    let count = 0;
    for await (const _ of taken ?? []) count++;
    expect(count).toBe(jobs.length);
    const results = await one.take(0, here);
    for (const [i, job] of jobs.entries()) expect(results[i]).toEqual(await runJob(model, job));
    expect(one.counts.by.get("")).toBe(jobs.length);
  });

  it("that sends a hundred megabytes is cut off by the server, and the run goes on", async () => {
    const { one, jobs } = await trainer("giant");
    const [key] = await keysOf("giant");
    const { nc, user } = await cluster.join("giant");
    expect(() => nc.publish(resultSubject(user, "giant", key), new Uint8Array(100 << 20))).toThrow(/max_payload/i);
    // As large as the server takes, and more than the job can have.
    nc.publish(resultSubject(user, "giant", key), new Uint8Array(8 << 20));
    await nc.flush();
    const results = await one.take(0, here);
    for (const [i, job] of jobs.entries()) expect(results[i]).toEqual(await runJob(model, job));
    expect(said.join("\n")).toMatch(/giant sent a result of 8388608 bytes, more than the job can have/);
  });

  /** Keys of a run's jobs, which any worker sees that takes them. */
  async function keysOf(run: string): Promise<string[]> {
    const { jsm } = await streamsOf((await cluster.join("trainer")).nc);
    const { state } = await jsm.streams.info("JOBS", { subjects_filter: `job.sample.${run}.>` });
    return Object.keys(state.subjects ?? {}).map((subject) => subject.split(".")[3]);
  }
});
