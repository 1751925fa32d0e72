#!/usr/bin/env node
/**
 * How tiny policies learn to act in the built-in environments, by each method and from ten seeds: a policy of whole words imitates a weak player,
 * then learns by itself. Writes docs/results/environments.json and, from all that is in it, docs/results/environments.md.
 *
 *   node scripts/environments.mjs                  what is not measured yet
 *   node scripts/environments.mjs --minutes 5      as much of it as begins within so many minutes
 *   node scripts/environments.mjs --minutes 0      nothing more: the page anew
 *   node scripts/environments.mjs --only guess     one environment
 *   node scripts/environments.mjs --seeds 101,102  other seeds, as settings are sought by: nothing is written
 */
import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { parseArgs } from "node:util";
import { fromSource } from "./source.mjs";

const { values: options } = parseArgs({
  options: { minutes: { type: "string" }, only: { type: "string" }, seeds: { type: "string" } },
});
const root = path.resolve(import.meta.dirname, "..");
const folder = path.join(root, "docs/results");
const SEEDS = Array.from({ length: 10 }, (_, i) => i + 11);
const trying = options.seeds !== undefined;
const seeds = trying ? options.seeds.split(",").map(Number) : SEEDS;

const jsonFile = path.join(folder, "environments.json");
let kept = [];
try {
  if (!trying) kept = JSON.parse(readFileSync(jsonFile, "utf8"));
} catch {
  // Nothing is measured yet.
}

const { ownName: alias } = await fromSource((load) => load("/scripts/own-name.ts"));
const until = Date.now() + 60_000 * Number(options.minutes ?? Number.POSITIVE_INFINITY);
await fromSource(
  async (load) => {
    const { openDevice, closeDevice } = await load("/src/index.ts");
    const { methods, measured } = await load("/test/rlhf/environment/play.ts");
    const { problems } = await load("/test/rlhf/environment/problems.ts");
    await openDevice();
    // Seed by seed: all methods begin where the same imitation ended.
    for (const seed of seeds) {
      for (const [environment, problem] of Object.entries(problems)) {
        if (options.only && options.only !== environment) continue;
        const known = kept.filter((k) => k.environment === environment && k.seed === seed).map(({ method }) => method);
        const missing = Object.keys(methods).filter((method) => !known.includes(method));
        if (missing.length === 0 || Date.now() > until) continue;
        for await (const { method, before, after, seconds } of measured(problem, seed, missing)) {
          const rounded = (x, digits) => Number(x.toFixed(digits));
          const found = { environment, method, seed, before: rounded(before, 4), after: rounded(after, 4) };
          kept.push({ ...found, seconds: rounded(seconds, 1) });
          console.log(JSON.stringify(kept.at(-1)));
          if (trying) continue;
          writeFileSync(jsonFile, `[\n${kept.map((one) => `  ${JSON.stringify(one)}`).join(",\n")}\n]\n`);
          if (Date.now() > until) break;
        }
      }
    }
    closeDevice();
    const names = Object.keys(problems).filter((name) => kept.some(({ environment }) => environment === name));
    if (names.length > 0 && !trying)
      writeFileSync(path.join(folder, "environments.md"), page(names, problems, Object.keys(methods)));
  },
  { root, configFile: false, resolve: { alias } },
);

function page(names, problems, methods) {
  // Methods are compared on the seeds that all of them have.
  const whole = (environment, seed) =>
    methods.every((m) => kept.some((k) => k.environment === environment && k.seed === seed && k.method === m));
  const rows = names.flatMap((environment) =>
    methods.flatMap((method) => {
      const own = kept.filter(
        (k) => k.environment === environment && k.method === method && whole(environment, k.seed),
      );
      if (own.length === 0) return [];
      const { best, enough } = problems[environment];
      const mean = (key) => (own.reduce((sum, k) => sum + k[key], 0) / own.length).toFixed(3);
      const worst = Math.min(...own.map(({ after }) => after)).toFixed(3);
      const reached = own.filter(({ after }) => after >= enough).length;
      const seconds = Math.max(...own.map((k) => k.seconds));
      return `| ${environment} | ${method} | ${mean("before")} | ${mean("after")} | ${worst} | ${best} | ${reached} of ${own.length} (${enough}) | ${seconds} |`;
    }),
  );
  const { imitation, learning } = problems.guess;
  return `# Environments: who learns to act in them

A policy of one layer and whole words as tokens (\`test/rlhf/environment/problems.ts\`: its size, and all settings) imitates a weak player
for ${imitation.steps} steps, then learns by itself from episodes of several turns: ${learning.prompts * learning.samples} in each of ${learning.steps} steps${names.includes("grid") ? ` (of the grid ${problems.grid.learning.steps})` : ""},
${learning.samples} to a prompt. All methods have the same settings, but for PPO's learning rate of ${learning.ppoRate}, which is ${learning.rate} else: a warm-up and a linear
decay, no KL penalty, an entropy bonus of ${learning.entropy}. They were sought on other seeds, below 10 and from 101 on. The reward is the mean of 240 fresh episodes at the
temperature 1, before and after learning. \`node scripts/environments.mjs\` measures what is missing here. Seconds are of learning, of the slowest
seed, on a software adapter with two CPU cores that were shared with much other work.

| environment | method | before | after | worst seed | best there is | seeds that reach it nearly | seconds |
|---|---|---|---|---|---|---|---|
${rows.join("\n")}
`;
}
