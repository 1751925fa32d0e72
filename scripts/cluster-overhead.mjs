#!/usr/bin/env node
/**
 * What a cluster costs on one machine: the same jobs drawn here, and by one worker that gets weights and jobs through the server, in turn.
 * Then how long a worker that comes late takes to its first result.
 *
 *   npm run build && node scripts/cluster-overhead.mjs
 *   --rounds 7        how often each, in turn     --jobs 8      of 4 prompts with 8 responses of 48 tokens
 *
 * The policy has an adapter that is another one in each round, so that it travels; the base has travelled before. A nats-server is taken from
 * WEBRLHF_NATS_SERVER or the PATH.
 */
import { readFileSync, rmSync } from "node:fs";
import path from "node:path";
import { parseArgs } from "node:util";
import { clusterPrograms, freePort } from "./cluster-programs.mjs";

const { values: flags } = parseArgs({
  options: { rounds: { type: "string", default: "7" }, jobs: { type: "string", default: "8" } },
});
const root = path.resolve(import.meta.dirname, "..");
const built = (name) => import(path.join(root, "dist", name));
const { work, at, webrlhf, run, serve, endAll } = clusterPrograms();
const [{ openDevice, diskFiles }, { CausalLM, decoderConfig }, { jobsOf, runJob }] = await Promise.all(
  ["index.js", "nn/index.js", "rlhf/index.js"].map(built),
);
const [{ connectCluster }, { sampling }, { ClusterTrainer }, { PolicyPublisher }] = await Promise.all(
  ["cluster/connection.js", "cluster/kinds.js", "cluster/trainer.js", "cluster/policy.js"].map(built),
);
const median = (values) => values.toSorted((a, b) => a - b)[values.length >> 1];

try {
  const port = await freePort();
  await run("cluster", "init", "--cluster_dir", at("cluster"), "--port", String(port));
  await serve(at("cluster"));
  const creds = (name) => at("cluster", `${name}.creds`);
  const url = `nats://127.0.0.1:${port}`;
  const help = () => webrlhf("worker", "--cluster", url, "--creds", creds("worker"));
  const worker = help();
  await worker.says(/works for/);

  await openDevice();
  const vocabSize = 384;
  const sizes = { vocabSize, hiddenSize: 128, layers: 2, heads: 4, maxPositions: 128 };
  const base = new CausalLM(decoderConfig({ family: "llama", ...sizes, eosId: 1, padId: 0 })).initialize(1);
  const policy = new CausalLM({ base, lora: { rank: 8, alpha: 16, targets: "all-linear" } }).initialize(2);
  const files = await diskFiles();
  const access = { url, creds: readFileSync(creds("trainer"), "utf8"), file: "trainer.creds" };
  const options = { run: "overhead", who: "script", kept: { files, folder: at("results") }, say: () => {} };
  const trainer = await ClusterTrainer.open(await connectCluster(access, "overhead"), sampling, options);
  const publisher = new PolicyPublisher();
  const count = Number(flags.jobs);
  const prompts = Array.from({ length: 4 * count }, (_, i) =>
    Uint32Array.from({ length: 16 }, (_, t) => 1 + ((7 * i + t) % 300)),
  );
  const learn = (round) => {
    for (const [i, { value, size }] of policy.store.parameters.entries()) {
      value.write(Float32Array.from({ length: size }, (_, k) => Math.sin(k + i + round) / 50));
    }
  };
  const jobsAt = (iteration) =>
    jobsOf(
      prompts,
      prompts.map((_, i) => i),
      { iteration, samples: 8, seed: 1, maxNewTokens: 48, ignoreEos: true, promptsPerJob: 4 },
    );
  const here = async (iteration) => {
    const began = performance.now();
    for (const job of jobsAt(iteration)) await runJob(policy, job);
    return performance.now() - began;
  };
  const there = async (iteration) => {
    const began = performance.now();
    const published = await publisher.take(policy);
    await trainer.publish(published);
    const drawn = { policy: published, vocabSize, endIds: [] };
    await trainer.request(iteration, jobsAt(iteration), drawn);
    await trainer.take(iteration, null);
    return performance.now() - began;
  };
  const times = { here: [], there: [] };
  for (let round = 0; round <= Number(flags.rounds); round++) {
    learn(round);
    const both = [await here(round), await there(round)];
    if (round === 0) continue; // kernels are compiled, and the base travels
    times.here.push(both[0]);
    times.there.push(both[1]);
  }
  const [alone, cluster] = [median(times.here), median(times.there)];
  const ratios = times.there.map((ms, i) => ms / times.here[i]);
  console.log(
    `${count} jobs of 32 responses: here ${alone.toFixed(0)} ms, by one worker ${cluster.toFixed(0)} ms (medians of ${flags.rounds})`,
  );
  console.log(
    `ratio of the medians ${(cluster / alone).toFixed(3)}, median of the rounds' ratios ${median(ratios).toFixed(3)}`,
  );

  worker.kill("SIGTERM");
  await worker.ended;
  const next = Number(flags.rounds) + 1;
  learn(next);
  const waiting = there(next);
  const began = performance.now();
  const late = help();
  await late.says(/works for/);
  const joined = performance.now();
  while (!trainer.counts.by.size || [...trainer.counts.by.values()].reduce((a, b) => a + b) <= count * next) {
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  const first = performance.now();
  await waiting;
  console.log(
    `a late worker: ${((joined - began) / 1000).toFixed(1)} s until it has joined, its first result ${((first - joined) / 1000).toFixed(1)} s after that`,
  );
  await trainer.close();
} finally {
  await endAll();
  rmSync(work, { recursive: true, force: true });
}
process.exit(0);
