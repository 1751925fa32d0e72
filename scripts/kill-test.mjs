#!/usr/bin/env node
/**
 * Kills training with SIGKILL at random moments, resumes it, and compares what it leaves with a run that nobody killed.
 *
 *   npm run build
 *   node scripts/kill-test.mjs                       10 kills of every trainer
 *   node scripts/kill-test.mjs --kills 3 --only ppo  fewer
 *   --seed 7        other moments        --jobs 4    trainers at a time (default 2)
 *   --program FILE  another build        --keep      leave the folders, and print where they are
 *
 * Each trainer runs once to its end on the built-in world with a tiny model that saves after every step or two. Then it
 * runs again and again: killed once or twice, resumed until it is done. A third of the kills wait for the moment a file
 * or folder is being written, some come while the program starts, the others anywhere between two steps. Every file of
 * the output folder must equal the undisturbed run's byte for byte, checkpoint included and without leftovers, except
 * timing.jsonl, which holds the clock.
 *
 * Prints a line per kill and `160 of 160 identical`; the exit code is 1 if anything differs.
 */
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, watch } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { contents, differences, randomStream, tinyTrainers } from "./tiny-trainers.mjs";

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "..");
const { values: flags } = parseArgs({
  options: {
    kills: { type: "string", default: "10" },
    only: { type: "string" },
    seed: { type: "string", default: "1" },
    jobs: { type: "string", default: "2" },
    program: { type: "string", default: path.join(root, "dist/cli/main.js") },
    keep: { type: "boolean", default: false },
  },
});
const program = path.resolve(flags.program);
if (!existsSync(program)) {
  console.error(`${program} is missing: run "npm run build" first`);
  process.exit(1);
}
const work = mkdtempSync(path.join(tmpdir(), "webrlhf-kill-"));
const env = { ...process.env };
if (process.platform === "linux") env.XDG_RUNTIME_DIR ??= tmpdir(); // else lavapipe prints a warning per process

const tiny = tinyTrainers(work);
const { trainers } = tiny;

/** Steps in metrics.jsonl so far. */
function stepsIn(folder) {
  const file = path.join(folder, "metrics.jsonl");
  const lines = existsSync(file) ? readFileSync(file, "utf8").split("\n").slice(0, -1) : [];
  return lines.reduce((step, line) => Math.max(step, JSON.parse(line).step), 0);
}

const unfinished = (folder) =>
  existsSync(folder) ? readdirSync(folder, { recursive: true }).filter((name) => name.includes(".partial-")) : [];

/** Starts the program; `until` resolves at the moment of the kill, or never. Resolves to whether it was killed. */
async function run(verb, words, folder, until) {
  const child = spawn(process.execPath, [program, verb, ...words, "--output_dir", folder], {
    env,
    detached: true, // its own process group, so that nothing of it outlives the kill
    stdio: ["ignore", "ignore", "pipe"],
  });
  let said = "";
  child.stderr.on("data", (bytes) => (said += bytes));
  const started = performance.now();
  const ended = new Promise((resolve) => child.on("close", (code, signal) => resolve({ code, signal })));
  const over = new AbortController();
  if (until) {
    until(over.signal).then(
      () => !over.signal.aborted && process.kill(-child.pid, "SIGKILL"),
      () => {},
    );
  }
  const { code, signal } = await ended;
  over.abort();
  if (signal !== "SIGKILL" && code !== 0) throw new Error(`${verb} ended with ${code ?? signal}:\n${said}`);
  return { killed: signal === "SIGKILL", seconds: (performance.now() - started) / 1000, said };
}

/** Waits until `ready` says yes, looking at every change in the folder and every few milliseconds. */
async function when(folder, signal, ready) {
  let watcher = null;
  let changed = () => {};
  try {
    while (!signal.aborted && !ready()) {
      if (!watcher && existsSync(folder)) watcher = watch(folder, () => changed());
      await Promise.race([new Promise((resolve) => (changed = resolve)), sleep(3)]);
    }
  } finally {
    watcher?.close();
  }
}

