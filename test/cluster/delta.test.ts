/** What changed between two versions of a whole model: without loss, bounded, and taken by workers that have the version before. */
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { openDevice } from "webrlhf";
import type { WorkerState } from "webrlhf/cluster";
import { CausalLM } from "webrlhf/nn";
import { jobsOf, runJob } from "webrlhf/rlhf";
import { applied, deltaOf, WrongDelta } from "../../src/cluster/delta.ts";
import { sampling } from "../../src/cluster/kinds.ts";
import { PolicyPublisher, type PublishedPolicy } from "../../src/cluster/policy.ts";
import { ClusterTrainer } from "../../src/cluster/trainer.ts";
import { deflated } from "../../src/runtime/deflate.ts";
import { prompts, tinyConfig } from "../rlhf/tiny.ts";
import { natsServer, TestCluster } from "./server.ts";

/** Weights, and the same after a small step. */
function weights(count: number, step: number, tail = 0): [Uint8Array, Uint8Array] {
  const before = Float32Array.from({ length: count }, (_, i) => Math.sin(i) / 20);
  const after = before.map((x, i) => x + step * Math.cos(7 * i));
  const end = Uint8Array.from({ length: tail }, (_, i) => i + 1);
  const file = (of: Float32Array) => new Uint8Array(Buffer.concat([new Uint8Array(of.buffer), end]));
  return [file(before), file(after)];
}
const same = (a: Uint8Array, b: Uint8Array) => Buffer.from(a).equals(b);

describe("a delta", () => {
  it.each([
    [1e-6, 2.4],
    [1e-5, 2],
    [1e-4, 1.6],
  ])("of a step of %d leads to the same bytes, and is smaller by %d at least", async (step, ratio) => {
    const [from, to] = weights(60_000, step);
    const delta = (await deltaOf(from, to)) as Uint8Array;
    expect(same(await applied(from, delta), to)).toBe(true);
    expect(to.length / delta.length).toBeGreaterThan(ratio);
  });

  it("takes signs, zeros, numbers that are none, bytes after the last number, and files at odd places", async () => {
    const [from, to] = weights(5000, 1e-6, 3);
    const odd = (bytes: Uint8Array) => new Uint8Array(Buffer.concat([Uint8Array.of(0), bytes])).subarray(1);
    new Float32Array(from.buffer, from.byteOffset, 5000).set([0, -0, 1, Number.NaN, Number.NEGATIVE_INFINITY, 3e38]);
    new Float32Array(to.buffer, to.byteOffset, 5000).set([-0, 1e-40, -1, 0, Number.POSITIVE_INFINITY, -3e38]);
    to[to.length - 1] = 99;
    const delta = (await deltaOf(odd(from), odd(to))) as Uint8Array;
    expect(same(await applied(odd(from), odd(delta)), to)).toBe(true);
  });

  it("goes over several blocks, and takes next to nothing for what did not change", async () => {
    const [from] = weights((1 << 20) + 1000, 0);
    const to = from.slice();
    to[4 * (1 << 20) + 8] ^= 1;
    const delta = (await deltaOf(from, to)) as Uint8Array;
    expect(same(await applied(from, delta), to)).toBe(true);
    expect(delta.length).toBeLessThan(from.length / 500);
  });

  it("is none between files that have little in common, or different sizes", async () => {
    const random = () => crypto.getRandomValues(new Uint8Array(40_000));
    expect(await deltaOf(random(), random())).toBeNull();
    expect(await deltaOf(new Uint8Array(8), new Uint8Array(12))).toBeNull();
  });

  it("is refused where it is cut off, too long, of another file, or makes more than the file has", async () => {
    const [from, to] = weights(3000, 1e-6, 2);
    const delta = (await deltaOf(from, to)) as Uint8Array;
    const refused = (bytes: Uint8Array, of = from) => expect(applied(of, bytes)).rejects.toThrow(WrongDelta);
    for (const cut of [0, 3, 7, 11, 100, delta.length - 1]) await refused(delta.slice(0, cut));
    await refused(new Uint8Array([...delta, 0]));
    await refused(delta, from.slice(4));
    await refused(new Uint8Array(delta.length));
    const bomb = await deflated(new Uint8Array(30 << 20));
    const head = (length: number) => new Uint8Array(Uint32Array.of(length).buffer);
    await refused(new Uint8Array(Buffer.concat([delta.subarray(0, 8), head(bomb.length + 2 ** 31), bomb])));
  });
});

