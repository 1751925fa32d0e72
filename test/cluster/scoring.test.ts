import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { openDevice } from "webrlhf";
import { CausalLM, ScoreModel } from "webrlhf/nn";
import { scoreSequences } from "webrlhf/rlhf";
import { wrongScores } from "../../src/cluster/check.ts";
import { scoring } from "../../src/cluster/kinds.ts";
import { resultSubject } from "../../src/cluster/names.ts";
import { PolicyPublisher } from "../../src/cluster/policy.ts";
import { JobPool } from "../../src/cluster/pool.ts";
import { decodeScores, decodeScoring, encodeScores, encodeScoring } from "../../src/cluster/score-messages.ts";
import { jobsConsumer, streamsOf } from "../../src/cluster/streams.ts";
import { ClusterTrainer } from "../../src/cluster/trainer.ts";
import { type PolicyRef, Refused, writeResult } from "../../src/cluster/wire.ts";
import { runScoringJob, type ScoringJob, type ScoringResult, scoresByJobs } from "../../src/rlhf/score-jobs.ts";
import { tinyConfig } from "../rlhf/tiny.ts";
import { natsServer, TestCluster } from "./server.ts";

const sequences = Array.from({ length: 30 }, (_, i) => ({
  ids: Uint32Array.from({ length: 3 + (i % 7) }, (_, t) => 1 + ((i * 5 + t * 3) % 20)),
  promptLength: 0,
}));
const job: ScoringJob = { id: "0/0", version: 0, sequences: sequences.slice(0, 3).map(({ ids }) => ids), half: false };
const policy: PolicyRef = { base: [{ name: "config.json", sha256: "a".repeat(64), size: 3 }], adapter: null };
const drawer = { worker: "w", adapter: "none", seconds: 0.5 };
const scores = Float32Array.of(0.5, -1.25, 3);
const result = { id: "0/0", version: 0, scores };

describe("scores on the wire", () => {
  it("are those that were sent, and belong to a job that is what was asked for", async () => {
    const { key, bytes } = await encodeScoring("run", { policy, job });
    expect(decodeScoring(bytes)).toEqual({ policy, job });
    expect((await encodeScoring("run", { policy, job: { ...job, half: true } })).key).not.toBe(key);
    expect(decodeScores(encodeScores(key, drawer, result), { key, job })).toEqual({ ...drawer, result });
    expect(decodeScores(encodeScores(key, drawer, { error: "no" }), { key, job })).toEqual({ ...drawer, error: "no" });
  });

  const hostile: [string, Uint8Array, RegExp][] = [
    ["nothing", new Uint8Array(), /too short/],
    ["another job's", encodeScores("other", drawer, result), /another job/],
    ["another version's", encodeScores("k", drawer, { ...result, version: 1 }), /version 1 and not 0/],
    ["too few", encodeScores("k", drawer, { ...result, scores: scores.slice(1) }), /2 scores and not 3/],
    ["too many", encodeScores("k", drawer, { ...result, scores: new Float32Array(4) }), /4 scores and not 3/],
    ["NaN", encodeScores("k", drawer, { ...result, scores: scores.with(1, Number.NaN) }), /the score NaN/],
    ["infinite", encodeScores("k", drawer, { ...result, scores: scores.with(2, 1 / 0) }), /the score Infinity/],
    ["as large as a book", new Uint8Array(100_000), /more than the job can have/],
    ["without a version", writeResult({ key: "k", drawer }, {}, [scores]), /version undefined/],
    ["in no time", encodeScores("k", { ...drawer, seconds: -1 }, result), /not well-formed/],
  ];
  it.each(hostile)("are refused where they are %s", (_, bytes, why) => {
    expect(() => decodeScores(bytes, { key: "k", job })).toThrow(why);
    expect(() => decodeScores(bytes, { key: "k", job })).toThrow(Refused);
  });

  it("are refused where a worker gets no job, or one with what jobs do not have", async () => {
    const { bytes } = await encodeScoring("run", { policy, job });
    const text = new TextDecoder().decode(bytes);
    for (const changed of [
      text.replace('"version":0', '"version":0,"evil":1'),
      text.replace('"sequences":[[', '"sequences":[[-1,'),
      text.replace(/"sequences":.*\]\]/, '"sequences":[]'),
    ]) {
      expect(changed).not.toBe(text);
      expect(() => decodeScoring(new TextEncoder().encode(changed))).toThrow(/not well-formed/);
    }
  });
});

