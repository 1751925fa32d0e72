/** Many workers of a real server, of which the trainer serves the fastest; the others take over when those are gone. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { type ClusterConnection, connectCluster, type WorkerState } from "webrlhf/cluster";
import { jobsOf, type SamplingJob } from "webrlhf/rlhf";
import { Greeting } from "../../src/cluster/greeting.ts";
import { sampling } from "../../src/cluster/kinds.ts";
import { helloSubject, inboxOf } from "../../src/cluster/names.ts";
import { packages } from "../../src/cluster/packages.ts";
import type { PublishedPolicy } from "../../src/cluster/policy.ts";
import { statusOf } from "../../src/cluster/status.ts";
import { ClusterTrainer } from "../../src/cluster/trainer.ts";
import { type Skill, work } from "../../src/cluster/work.ts";
import { natsServer, TestCluster } from "./server.ts";

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
const TOKENS = 8;
const FAST = 6;

/** Weights that nobody looks at. */
const weights = (version: number): PublishedPolicy => ({
  ref: { base: [{ name: "none", sha256: version.toString(16).padStart(64, "0"), size: 0 }], adapter: null },
  ...{ files: [], deltas: [], put: async () => {}, get: async () => new Uint8Array() },
});

/** What a job gives, whoever does it. */
const resultOf = ({ id, version, prompts, streams, maxNewTokens }: SamplingJob) => ({
  ...{ id, version },
  responses: prompts.flatMap((prompt, p) =>
    Array.from({ length: streams.length / prompts.length }, (_, k) => ({
      ids: Uint32Array.from({ length: maxNewTokens }, (_, t) => 3 + ((prompt[0] + p + 7 * k + t) % 60)),
      ...{ logProbs: new Float32Array(maxNewTokens).fill(-1), ended: false },
    })),
  ),
});