describe.skipIf(!natsServer)("a whole model's versions in a cluster", () => {
  let cluster: TestCluster;
  let model: CausalLM;
  beforeAll(async () => {
    await openDevice();
    cluster = await TestCluster.start();
    model = new CausalLM(tinyConfig()).initialize(3);
  });
  afterAll(async () => {
    model?.destroy();
    await cluster?.close();
  });
  afterEach(() => cluster.part());

  let runs = 0;
  const trainer = async () => {
    const options = { run: `deltas-${runs++}`, who: "test", kept: null, say: () => {}, waitsMs: 1500 };
    const one = await ClusterTrainer.open(await cluster.join("trainer"), sampling, options);
    cluster.closing(() => one.close());
    return one;
  };
  /** A worker, and the sizes of the weights' files that it fetches. */
  const watched = async () => {
    const fetched: number[] = [];
    const watch = ({ fetching }: WorkerState) => {
      if (fetching?.done === 0 && /safetensors/.test(fetching.name)) fetched.push(fetching.total);
    };
    return { fetched, end: await cluster.worker({ watch }) };
  };
  const draw = async (one: Awaited<ReturnType<typeof trainer>>, policy: PublishedPolicy, iteration: number) => {
    await one.publish(policy);
    const ids = prompts(2).map((prompt) => prompt.ids);
    const jobs = jobsOf(ids, [0, 1], { iteration, seed: 5, maxNewTokens: 6, promptsPerJob: 1 });
    await one.request(iteration, jobs, { policy, vocabSize: model.config.vocabSize, endIds: model.config.eosIds });
    const results = await one.take(iteration, null);
    for (const [i, job] of jobs.entries()) expect(results[i]).toEqual(await runJob(model, job));
  };
  const learn = (step: number) => {
    for (const { value, size } of model.store.parameters) {
      value.write(Float32Array.from({ length: size }, (_, k) => Math.sin(k) / 10 + step * 1e-5 * Math.cos(k)));
    }
  };

  it("reach a worker as what has changed, and one that has just come whole", async () => {
    const one = await trainer();
    const publisher = new PolicyPublisher("f32", true);
    const first = await watched();
    const sizes: [number, number][] = [];
    for (let version = 0; version < 3; version++) {
      learn(version);
      const policy = await publisher.take(model);
      const whole = policy.files.find(({ name }) => /safetensors/.test(name))?.size as number;
      sizes.push([whole, policy.deltas[0]?.size ?? whole]);
      await draw(one, policy, version);
    }
    expect(first.fetched).toEqual(sizes.map(([, size]) => size));
    expect(sizes[1][1]).toBeLessThan(sizes[1][0] / 1.5);
    await first.end();
    const late = await watched();
    learn(3);
    const policy = await publisher.take(model);
    await draw(one, policy, 3);
    expect(late.fetched).toEqual([sizes[0][0]]);
  });

  it("are taken whole where what has changed leads elsewhere", async () => {
    const one = await trainer();
    const publisher = new PolicyPublisher("f32", true);
    const { fetched } = await watched();
    learn(0);
    await draw(one, await publisher.take(model), 0);
    learn(1);
    const policy = await publisher.take(model);
    const wrong: PublishedPolicy = {
      ...policy,
      async put(store) {
        for (const delta of policy.deltas) await store.put(delta, async () => new Uint8Array(delta.size));
        for (const file of policy.files) await store.put(file, () => policy.get(file));
      },
    };
    await draw(one, wrong, 1);
    const [whole] = fetched;
    expect(fetched).toEqual([whole, policy.deltas[0].size, whole]);
  });

  it("leave nothing behind that nobody needs", async () => {
    const put = new Map<string, number>();
    const { PublishedWeights } = await import("../../src/cluster/weights.ts");
    const { Reach } = await import("../../src/cluster/reach.ts");
    const store = {
      put: async ({ sha256, size }: { sha256: string; size: number }) => void put.set(sha256, size),
      remove: async (sha256: string) => void put.delete(sha256),
      forget: () => put.clear(),
    };
    const weights = new PublishedWeights(store as never, new Reach(() => {}), null);
    const publisher = new PolicyPublisher("f32", true);
    const published: PublishedPolicy[] = [];
    for (let version = 0; version < 4; version++) {
      learn(version);
      published.push(await publisher.take(model));
      await weights.publish(published[version], new Set());
    }
    const kept = published.slice(2).flatMap(({ files, deltas }) => [...files, ...deltas]);
    expect([...put.keys()].sort()).toEqual([...new Set(kept.map(({ sha256 }) => sha256))].sort());
  });
});
