/** Sampling over a real server: workers come and go, the server too, and the results are those of a local run to the bit. */
import { setMaxListeners } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { diskFiles, openDevice } from "webrlhf";
import { CausalLM } from "webrlhf/nn";
import { type JobResult, jobsOf, runJob, type SamplingJob } from "webrlhf/rlhf";
import type { Here, TrainerOptions } from "../../src/cluster/asked.ts";
import { wrongWith } from "../../src/cluster/check.ts";
import { Intake } from "../../src/cluster/intake.ts";
import { sampling } from "../../src/cluster/kinds.ts";
import { decodeJob, encodeResult } from "../../src/cluster/messages.ts";
import { jobsOfRun, resultSubject } from "../../src/cluster/names.ts";
import { PolicyPublisher } from "../../src/cluster/policy.ts";
import { RunQueue } from "../../src/cluster/queue.ts";
import { jobsConsumer, streamsOf } from "../../src/cluster/streams.ts";
import { ClusterTrainer } from "../../src/cluster/trainer.ts";
import { prompts, tinyConfig } from "../rlhf/tiny.ts";
import { natsServer, TestCluster } from "./server.ts";

const asked = prompts(12);
const jobsWith = (iteration: number, version = iteration): SamplingJob[] =>
  jobsOf(
    asked.map((prompt) => prompt.ids),
    asked.map((_, i) => i),
    { iteration, version, samples: 2, seed: 5, maxNewTokens: 6, temperature: 0.7, promptsPerJob: 2 },
  );

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