/** A random moment of a run that has reached `from` of its steps. */
function moment(random, folder, { from, steps, stepSeconds, startSeconds }) {
  const kind = random();
  const step = from + Math.floor(random() * (steps + 1 - from));
  const fraction = random();
  return async (signal) => {
    if (kind < 0.15) return sleep(fraction * startSeconds * 1000, undefined, { signal }); // while it starts
    await when(folder, signal, () => stepsIn(folder) >= step && (from === 0 || hasGoneOn(folder, from)));
    if (kind < 0.5) {
      // While something is written; then a little later, or at once.
      await when(folder, signal, () => unfinished(folder).length > 0);
      if (fraction > 0.5) await sleep((fraction - 0.5) * 20, undefined, { signal });
      return;
    }
    await sleep(fraction * stepSeconds * 1000, undefined, { signal });
  };
}

/** True once a resumed run has cut its log back and made a step of its own. */
const hasGoneOn = (folder, from) => stepsIn(folder) > Math.min(from, newestCheckpoint(folder));

function newestCheckpoint(folder) {
  const names = existsSync(folder) ? readdirSync(folder) : [];
  return Math.max(0, ...names.flatMap((name) => /^checkpoint-(\d+)$/.exec(name)?.[1] ?? []).map(Number));
}

/** All kills of one trainer. Resolves to [identical, in all]. */
async function test(name, kills) {
  const { steps, words: all, verb = name } = trainers[name];
  const random = randomStream(flags.seed, name);
  const undisturbed = path.join(work, name, "undisturbed");
  const { seconds } = await run(verb, all, undisturbed);
  const expected = contents(undisturbed);
  const rows = readFileSync(path.join(undisturbed, "timing.jsonl"), "utf8").trim().split("\n").map(JSON.parse);
  const last = rows.slice(1).map((row) => row.seconds);
  const stepSeconds = last.reduce((a, b) => a + b, 0) / last.length;
  const startSeconds = Math.max(0.1, seconds - rows.reduce((sum, row) => sum + row.seconds, 0));
  console.log(`${name}: undisturbed run of ${steps} steps in ${seconds.toFixed(1)} s, ${expected.size} files`);

  let made = 0;
  let identical = 0;
  for (let trial = 1; made < kills; trial++) {
    const folder = path.join(work, name, `trial-${trial}`);
    const wanted = Math.min(kills - made, random() < 0.3 ? 2 : 1);
    const moments = [];
    for (let attempt = 0; ; attempt++) {
      const from = stepsIn(folder);
      const earlier = unfinished(folder);
      const until = moments.length < wanted && moment(random, folder, { from, steps, stepSeconds, startSeconds });
      const resume = attempt > 0 ? ["--resume"] : [];
      const { killed, seconds } = await run(verb, [...all, ...resume], folder, until);
      if (!killed) break;
      const fresh = unfinished(folder).filter((file) => !earlier.includes(file));
      const partial = [...new Set(fresh.map((file) => file.replace(/\.partial-.*/, "")))];
      moments.push(
        `after ${seconds.toFixed(2)} s, step ${stepsIn(folder)}, checkpoint ${newestCheckpoint(folder)}` +
          (partial.length > 0 ? `, while writing ${partial.join(", ")}` : ""),
      );
    }
    if (moments.length === 0) continue; // it was done before the kill came
    const wrong = differences(expected, contents(folder));
    for (const text of moments) {
      made += 1;
      if (wrong.length === 0) identical += 1;
      const verdict = wrong.length === 0 ? "resumed, identical" : `resumed, DIFFERS in ${wrong.join(", ")}`;
      console.log(`${name} ${made}/${kills}: killed ${text}: ${verdict}`);
    }
    if (wrong.length === 0 && !flags.keep) rmSync(folder, { recursive: true });
  }
  return [identical, made];
}

const names = flags.only?.split(",") ?? Object.keys(trainers);
for (const name of names) if (!trainers[name]) throw new Error(`no trainer ${name}`);
let identical = 0;
let made = 0;
try {
  for (const { verb, words, folder } of tiny.starts()) await run(verb, words, folder);
  const queue = [...names];
  const worker = async () => {
    for (let next = queue.shift(); next; next = queue.shift()) {
      const [good, all] = await test(next, Number(flags.kills));
      identical += good;
      made += all;
    }
  };
  await Promise.all(Array.from({ length: Math.max(1, Number(flags.jobs)) }, worker));
} finally {
  if (flags.keep || identical < made) console.log(`folders are in ${work}`);
  else rmSync(work, { recursive: true, force: true });
}
console.log(`${identical} of ${made} identical`);
process.exitCode = made > 0 && identical === made ? 0 : 1;
