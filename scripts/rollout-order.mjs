#!/usr/bin/env node
/**
 * What `--rollout_order any` changes beside `exact`: time and reward of one GRPO run whose responses are drawn by two workers, of
 * which one takes so many times as long for a job as the other.
 *
 *   node scripts/rollout-order.mjs --slower 4 --steps 12 --seeds 3
 *
 * The sample model of the built-in world learns from the true reward. A nats-server is taken from WEBRLHF_NATS_SERVER or the PATH. All
 * compute on one adapter of this machine, so that times are those of waiting: a worker's own is `--ms` for a job, at least.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { fromSource } from "./source.mjs";

const { values } = parseArgs({
  options: {
    slower: { type: "string", default: "4" },
    ms: { type: "string", default: "250" },
    steps: { type: "string", default: "12" },
    seeds: { type: "string", default: "3" },
    staleness: { type: "string", default: "1,2,4" },
  },
});
const [slower, ms, maxSteps, seeds] = [values.slower, values.ms, values.steps, values.seeds].map(Number);
const model = path.resolve(import.meta.dirname, "../models/world-sft");
const { ownName: alias } = await fromSource((load) => load("/scripts/own-name.ts"));

async function measure(load) {
  const { openDevice, diskFiles } = await load("/src/index.ts");
  const { loadCausalLM } = await load("/src/nn/index.ts");
  const { worldPrompts } = await load("/src/data/index.ts");
  const { openTokenizer } = await load("/src/open/tokenizer.ts");
  const { worldGold } = await load("/src/open/rewards.ts");
  const rlhf = await load("/src/rlhf/index.ts");
  const { clusterSource } = await load("/src/cluster/source.ts");
  const { ClusterTrainer } = await load("/src/cluster/trainer.ts");
  const { sampling } = await load("/src/cluster/kinds.ts");
  const { TestCluster } = await load("/test/cluster/server.ts");
  const { HeldPolicy } = await load("/src/cluster/policy.ts");
  await openDevice();
  const tokenizer = await openTokenizer(model);
  const prompts = (n, part) =>
    worldPrompts(n, 1, part).map((text) => ({ text, ids: Uint32Array.from(tokenizer.encode(text)) }));
  const rewards = async (responses) => responses.map((response) => worldGold(response));
  const cluster = await TestCluster.start();
  /** Weights that are so late that a job takes its time. */
  class Slow extends HeldPolicy {
    constructor(wait) {
      super();
      this.wait = wait;
    }
    async model(...asked) {
      const found = await super.model(...asked);
      await sleep(this.wait);
      return found;
    }
  }
  const rows = [];
  try {
    for (const maxStaleness of values.staleness.split(",").map(Number)) {
      for (const rolloutOrder of ["exact", "any"]) {
        const found = [];
        for (let seed = 1; seed <= seeds; seed++) {
          await cluster.worker({ name: "quick", held: new Slow(ms) });
          await cluster.worker({ name: "slow", held: new Slow(slower * ms) });
          const dir = await mkdtemp(path.join(tmpdir(), "webrlhf-order-"));
          const files = await diskFiles();
          const run = `${rolloutOrder}-${maxStaleness}-${seed}`;
          const source = clusterSource(
            async () =>
              ClusterTrainer.open(await cluster.join("trainer"), sampling, {
                ...{ run, who: "measured", kept: { files, folder: dir }, say: () => {} },
                looksBack: 0,
              }),
            { onPolicy: false, promptsPerJob: 2 },
          );
          const policy = await loadCausalLM(await diskFiles(), model, "policy");
          const settings = {
            ...{ maxSteps, responseLength: 16, saveMinutes: 0, showSamples: 0, seed, maxStaleness, rolloutOrder },
            ...{ perDeviceTrainBatchSize: 64, generationBatchSize: 64, numGenerations: 8 },
            ...{ learningRate: 1e-3, lrSchedulerType: "constant" },
          };
          const began = performance.now();
          let staleness = 0;
          let dropped = 0;
          for await (const event of rlhf.trainGrpo(
            { policy, tokenizer, rewards, source },
            prompts(256, "train"),
            settings,
          )) {
            if (event.type !== "step") continue;
            staleness += event.metrics.staleness ?? 0;
            dropped += event.metrics["rollouts/stale_dropped"] ?? 0;
          }
          const seconds = (performance.now() - began) / 1000;
          const inputs = { policy, tokenizer, prompts: prompts(64, "eval"), reward: rewards };
          const { metrics } = await rlhf.evaluatePolicy(inputs, { seed: 1, responseLength: 16 });
          found.push({ seconds, staleness: staleness / maxSteps, dropped, reward: metrics.reward });
          console.error(run, found.at(-1));
          policy.destroy();
          await cluster.part();
          await rm(dir, { recursive: true, force: true });
        }
        rows.push({ maxStaleness, rolloutOrder, found });
      }
    }
  } finally {
    await cluster.close();
  }
  const mean = (all) => all.reduce((a, b) => a + b, 0) / all.length;
  const told = (all, digits) => {
    const spread = Math.sqrt(mean(all.map((x) => (x - mean(all)) ** 2)) * (all.length / Math.max(1, all.length - 1)));
    return `${mean(all).toFixed(digits)} ± ${spread.toFixed(digits)}`;
  };
  console.log(
    "| max_staleness | rollout_order | seconds | updates behind | dropped | reward in the end |\n|---|---|---|---|---|---|",
  );
  for (const { maxStaleness, rolloutOrder, found } of rows) {
    const of = (key, digits) =>
      told(
        found.map((one) => one[key]),
        digits,
      );
    const cells = [
      of("seconds", 1),
      of("staleness", 2),
      mean(found.map(({ dropped }) => dropped)).toFixed(0),
      of("reward", 2),
    ];
    console.log(`| ${maxStaleness} | ${rolloutOrder} | ${cells.join(" | ")} |`);
  }
}
await fromSource(measure, { root: path.resolve(import.meta.dirname, ".."), configFile: false, resolve: { alias } });