describe.skipIf(!natsServer)("a cluster", () => {
  let cluster: TestCluster;
  let dir: string;
  let base: CausalLM;
  let runs = 0;
  let run = "";
  beforeAll(async () => {
    await openDevice();
    cluster = await TestCluster.start();
    base = new CausalLM(tinyConfig()).initialize(3);
  });
  afterAll(async () => {
    base?.destroy();
    await cluster?.close();
  });
  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), "webrlhf-sampling-"));
    run = `run-${runs++}`;
  });
  afterEach(async () => {
    await cluster.part();
    await rm(dir, { recursive: true });
  });

  const said: string[] = [];
  const trainer = async (more: Partial<TrainerOptions> = {}) => {
    const say = (line: string) => void said.push(line);
    const options = {
      run,
      who: "test",
      kept: { files: await diskFiles(), folder: join(dir, "results") },
      say,
      waitsMs: 1500,
      ...more,
    };
    const one = await ClusterTrainer.open(await cluster.join("trainer"), sampling, options);
    let closed = false;
    const close = async () => {
      if (!closed) await one.close();
      closed = true;
    };
    cluster.closing(close);
    return { one, close };
  };
  const byModel = (model: CausalLM): Here<SamplingJob, JobResult> => ({
    draw: (job) => runJob(model, job),
    check: (job, _, result) => wrongWith(model, job, result),
  });
  const nowhere = null;
  const locally = async (model: CausalLM, jobs: readonly SamplingJob[]): Promise<JobResult[]> => {
    const results: JobResult[] = [];
    for (const job of jobs) results.push(await runJob(model, job));
    return results;
  };
  const policyOf = async (model: CausalLM, publisher = new PolicyPublisher()) => ({
    policy: await publisher.take(model),
    vocabSize: model.config.vocabSize,
    endIds: model.config.eosIds,
  });
  /** A worker that takes a job and is never heard of again. */
  const dying = async (member = "worker") => {
    const { nc } = await cluster.join(member);
    const consumer = await jobsConsumer(await streamsOf(nc), "sample");
    const message = await consumer?.next({ expires: 3000 });
    await nc.close();
    return message;
  };

  it("draws what the policy here would draw, to the bit, whole models and adapters, version after version", async () => {
    const { one } = await trainer();
    await cluster.worker({ name: "a" });
    await cluster.worker({ name: "b" });
    const adapted = new CausalLM({ base, lora: { rank: 2, alpha: 4, targets: "all-linear" } }).initialize(9);
    const publisher = new PolicyPublisher();
    try {
      for (const [version, model] of [base, adapted, adapted].entries()) {
        // A fresh adapter adds nothing: its second factor is 0 until it has learned.
        for (const [i, parameter] of (model === adapted ? model.store.parameters : []).entries()) {
          parameter.value.write(
            Float32Array.from({ length: parameter.size }, (_, k) => Math.sin(k + i + version) / 10),
          );
        }
        const drawn = await policyOf(model, publisher);
        await one.publish(drawn.policy);
        const jobs = jobsWith(version);
        await one.request(version, jobs, drawn);
        expect(await one.take(version, nowhere)).toEqual(await locally(model, jobs));
      }
      expect([...one.counts.by.keys()]).toEqual(["worker"]);
      expect(one.counts).toMatchObject({ refused: 0, double: 0 });
    } finally {
      adapted.destroy();
    }
  });

  it("is the trainer alone where no worker comes, and it says so", async () => {
    const { one } = await trainer({ aloneMs: 0 });
    const drawn = await policyOf(base);
    await one.publish(drawn.policy);
    await one.request(0, jobsWith(0), drawn);
    said.length = 0;
    expect(await one.take(0, byModel(base))).toEqual(await locally(base, jobsWith(0)));
    expect([...one.counts.by]).toEqual([["", 6]]);
    expect(said.join("\n")).toMatch(/no worker has joined: the trainer samples alone; start one with webrlhf worker/);
    // Nothing is left that a worker could do in vain.
    const { state } = await (await streamsOf((await cluster.join("trainer")).nc)).jsm.streams.info("JOBS", {
      subjects_filter: jobsOfRun("sample", run),
    });
    expect(state.subjects ?? {}).toEqual({});
  });

  it("loses nothing with a worker that dies, and takes nothing twice", async () => {
    const { one } = await trainer();
    const drawn = await policyOf(base);
    await one.publish(drawn.policy);
    await one.request(0, jobsWith(0), drawn);
    const lost = await dying();
    expect(decodeJob(lost?.data as Uint8Array).job.id).toBe("0/0");
    await cluster.worker({ name: "a" });
    expect(await one.take(0, byModel(base))).toEqual(await locally(base, jobsWith(0)));
    expect([...one.counts.by.values()].reduce((a, b) => a + b)).toBe(6);
  });

  it("lets an idle worker do what another one has had for too long, and takes what comes first", async () => {
    const { one } = await trainer();
    const drawn = await policyOf(base);
    await one.publish(drawn.policy);
    await one.request(0, jobsWith(0), drawn);
    const slow = await dying(); // its lease is 30 s
    const began = Date.now();
    await cluster.worker({ name: "idle" });
    expect(await one.take(0, nowhere)).toEqual(await locally(base, jobsWith(0)));
    expect(Date.now() - began).toBeLessThan(15_000);
    expect(one.counts).toMatchObject({ askedAgain: 0, refused: 0 });
    expect([...one.counts.by]).toEqual([["worker", 6]]);
    // Nobody does it a second time.
    const queue = new RunQueue(await streamsOf((await cluster.join("trainer")).nc), "sample", run);
    await expect.poll(() => queue.unfinished(), { timeout: 5000 }).toEqual(new Set());
    expect(slow).toBeDefined();
  }, 60_000);

  it("goes on after the server was killed, and after its store was deleted", async () => {
    const { one } = await trainer();
    const publisher = new PolicyPublisher();
    const drawn = await policyOf(base, publisher);
    await one.publish(drawn.policy);
    for (const wipes of [false, true]) {
      const iteration = Number(wipes);
      await one.request(iteration, jobsWith(iteration), drawn);
      await cluster.kill();
      if (wipes) await cluster.wipe();
      await sleep(300);
      await cluster.up();
      const end = await cluster.worker({ name: `after-${wipes}` });
      // Nobody here draws: what the store has lost is asked for again.
      expect(await one.take(iteration, nowhere)).toEqual(await locally(base, jobsWith(iteration)));
      await end();
    }
    expect(one.counts.by.get("worker")).toBe(12);
  }, 60_000);

  it("gives a trainer that comes back what came meanwhile, and forgets nothing that it has", async () => {
    const first = await trainer();
    const drawn = await policyOf(base);
    await first.one.publish(drawn.policy);
    await first.one.request(0, jobsWith(0).slice(0, 2), drawn);
    const end = await cluster.worker({ name: "a" });
    await first.one.take(0, nowhere);
    // The rest comes when there is no trainer; it is asked for by the message of one that was killed.
    const all = jobsWith(0);
    await first.one.request(0, all, drawn);
    await sleep(1500);
    await first.close();
    await end();
    const second = await trainer();
    await second.one.publish(drawn.policy);
    await second.one.request(0, all, drawn);
    expect(await second.one.take(0, nowhere)).toEqual(await locally(base, all));
  });

  it("has one trainer for a run", async () => {
    const { close } = await trainer();
    await expect(trainer()).rejects.toThrow(/the run run-\d+ has a trainer already \(test\): stop that one/);
    await close();
    await (await trainer()).close();
  }, 60_000);

  it("asks again for a job that somebody else has acknowledged", async () => {
    const { one } = await trainer();
    const drawn = await policyOf(base);
    await one.publish(drawn.policy);
    await one.request(0, jobsWith(0), drawn);
    const message = await dying();
    // The subject of an acknowledgement can be guessed: it says which delivery it is of.
    const { nc } = await cluster.join("worker");
    nc.publish((message as unknown as { msg: { reply: string } }).msg.reply, "+ACK");
    await nc.flush();
    await cluster.worker({ name: "a" });
    expect(await one.take(0, nowhere)).toEqual(await locally(base, jobsWith(0)));
    expect(one.counts.askedAgain).toBe(1);
  }, 60_000);

  it("takes no nonsense, and stops listening to who sends it again and again", async () => {
    await cluster.folder.invite("worker", `liar-${run}`);
    const { one } = await trainer();
    const drawn = await policyOf(base);
    await one.publish(drawn.policy);
    await one.request(0, jobsWith(0), drawn);
    const { nc, user } = await cluster.join(`liar-${run}`);
    const streams = await streamsOf(nc);
    const consumer = await jobsConsumer(streams, "sample");
    const drawer = { worker: "liar", adapter: "none", seconds: 0 };
    said.length = 0;
    for (let i = 0; i < 4; i++) {
      const message = await consumer?.next({ expires: 2000 });
      if (!message) break;
      const key = message.subject.split(".")[3];
      const { job } = decodeJob(message.data);
      const good = await runJob(base, job);
      const nan = good.responses.map((response) => ({
        ...response,
        logProbs: response.logProbs?.map(() => Number.NaN) as Float32Array,
      }));
      const sent = [
        crypto.getRandomValues(new Uint8Array(500)),
        encodeResult(key, drawer, { ...good, responses: nan }),
        new Uint8Array(1_000_000),
        encodeResult(key, drawer, { ...good, version: 7 }),
      ][i];
      await streams.js.publish(resultSubject(user, run, key), sent);
      await message.ackAck();
    }
    await cluster.worker({ name: "honest" });
    expect(await one.take(0, nowhere)).toEqual(await locally(base, jobsWith(0)));
    expect([...one.counts.by]).toEqual([["worker", 6]]);
    expect(one.counts.refused).toBe(3);
    expect(said.join("\n")).toMatch(
      /liar-run-\d+ sent a result with the log-probability NaN: the job is asked for again/,
    );
    expect(said.join("\n")).toMatch(/nothing that liar-run-\d+ sends is looked at any more: revoke it/);
  }, 60_000);

  it("ends the run where no worker can do a job, with the reason", async () => {
    const { one } = await trainer();
    const drawn = await policyOf(base);
    await one.publish(drawn.policy);
    await cluster.worker({ name: "a" });
    const impossible = jobsWith(0).map((job) => ({ ...job, maxNewTokens: 60 })); // more than the model's context
    await one.request(0, impossible, drawn);
    await expect(one.take(0, nowhere)).rejects.toThrow(/workers cannot do job 0\/\d: .*exceeds the context/);
  }, 60_000);

  it("goes on handing out jobs, of this run and of others, when one was taken back", async () => {
    await trainer();
    const queues = await Promise.all(
      ["x", "y"].map(
        async (name) => new RunQueue(await streamsOf((await cluster.join("trainer")).nc), "sample", `${run}-${name}`),
      ),
    );
    for (const [i, queue] of queues.entries()) {
      for (const key of ["a", "b", "c"]) await queue.ask(`${key}${i}`, 0, new Uint8Array(1));
    }
    const intake = new Intake(await streamsOf((await cluster.join("worker")).nc), ["sample"]);
    const taken: string[] = [];
    const take = async () => {
      const message = (await intake.next(AbortSignal.timeout(2000)))?.message;
      if (message) taken.push(message.subject.split(".")[3]);
      await message?.ackAck();
    };
    await take();
    await queues[0].withdraw("c0");
    await take();
    await queues[0].withdraw();
    expect((await queues[0].unfinished()).size).toBe(0);
    for (let i = 0; i < 3; i++) await take();
    expect(taken).toEqual(["a0", "b0", "a1", "b1", "c1"]);
    await queues[1].withdraw();
  });

  it("lets a thousand workers wait at once", async () => {
    await trainer();
    const { nc } = await cluster.join("worker");
    const streams = await streamsOf(nc);
    const stop = new AbortController();
    setMaxListeners(0, stop.signal);
    const waiting = Array.from({ length: 1000 }, () => new Intake(streams, ["sample"]).next(stop.signal));
    const first = await Promise.race([...waiting, sleep(1500).then(() => "all wait")]);
    stop.abort();
    expect(first).toBe("all wait");
    expect(new Set(await Promise.all(waiting))).toEqual(new Set([null]));
  });

  it("draws itself what workers say cannot be done: nobody ends a run by saying so", async () => {
    const { one } = await trainer();
    const drawn = await policyOf(base);
    await one.publish(drawn.policy);
    await one.request(0, jobsWith(0), drawn);
    const { nc, user } = await cluster.join("worker");
    const streams = await streamsOf(nc);
    const intake = new Intake(streams, ["sample"]);
    const stop = new AbortController();
    const idler = (async () => {
      for (let taken = await intake.next(stop.signal); taken; taken = await intake.next(stop.signal)) {
        const { message } = taken;
        const key = message.subject.split(".")[3];
        const bytes = encodeResult(key, { worker: "idler", adapter: "", seconds: 0 }, { error: "I would rather not" });
        await streams.js.publish(resultSubject(user, run, key), bytes);
        message.term();
      }
    })();
    expect(await one.take(0, byModel(base))).toEqual(await locally(base, jobsWith(0)));
    expect([...one.counts.by]).toEqual([["", 6]]);
    stop.abort();
    await idler;
  }, 60_000);

  it("refuses a job whose result may be larger than a message, before anybody draws", async () => {
    const { one } = await trainer();
    const drawn = await policyOf(base);
    await one.publish(drawn.policy);
    const large = jobsWith(0).map((job) => ({ ...job, maxNewTokens: 300_000 })); // 4 responses of 8 bytes a token
    await expect(one.request(0, large, drawn)).rejects.toThrow(
      /job 0\/0 or its result may have 9\.2 MiB, and the cluster's server takes messages of 8\.0 MiB: lower prompts_per_job/,
    );
    const { state } = await (await streamsOf((await cluster.join("trainer")).nc)).jsm.streams.info("JOBS", {
      subjects_filter: jobsOfRun("sample", run),
    });
    expect(state.subjects ?? {}).toEqual({});
  });

  it("gives a job back at once when its worker is asked to stop", async () => {
    const { one } = await trainer();
    const drawn = await policyOf(base);
    await one.publish(drawn.policy);
    const long = jobsWith(0)
      .slice(0, 1)
      .map((job) => ({ ...job, maxNewTokens: 30, ignoreEos: true }));
    const end = await cluster.worker({ name: "a" });
    await one.request(0, long, { ...drawn, endIds: [] });
    await sleep(30);
    await end();
    await cluster.worker({ name: "b" });
    const began = Date.now();
    expect(await one.take(0, nowhere)).toEqual(await locally(base, long));
    expect(Date.now() - began).toBeLessThan(15_000); // its lease would have been 30 s
  }, 60_000);

  it("catches who draws in another way than it is told, drops what it gave, and puts it out", async () => {
    const cheat = `cheat-${run}`;
    await cluster.folder.invite("worker", cheat);
    const revoked: string[] = [];
    // Hardly any but the first of each name.
    const { one } = await trainer({ check: 1e-9, revoke: async (member) => void revoked.push(member) });
    const drawn = await policyOf(base);
    await one.publish(drawn.policy);
    await one.request(0, jobsWith(0), drawn);
    const { nc, user } = await cluster.join(cheat);
    const streams = await streamsOf(nc);
    const consumer = await jobsConsumer(streams, "sample");
    const answer = async (worker: string, how: object) => {
      const message = await consumer?.next({ expires: 3000 });
      if (!message) throw new Error("there is no job");
      const { job } = decodeJob(message.data);
      const drawer = { worker, adapter: "none", seconds: 0.01 };
      const bytes = encodeResult(message.subject.split(".")[3], drawer, await runJob(base, { ...job, ...how }));
      await streams.js.publish(resultSubject(user, run, message.subject.split(".")[3]), bytes);
      await message.ackAck();
    };
    await answer("a", {}); // the first of a name is checked, and good
    await answer("a", { temperature: 0.1 }); // not checked, and bad
    await answer("b", { seed: 77 }); // of another name: checked
    await cluster.worker({ name: "honest" });
    said.length = 0;
    expect(await one.take(0, byModel(base))).toEqual(await locally(base, jobsWith(0)));
    expect(one.counts.caught).toBe(1);
    expect(revoked).toEqual([cheat]);
    expect(said.join("\n")).toMatch(/cheat-run-\d+ does not draw as it is told: response \d+ has another token/);
  }, 60_000);
});
