#!/usr/bin/env node
/**
 * What it costs to learn from the responses of an older policy: `max_staleness` against the true reward in the end, on the built-in
 * world, with and without a correction. Writes docs/results/staleness.json and, from all that is in it, docs/results/staleness.md.
 *
 *   node scripts/staleness.mjs                  what is not measured yet
 *   node scripts/staleness.mjs --minutes 5      as much of it as begins within so many minutes
 *   node scripts/staleness.mjs --minutes 0      nothing more: the page anew
 *   node scripts/staleness.mjs --only ppo       one method
 */
import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { parseArgs } from "node:util";
import { fromSource } from "./source.mjs";

const { values: options } = parseArgs({ options: { minutes: { type: "string" }, only: { type: "string" } } });
const folder = path.resolve(import.meta.dirname, "../docs/results");
const LAGS = [0, 1, 2, 4, 8];
const SEEDS = [1, 2, 3, 4, 5];
const STEPS = 20;
const PROMPTS = 6;
const EACH = 8;
const RATE = 2e-3;

const sizes = { maxSteps: STEPS, responseLength: 16, saveMinutes: 0, showSamples: 0 };
const whole = { perDeviceTrainBatchSize: PROMPTS * EACH, learningRate: RATE, lrSchedulerType: "constant" };
const group = { ...sizes, ...whole, numGenerations: EACH, generationBatchSize: PROMPTS * EACH };
const methods = {
  grpo: { train: "trainGrpo", settings: group, corrections: ["behaviour", "truncated", "none"] },
  ppo: {
    train: "trainPpo",
    settings: {
      ...sizes,
      ...whole,
      rolloutBatchSize: PROMPTS,
      numGenerations: EACH,
      dialect: "trl",
      numPpoEpochs: 1,
      clipRangeScore: null,
    },
    corrections: ["behaviour", "truncated", "none"],
  },
  raft: {
    train: "trainRaft",
    settings: {
      ...sizes,
      ...{ raftBatchSize: PROMPTS, topRewardPercentage: 1 / EACH, outputMinLength: null, monitor: false },
      ...{ perDeviceTrainBatchSize: PROMPTS, numTrainEpochs: 1, learningRate: RATE, dialect: "corrected" },
    },
    corrections: [null],
  },
};

const jsonFile = path.join(folder, "staleness.json");
let kept = [];
try {
  kept = JSON.parse(readFileSync(jsonFile, "utf8"));
} catch {
  // Nothing is measured yet.
}
const key = ({ method, lag, correction, seed }) => `${method} ${lag} ${correction} ${seed}`;
const known = new Set(kept.map(key));
// Seed by seed, so that what breaks off has whole rows of few seeds.
const asked = SEEDS.flatMap((seed) =>
  Object.entries(methods).flatMap(([method, { corrections }]) =>
    LAGS.flatMap((lag) =>
      // Without a lag nothing is to be corrected.
      (lag === 0 ? [null] : corrections).map((correction) => ({ method, lag, correction, seed })),
    ),
  ),
).filter((run) => !known.has(key(run)) && (options.only === undefined || run.method === options.only));

const until = Date.now() + Number(options.minutes ?? 1e6) * 60_000;
const measure = async (load) => {
  const { openDevice, diskFiles } = await load("/src/index.ts");
  const { loadCausalLM } = await load("/src/nn/index.ts");
  const { worldPrompts } = await load("/src/data/index.ts");
  const { openTokenizer } = await load("/src/open/tokenizer.ts");
  const { worldGold } = await load("/src/open/rewards.ts");
  const rlhf = await load("/src/rlhf/index.ts");
  await openDevice();
  const model = path.resolve(import.meta.dirname, "../models/world-sft");
  const tokenizer = await openTokenizer(model);
  const prompts = (n, part) =>
    worldPrompts(n, 1, part).map((text) => ({ text, ids: Uint32Array.from(tokenizer.encode(text)) }));
  const rewards = async (responses) => responses.map((response) => worldGold(response));
  const worth = async (policy) => {
    const inputs = { policy, tokenizer, prompts: prompts(64, "eval"), reward: rewards };
    const { metrics } = await rlhf.evaluatePolicy(inputs, { seed: 1, responseLength: 16 });
    return metrics.reward;
  };
  const open = async () => loadCausalLM(await diskFiles(), model, "policy");
  if (!kept.some(({ method }) => method === "start")) {
    const policy = await open();
    kept.push({ method: "start", lag: 0, correction: null, seed: 0, reward: await worth(policy) });
    policy.destroy();
  }
  for (const run of asked) {
    if (Date.now() > until) break;
    const { method, lag, correction, seed } = run;
    const { train, settings } = methods[method];
    const began = performance.now();
    const policy = await open();
    const chosen = { ...settings, seed, maxStaleness: lag };
    if (correction) chosen.importanceSamplingCorrection = correction;
    let reward = null;
    let difference = 0;
    try {
      for await (const event of rlhf[train]({ policy, tokenizer, rewards }, prompts(256, "train"), chosen)) {
        if (event.type === "step") difference = event.metrics.sampling_logp_difference ?? 0;
      }
      reward = await worth(policy);
    } catch (error) {
      console.error(`${key(run)}: ${error.message}`);
    }
    policy.destroy();
    kept.push({ ...run, reward, difference });
    writeFileSync(jsonFile, `[\n${kept.map((one) => `  ${JSON.stringify(one)}`).join(",\n")}\n]\n`);
    console.log(`${key(run)}: ${reward?.toFixed(3)} in ${((performance.now() - began) / 1000).toFixed(1)} s`);
  }
};
if (asked.length > 0 && Date.now() < until) await fromSource(measure);