describe.skipIf(!natsServer)("scoring in a cluster", () => {
  let cluster: TestCluster;
  let lm: CausalLM;
  let whole: ScoreModel;
  let adapted: ScoreModel;
  const said: string[] = [];
  let runs = 0;
  let run = "";
  beforeAll(async () => {
    await openDevice();
    cluster = await TestCluster.start();
    lm = new CausalLM(tinyConfig()).initialize(3);
    whole = new ScoreModel(tinyConfig(), "reward model", "float32", {}).initialize(4);
    adapted = new ScoreModel(
      { base: lm, lora: { rank: 2, alpha: 4, targets: "all-linear" } },
      "reward model",
    ).initialize(5);
    for (const [i, { value, size }] of adapted.store.parameters.entries()) {
      value.write(Float32Array.from({ length: size }, (_, k) => Math.sin(k + i) / 4));
    }
  });
  afterAll(async () => {
    for (const one of [adapted, whole, lm]) one?.destroy();
    await cluster?.close();
  });
  beforeEach(() => {
    run = `scores-${runs++}`;
    said.length = 0;
  });
  afterEach(async () => {
    await cluster.part();
  });

  const entered = async (more: { check?: number; looksBack?: number } = {}) =>
    ClusterTrainer.open(await cluster.join("trainer"), scoring, {
      run,
      who: "test",
      kept: null,
      aloneMs: 0,
      alone: "this program does everything itself",
      say: (line) => void said.push(line),
      waitsMs: 1500,
      ...more,
    });
  const pool = (model: ScoreModel, more: { looksBack?: number } = {}) => {
    const one = new JobPool(() => entered(more), scoring, model);
    cluster.closing(() => one.close());
    return one;
  };
  const scored = (run: (each: ScoringJob) => Promise<ScoringResult>) =>
    scoresByJobs(run, { half: false, most: 4 })(sequences);
  /** The jobs that scoring consists of. */
  const jobs = async () => {
    const all: ScoringJob[] = [];
    await scored(async (each) => {
      all.push(each);
      return { id: each.id, version: 0, scores: new Float32Array(each.sequences.length) };
    });
    return all;
  };

  it("gives the scores that would come from here, to the bit, of whole models and of adapters", async () => {
    await cluster.worker();
    await cluster.worker({ name: "b" });
    const one = await entered();
    cluster.closing(() => one.close());
    for (const [i, model] of [whole, adapted].entries()) {
      const policy = await new PolicyPublisher().take(model);
      await one.publish(policy);
      await one.request(i, await jobs(), { policy });
      const results = await one.take(i, null);
      expect(results.flatMap((each) => [...each.scores])).toEqual([...(await scoreSequences(model, sequences))]);
    }
    expect([...one.counts.by]).toEqual([["worker", 16]]);
  }, 60_000);

  it("is done here where no worker comes, and says so; jobs may come while others are done", async () => {
    const one = pool(whole);
    const [all, again] = await Promise.all(
      [0, 1].map((k) => scored((each) => one.do({ ...each, id: `${k}/${each.id}` }, {}))),
    );
    expect(all).toEqual(await scoreSequences(whole, sequences));
    expect(again).toEqual(all);
    expect(said.join("\n")).toMatch(/no worker has joined: this program does everything itself; start one with/);
    expect(await one.close()).toEqual({ elsewhere: 0, here: 16 });
  }, 60_000);

  it("is left to workers that take such jobs", async () => {
    const end = await cluster.worker({ roles: ["sample"] });
    const one = pool(whole);
    await scored((each) => one.do(each, {}));
    expect((await one.close()).elsewhere).toBe(0);
    expect(await end()).toBe(0);
  }, 60_000);

  it("catches who scores with other weights", async () => {
    const cheat = `cheat-${run}`;
    await cluster.folder.invite("worker", cheat);
    const one = await entered({ check: 1 });
    cluster.closing(() => one.close());
    const policy = await new PolicyPublisher().take(whole);
    await one.publish(policy);
    await one.request(0, await jobs(), { policy });
    const { nc, user } = await cluster.join(cheat);
    const streams = await streamsOf(nc);
    const message = await (await jobsConsumer(streams, "score"))?.next({ expires: 3000 });
    if (!message) throw new Error("there is no job");
    const [, , , key] = message.subject.split(".");
    const wrong = await runScoringJob(adapted, decodeScoring(message.data).job);
    await streams.js.publish(resultSubject(user, run, key), encodeScores(key, drawer, wrong));
    const results = await one.take(0, {
      draw: (each) => runScoringJob(whole, each),
      check: (each, _, given) => wrongScores(whole, each, given),
    });
    expect(results.flatMap((each) => [...each.scores])).toEqual([...(await scoreSequences(whole, sequences))]);
    expect(one.counts.caught).toBe(1);
    expect(said.join("\n")).toMatch(/does not draw as it is told: sequence \d has the score/);
  }, 60_000);

  it("finds what came for one that was killed", async () => {
    const first = await entered();
    const policy = await new PolicyPublisher().take(whole);
    await first.publish(policy);
    await first.request(0, await jobs(), { policy });
    const end = await cluster.worker();
    await first.take(0, null);
    await first.close();
    await end();
    const second = pool(whole, { looksBack: 100 });
    expect(await scored((each) => second.do(each, {}))).toEqual(await scoreSequences(whole, sequences));
    expect(await second.close()).toEqual({ elsewhere: 8, here: 0 });
  }, 60_000);

  it("finds scores right that another adapter has computed, and others wrong", async () => {
    const own = await runScoringJob(whole, job);
    expect(await wrongScores(whole, job, own)).toBeNull();
    expect(await wrongScores(whole, job, { ...own, scores: own.scores.map((x) => x + 1e-5) })).toBeNull();
    expect(await wrongScores(whole, job, { ...own, scores: own.scores.with(1, own.scores[1] + 1e-3) })).toMatch(
      /sequence 1 has the score/,
    );
  });
});
