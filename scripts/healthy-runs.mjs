#!/usr/bin/env node
/**
 * Trains ten small runs that go as they should, on the built-in world, and keeps what diagnoses read of them: the runs on which a
 * diagnosis must say nothing.
 *
 *   node scripts/healthy-runs.mjs   writes test/fixtures/healthy-runs.json (minutes on a processor)
 */
import fs from "node:fs";
import path from "node:path";
import { fromSource } from "./source.mjs";

const root = path.resolve(import.meta.dirname, "..");
const start = { modelNameOrPath: path.join(root, "models/world-sft"), seed: 42, saveMinutes: 0 };
const world = { rewardModelPath: "builtin:world", responseLength: 32, temperature: 1 };
const pairs = {
  maxTrainSamples: 256,
  maxEvalSamples: 64,
  perDeviceTrainBatchSize: 16,
  evalSteps: 8,
  numTrainEpochs: 1,
};
const online = { ...world, maxSteps: 12, showRollouts: 8, maxEvalSamples: 32 };
const groups = {
  ...online,
  numGenerations: 4,
  generationBatchSize: 64,
  perDeviceTrainBatchSize: 32,
  learningRate: 5e-4,
};
const rollouts = { ...online, rolloutBatchSize: 64, perDeviceTrainBatchSize: 32, learningRate: 1e-3 };

/** Name: method and settings. */
const runs = {
  sft: ["sft", { ...pairs, maxTrainSamples: 512, learningRate: 2e-4 }],
  reward: ["reward", { ...pairs, maxTrainSamples: 512, learningRate: 2e-3 }],
  dpo: ["dpo", { ...pairs, learningRate: 1e-4, beta: 0.1 }],
  kto: ["kto", { ...pairs, learningRate: 1e-3 }],
  orpo: ["orpo", { ...pairs, learningRate: 1e-4 }],
  ppo: ["ppo", { ...rollouts, klCoef: 0.1, criticLearningRate: 2e-3 }],
  grpo: ["grpo", { ...groups, beta: 0.04 }],
  "grpo-no-reference": ["grpo", { ...groups, beta: 0, seed: 43 }],
  rloo: ["rloo", { ...groups, beta: 0.05 }],
  reinforce: ["reinforce", { ...groups, numGenerations: 1 }],
};

/** Numbers to five digits: enough for any threshold. */
const short = (_, value) => (typeof value === "number" ? Number(value.toPrecision(5)) : value);

await fromSource(async (load) => {
  const { methods, openRun } = await load("/src/open/index.ts");
  const { linesOf } = await load("/src/rlhf/run-lines.ts");
  const { openDevice } = await load("/src/index.ts");
  const { snakeCase } = await load("/src/settings/index.ts");
  await openDevice();
  const kept = {};
  for (const [name, [verb, own]] of Object.entries(runs)) {
    const began = performance.now();
    const table = methods[verb].settings.table;
    const given = Object.entries({ ...start, ...own }).filter(([key]) => Object.hasOwn(table, key));
    const values = methods[verb].settings(Object.fromEntries(given));
    const run = await openRun(methods[verb], values);
    const files = {};
    for await (const event of run.train({ record: null })) {
      for (const { file, rows } of linesOf(event)) files[file] = [...(files[file] ?? []), ...rows];
    }
    run.close();
    const settings = Object.fromEntries(
      Object.entries(values)
        .filter(([, value]) => ["number", "boolean"].includes(typeof value))
        .map(([key, value]) => [snakeCase(key), value]),
    );
    // The newest rollouts, less what no diagnosis reads.
    const last = files["rollouts.jsonl"]?.at(-1).step;
    const shown = (files["rollouts.jsonl"] ?? []).filter(({ step }) => step === last);
    kept[name] = {
      verb,
      settings,
      metrics: files["metrics.jsonl"],
      rollouts: shown.map(({ step, prompt, response, ended, score, kl, values, returns }) => ({
        ...{ step, prompt, response, ended, score, kl, values, returns },
      })),
      seconds: files["timing.jsonl"].map(({ seconds }) => seconds),
    };
    console.log(name, `${Math.round((performance.now() - began) / 1000)} s`);
    fs.writeFileSync(path.join(root, "test/fixtures/healthy-runs.json"), `${JSON.stringify(kept, short)}\n`);
  }
});
process.exit(0);
