#!/usr/bin/env node
/**
 * Trains in a cluster whose workers, server and trainer are killed at random, and compares what comes of it with a run that nobody
 * disturbed and that had no cluster.
 *
 *   npm run build
 *   node scripts/kill-cluster.mjs --trials 5
 *   --kills 8        in each trial            --seed 7      other moments and victims
 *   --workers 2      of Node                  --method ppo  another online method: ppo, grpo, rloo, reinforce, iterate
 *   --deno 1         of Deno                  --tabs 1      of Chromium
 *   --steps 10       or iterations            --gap 1       seconds between kills are 0.3 to 2.5 times this; 4 with tabs, else 1
 *   --program FILE   another build            --keep        leave the folders of trials that differ
 *
 * A nats-server is taken from WEBRLHF_NATS_SERVER or the PATH. A kill is SIGKILL of a worker (another one starts), of the server (it
 * starts again a little later, in one of the kills with its store deleted), or of the trainer (which goes on with --resume). In
 * the end the run's files must have the bytes of the undisturbed one's. With tabs, all compute on the SwiftShader that Chromium has:
 * bits are those of a kind of adapter.
 */
import { rmSync } from "node:fs";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { clusterPrograms, freePort } from "./cluster-programs.mjs";
import { denoExecutable } from "./deno.mjs";
import { swiftShader, withTabs } from "./tabs.mjs";
import { contents, differences, randomStream } from "./tiny-trainers.mjs";

const root = path.resolve(import.meta.dirname, "..");
const { values: flags } = parseArgs({
  options: {
    trials: { type: "string", default: "3" },
    kills: { type: "string", default: "6" },
    workers: { type: "string", default: "2" },
    deno: { type: "string", default: "0" },
    tabs: { type: "string", default: "0" },
    seed: { type: "string", default: "1" },
    steps: { type: "string", default: "10" },
    method: { type: "string", default: "grpo" },
    gap: { type: "string" },
    program: { type: "string", default: path.join(root, "dist/cli/main.js") },
    keep: { type: "boolean", default: false },
  },
});
const [nodes, denos, tabs] = [flags.workers, flags.deno, flags.tabs].map(Number);
const gap = 1000 * Number(flags.gap ?? (tabs > 0 ? 4 : 1));
const deno = denos > 0 ? denoExecutable() : null;
const adapter = tabs > 0 ? await swiftShader() : {};
for (const [there, what] of [
  [denos === 0 || deno, "npm has no Deno for this system"],
  [adapter, "@sparticuz/chromium is not installed, so that tabs and the others have no adapter of one kind"],
]) {
  if (there) continue;
  console.error(what);
  process.exit(1);
}
const { program, work, at, start, webrlhf, run, serve } = clusterPrograms({
  program: path.resolve(flags.program),
  env: adapter,
});

/** Words of one method's own. */
const own =
  {
    ppo: `--rollout_batch_size 16 --max_steps ${flags.steps} --logging_steps 1`,
    iterate: `--iterations ${flags.steps} --prompts_per_iteration 8 --num_return_sequences 4 --max_eval_samples 4 --num_train_epochs 1`,
  }[flags.method] ?? `--generation_batch_size 32 --num_generations 4 --max_steps ${flags.steps} --logging_steps 1`;
const training = (folder) => [
  flags.method,
  ...`--model_name_or_path ${at("base")} --reward_model_path builtin:world --use_peft --lora_r 4 ${own}`.split(" "),
  ...`--dataset_name builtin:world --max_train_samples 64 --response_length 24 --per_device_train_batch_size 8`.split(
    " ",
  ),
  ...`--learning_rate 1e-3 --save_steps 2 --prompts_per_job 1 --seed 3 --output_dir ${folder}`.split(" "),
];

/** A worker of each kind that is wanted: what starts one, and another one in its place. */
function helpers(url, cluster, site, link) {
  const words = ["worker", "--cluster", url, "--creds", path.join(cluster, "worker.creds")];
  const kinds = [
    [nodes, "worker", () => webrlhf(...words)],
    [denos, "Deno worker", () => start(deno, ["run", "-A", program, ...words])],
    [tabs, "tab", () => site?.open(link)],
  ];
  return kinds.flatMap(([count, kind, begin]) =>
    Array.from({ length: count }, () => ({ kind, begin, at: begin(), done: 0 })),
  );
}