const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;
const spread = (values) =>
  Math.sqrt(mean(values.map((v) => (v - mean(values)) ** 2)) * (values.length / Math.max(1, values.length - 1)));
const start = kept.find(({ method }) => method === "start").reward;
const cell = (method, lag, correction) =>
  kept.filter((run) => run.method === method && run.lag === lag && run.correction === correction);
const number = (value) => value.toFixed(2);
const told = (runs) => {
  const rewards = runs.flatMap(({ reward }) => (reward === null ? [] : [reward]));
  if (rewards.length === 0) return "";
  const lost = runs.length > rewards.length ? `, ${runs.length - rewards.length} failed` : "";
  const deviation = rewards.length > 1 ? ` ± ${number(spread(rewards))}` : "";
  return `${number(mean(rewards))}${deviation}${lost}`;
};
const rows = Object.entries(methods)
  .flatMap(([method, { corrections }]) =>
    corrections.map((correction) => ({
      method,
      correction,
      cells: LAGS.map((lag) => cell(method, lag, lag === 0 ? null : correction)),
    })),
  )
  .filter(({ cells }) => cells.every((runs) => runs.length > 0));
/** The first lag at which the mean is below a line, in words. */
const breaks = ({ cells }, line) => {
  const at = LAGS.findIndex((_, i) => {
    const rewards = cells[i].map(({ reward }) => reward ?? Number.NEGATIVE_INFINITY);
    return rewards.length > 0 && mean(rewards) < line;
  });
  return at < 0 ? "never" : String(LAGS[at]);
};
const names = { behaviour: "ratios to who drew", truncated: "truncated weights", none: "none", null: "no ratio" };
const table = rows.map((row) => {
  const base = mean(row.cells[0].map(({ reward }) => reward));
  const shown = row.cells.map(told).join(" | ");
  const half = breaks(row, start + (base - start) / 2);
  return `| ${row.method} | ${names[row.correction]} | ${shown} | ${half} | ${breaks(row, start)} |`;
});
const ratios = new Set(rows.flatMap(({ method, correction }) => (correction ? [method] : [])));
const drift = [...ratios].map((method) => {
  const values = LAGS.slice(1).map((lag) => mean(cell(method, lag, "behaviour").map(({ difference }) => difference)));
  return `| ${method} | ${values.map((value) => value.toFixed(3)).join(" | ")} |`;
});
const seeds = Math.min(...rows.flatMap(({ cells }) => cells.map((runs) => runs.length)));
writeFileSync(
  path.join(folder, "staleness.md"),
  `# Learning from an older policy's responses

\`node scripts/staleness.mjs\` makes this page and [its numbers](staleness.json): the sample model of the built-in world is trained on the
true reward for ${STEPS} updates of ${PROMPTS} prompts with ${EACH} responses each, at a learning rate of ${RATE}, which is high. Iteration i is drawn by
the policy after i - k updates (\`max_staleness\` k). Shown is the true reward on 64 held-out prompts in the end, mean ± deviation
of the seeds that are measured, ${seeds} at least${seeds < 3 ? " (so few say in which direction it goes, not how far)" : ""}; the start has ${number(start)}. The last columns say from which k on the mean is below half of what k = 0 gains, and below the start.

| method | correction | ${LAGS.map((lag) => `k = ${lag}`).join(" | ")} | half | start |
|---|---|${LAGS.map(() => "---|").join("")}---|---|
${table.join("\n")}

How far the policies are apart in the end, as the mean |log-ratio| of a token (\`sampling_logp_difference\`), where ratios are measured
from who drew:

| method | ${LAGS.slice(1)
    .map((lag) => `k = ${lag}`)
    .join(" | ")} |
|---|${LAGS.slice(1)
    .map(() => "---|")
    .join("")}
${drift.join("\n")}
`,
);