describe.skipIf(!natsServer)("a trainer among many workers", () => {
  let cluster: TestCluster;
  beforeAll(async () => {
    cluster = await TestCluster.start();
    await cluster.folder.invite("worker", "slow");
  });
  afterAll(() => cluster?.close());
  afterEach(() => cluster.part());

  /** The one link over which weights come. */
  let link: Promise<unknown> = Promise.resolve();
  let fetches: string[] = [];
  /** A worker that draws by waiting. */
  const light = async (member: string, name: string, tokensPerSecond: number) => {
    const connection = await cluster.join(member);
    let held = "";
    let state: WorkerState | null = null;
    const draw: Skill = async (bytes, signal, begins) => {
      const { policy, job } = sampling.decode(bytes);
      if (held !== policy.base[0].sha256) {
        fetches.push(member);
        link = link.then(() => sleep(10));
        await link;
        held = policy.base[0].sha256;
      }
      begins();
      await sleep((1000 * TOKENS) / tokensPerSecond);
      if (signal.aborted) throw signal.reason;
      const result = resultOf(job);
      return { tokens: TOKENS, encoded: (key, drawer) => sampling.encodeResult(key, drawer, result) };
    };
    const stop = new AbortController();
    const watch = (now: WorkerState) => {
      state = now;
    };
    const done = work(connection, { name, adapter: "", signal: stop.signal, roles: ["sample"], watch }, () => ({
      ...{ sample: draw, score: draw },
    })).catch(() => 0);
    const end = async () => {
      stop.abort();
      await done;
    };
    cluster.closing(end);
    return { end, state: () => state, kill: () => connection.nc.close() };
  };
  const opened = async (run: string, connection?: ClusterConnection) => {
    const options = { run, who: "test", kept: null, say: () => {}, waitsMs: 1500 };
    const trainer = await ClusterTrainer.open(connection ?? (await cluster.join("trainer")), sampling, options);
    cluster.closing(() => trainer.close());
    const jobs = (iteration: number) =>
      jobsOf(
        Array.from({ length: 60 }, (_, i) => Uint32Array.of(3 + i)),
        Array.from({ length: 60 }, (_, i) => i),
        { iteration, version: iteration, samples: 1, seed: 1, maxNewTokens: TOKENS, temperature: 1, promptsPerJob: 1 },
      );
    /** A step: gives how many results came from each member. */
    const step = async (iteration: number) => {
      const before = new Map(trainer.counts.by);
      fetches = [];
      const policy = weights(iteration);
      await trainer.publish(policy);
      await trainer.request(iteration, jobs(iteration), { policy, vocabSize: 64, endIds: [2] });
      const results = await trainer.take(iteration, null);
      expect(results.map((result) => sampling.encodeResult("", drawer, result))).toEqual(
        jobs(iteration).map((job) => sampling.encodeResult("", drawer, resultOf(job))),
      );
      const of = (member: string) => (trainer.counts.by.get(member) ?? 0) - (before.get(member) ?? 0);
      return { fast: of("worker"), slow: of("slow") };
    };
    return { trainer, step };
  };
  const drawer = { worker: "", adapter: "", seconds: 0 };

  it("serves the fastest alone, and those that stood by when the fastest have died", async () => {
    const fast: Awaited<ReturnType<typeof light>>[] = [];
    const slow: Awaited<ReturnType<typeof light>>[] = [];
    for (let i = 0; i < FAST; i++) fast.push(await light("worker", `fast-${i}`, 400));
    for (let i = 0; i < 24; i++) slow.push(await light("slow", `slow-${i}`, 20));
    const { trainer, step } = await opened("many");
    let iteration = 0;
    const began = await step(iteration++);
    expect(began.slow).toBeGreaterThan(0); // nothing is known yet
    // Who waits for a job hears with its next hello that it is not needed; those that were not measured yet come in two at a time.
    await expect
      .poll(
        async () => {
          await step(iteration++);
          return slow.filter((one) => one.state()?.at === "standing by").length;
        },
        { timeout: 40_000, interval: 200 },
      )
      .toBeGreaterThanOrEqual(21);
    // A machine that has no time for a while makes a step late, and everybody is let in once more.
    await expect.poll(async () => (await step(iteration++)).slow, { timeout: 30_000 }).toBeLessThanOrEqual(2);
    expect(fetches.filter((member) => member === "slow").length).toBeLessThanOrEqual(2); // neither jobs nor weights
    expect(trainer.workers).toBeLessThanOrEqual(FAST + 2);
    const standBy = { enough: expect.any(Number) };
    expect(slow.map((one) => one.state()?.standBy)).toContainEqual(standBy);
    const { workers } = await statusOf(await cluster.join("trainer"));
    expect(workers.filter(({ member, standsBy }) => standsBy && member === "slow").length).toBeGreaterThan(18);
    expect(workers.filter(({ member, standsBy }) => !standsBy && member === "worker")).not.toHaveLength(0);

    for (const one of fast) await one.kill();
    const at = Date.now();
    const after = await step(iteration++);
    expect(after.fast + after.slow).toBe(60);
    expect(after.slow).toBeGreaterThan(50);
    expect(Date.now() - at).toBeLessThan(30_000);
    expect(trainer.counts).toMatchObject({ refused: 0, caught: 0 });
  }, 150_000);

  it("serves everybody where its credential is from before there were answers", async () => {
    const { createUser, encodeUser, fmtCreds, parseCreds } = await packages.jwt();
    const { uc } = await parseCreds(await readFile(cluster.creds("trainer")));
    const { account } = JSON.parse(await readFile(join(cluster.folder.path, "keys.json"), "utf8"));
    const { pub, sub, resp } = uc.nats as { pub: object; sub: object; resp?: object };
    expect(resp).toMatchObject({ max: 1 });
    const user = createUser();
    const creds = fmtCreds(await encodeUser("trainer", user, account, { pub, sub }), user);
    const access = { url: cluster.url, creds: new TextDecoder().decode(creds), file: "old.creds" };
    const connection = await connectCluster(access, "test");
    cluster.closing(() => connection.nc.close());
    const { step, trainer } = await opened("old", connection);
    for (let i = 0; i < 10; i++) await light("worker", `w-${i}`, 400);
    for (let i = 0; i < 4; i++) expect(await step(i)).toEqual({ fast: 60, slow: 0 });
    await expect.poll(() => trainer.workers, { timeout: 3000 }).toBe(10);
    expect(connection.nc.isClosed()).toBe(false);
  }, 60_000);

  it("answers a worker, and nobody else whom a worker names", async () => {
    await opened("answers");
    const { nc, user } = await cluster.join("worker");
    const listens = await cluster.join("trainer");
    const heard: string[] = [];
    listens.nc.subscribe(`${inboxOf("trainer")}.mine`, { callback: (_, { subject }) => void heard.push(subject) });
    const reply = `${inboxOf(user)}.mine`;
    nc.subscribe(reply, { callback: (_, message) => void heard.push(message.string()) });
    await Promise.all([nc.flush(), listens.nc.flush()]);
    const hello = { worker: "a", adapter: "", webrlhf: "", done: 0, tokensPerSecond: 0, busy: false };
    const say = (to: string, more: object = {}) =>
      nc.publish(helloSubject(user), JSON.stringify({ ...hello, ...more }), { reply: to });
    say(`${inboxOf("trainer")}.mine`);
    say("job.sample.run.key.0");
    say(reply, { roles: ["score"] }); // whom the run has no jobs for
    say(reply);
    await expect.poll(() => heard).toHaveLength(1);
    await sleep(200);
    expect(heard.map((text) => JSON.parse(text))).toEqual([{ run: "answers", standBy: false, enough: 1, holds: 15 }]);
  });

  /** Hears what a member is answered, and what its trainer is not allowed. */
  const listening = async (run: string) => {
    const trainer = await cluster.join("trainer");
    const refused: string[] = [];
    void (async () => {
      for await (const status of trainer.nc.status()) if (status.type === "error") refused.push(status.error.message);
    })();
    await opened(run, trainer);
    const worker = await cluster.join("worker");
    const answers: string[] = [];
    worker.nc.subscribe(`${inboxOf("worker")}.>`, { callback: (_, { subject }) => void answers.push(subject) });
    await Promise.all([worker.nc.flush(), trainer.nc.flush()]);
    return { worker, answers, refused };
  };
  const told = () => ({
    ...{ worker: "a", adapter: "", webrlhf: "", done: 0, tokensPerSecond: 0, busy: true, standsBy: false },
    roles: ["sample" as const],
  });

  it("answers every hello of those that come together", async () => {
    const { worker, answers, refused } = await listening("together");
    const greeting = await Greeting.begin(worker, told(), () => {});
    greeting.hello();
    greeting.hello();
    await expect.poll(() => answers.length).toBe(3);
    greeting.close();
    expect(new Set(answers).size).toBe(3);
    expect(refused).toEqual([]);
  });

  it("goes on to answer after a hello that the server lets it answer once only", async () => {
    const { worker, answers, refused } = await listening("once");
    const say = (reply: string) => worker.nc.publish(helloSubject("worker"), JSON.stringify(told()), { reply });
    const [first, second] = ["first", "second"].map((name) => `${inboxOf("worker")}.${name}`);
    say(first);
    say(first);
    await expect.poll(() => refused).toHaveLength(1);
    say(second);
    await expect.poll(() => answers).toEqual([first, second]);
  });

  it("is waited for while the server is away, though its answer holds no longer", async () => {
    const trainer = await cluster.join("trainer");
    const answer = { run: "brief", standBy: true, enough: 9, holds: 2 };
    trainer.nc.subscribe("hello.*", { callback: (_, message) => void message.respond(JSON.stringify(answer)) });
    await trainer.nc.flush();
    const { state } = await light("worker", "waits", 400);
    await expect.poll(() => state()?.at).toBe("standing by");
    await cluster.kill();
    const lapsed = expect.poll(state, { timeout: 10_000 }).toMatchObject({ at: "away", standBy: null });
    await lapsed.finally(() => cluster.up());
    await expect.poll(() => state()?.at, { timeout: 10_000 }).toMatch(/waiting|standing by/);
  }, 30_000);
});