async function trial(number, expected, site) {
  const chance = randomStream(flags.seed, `trial ${number}`);
  const between = (low, high) => low + (high - low) * chance();
  const cluster = at(`cluster-${number}`);
  const port = await freePort();
  const pages = site ? ["--browsers", "--websocket_port", String(await freePort()), "--page", site.page] : [];
  await run("cluster", "init", "--cluster_dir", cluster, "--port", String(port), ...pages);
  const invited = site ? await run("cluster", "invite", "--cluster_dir", cluster) : null;
  const url = `nats://127.0.0.1:${port}`;
  let server = await serve(cluster);
  const workers = helpers(url, cluster, site, /http\S+#\S+/.exec(invited?.said ?? "")?.[0]);
  const output = at(`out-${number}`);
  const train = (...more) =>
    webrlhf(...training(output), "--cluster", url, "--creds", path.join(cluster, "trainer.creds"), ...more);
  let trainer = train();
  let told = "";
  let over = false;
  const kills = [];
  let wiped = false;
  for (let i = 0; i < Number(flags.kills) && !over; i++) {
    over = await Promise.race([sleep(between(0.3, 2.5) * gap).then(() => false), trainer.ended.then(() => true)]);
    if (over) break;
    const which = chance();
    if (which < 0.5) {
      const victim = Math.floor(between(0, workers.length));
      const one = workers[victim];
      kills.push(`${one.kind} ${victim}`);
      one.done += (await one.at.jobs?.()) ?? 0;
      await one.at.kill("SIGKILL");
      await one.at.ended;
      one.at = one.begin();
    } else if (which < 0.8) {
      server.kill("SIGKILL");
      await server.ended;
      const wipes = !wiped && chance() < 0.6;
      if (wipes) rmSync(path.join(cluster, "store"), { recursive: true, force: true });
      wiped ||= wipes;
      kills.push(wipes ? "server with its store" : "server");
      await sleep(between(50, 1500));
      server = await serve(cluster);
    } else {
      kills.push("trainer");
      trainer.kill("SIGKILL");
      await trainer.ended;
      told += trainer.said;
      trainer = train("--resume");
    }
  }
  const code = await Promise.race([trainer.ended, sleep(240_000).then(() => "no end in 4 minutes")]);
  told += trainer.said;
  await Promise.all(workers.map(({ at }) => at.kill("SIGTERM"))); // they say how much they did
  await Promise.race([Promise.all(workers.map(({ at }) => at.ended)), sleep(10_000)]);
  const all = [...workers.map(({ at }) => at), trainer, server];
  await Promise.all(all.map((child) => child.kill("SIGKILL")));
  await Promise.all(all.map((child) => child.ended));
  const differing = differences(expected, code === 0 ? contents(output) : new Map());
  const did = workers.map(
    ({ kind, at, done }, i) => `${kind} ${i} ${done + Number(/stopped after (\d+)/.exec(at.said)?.[1] ?? 0)}`,
  );
  const good = code === 0 && differing.length === 0;
  console.log(
    `${good ? "ok    " : "FAILED"} trial ${number}: killed ${kills.join(", ")}; jobs, less those of killed processes: ${did.join(", ")}`,
  );
  if (!good)
    console.log(`exit ${code}\n${differing.join("\n")}\n${told}\n${workers.map(({ at }) => at.said).join("\n--\n")}`);
  if (good || !flags.keep) {
    rmSync(output, { recursive: true, force: true });
    rmSync(cluster, { recursive: true, force: true });
  }
  return good;
}

let failed = 0;
async function trials(site) {
  const shape = "--hidden_size 32 --num_hidden_layers 2 --num_attention_heads 2 --max_position_embeddings 96";
  const few =
    "--dataset_name builtin:world --max_train_samples 64 --per_device_train_batch_size 8 --max_steps 8 --seed 3";
  await run("sft", ...`${shape} ${few}`.split(" "), "--output_dir", at("base"));
  const began = Date.now();
  await run(...training(at("undisturbed")));
  const expected = contents(at("undisturbed"));
  console.log(`undisturbed, without a cluster: ${((Date.now() - began) / 1000).toFixed(1)} s, ${expected.size} files`);
  for (let i = 0; i < Number(flags.trials); i++) if (!(await trial(i, expected, site))) failed++;
}
try {
  if (tabs > 0) await withTabs((page, open) => trials({ page, open }));
  else await trials(null);
} finally {
  if (!flags.keep || failed === 0) rmSync(work, { recursive: true, force: true });
}
console.log(
  failed === 0 ? `all ${flags.trials} trials gave the same bytes` : `${failed} of ${flags.trials} trials differ`,
);
process.exit(failed === 0 ? 0 : 1);
