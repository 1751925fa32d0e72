#!/usr/bin/env node
/**
 * Takes the GPU device away from trainers, from verbs that run models and from a server, at random moments, and compares
 * what they leave and answer with what comes of a device that stays.
 *
 *   npm run build
 *   node scripts/device-loss.mjs                        100 losses, spread over all of these
 *   node scripts/device-loss.mjs --losses 10 --only ppo fewer
 *   --seed 7    other moments        --keep    leave the folders, and print where they are
 *
 * Everything happens in this process, through the command line as a library: the device is destroyed before or after a
 * submit, or while something is read back, wherever that happens to be: in loading, sampling, learning, evaluating, saving.
 * Nobody resumes; the work goes on by itself, on a new device. Each trial loses one device, two, or two in a row; and no
 * promise may be rejected without somebody who hears of it.
 *
 * Of a trainer or a verb every file of the output folder must equal the undisturbed run's byte for byte, except timing.jsonl, which
 * holds the clock and must have as many lines. Of the server every request must be answered, with the same texts, tokens and
 * counts. What had 503, or was a stream that broke off, may be asked again; afterwards the server must be well, and its memory
 * must not grow from loss to loss.
 *
 * Prints a line per trial, a table, and `100 of 100 identical`; the exit code is 1 if anything differs.
 */
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
import { askedServer } from "./asked-server.mjs";
import { contents, differences, randomStream, tinyTrainers } from "./tiny-trainers.mjs";

const { values: flags } = parseArgs({
  options: {
    losses: { type: "string", default: "100" },
    only: { type: "string" },
    seed: { type: "string", default: "1" },
    keep: { type: "boolean", default: false },
  },
});
if (process.platform === "linux") process.env.XDG_RUNTIME_DIR ??= tmpdir(); // else lavapipe prints warnings
const { openDevice } = await import("webrlhf");
const { main } = await import("webrlhf/cli");
const { losing } = await import("./losing.mjs");

/** What most people run loses twice as many devices as the rest. */
const MOSTLY = new Set(["sft", "reward", "ppo", "grpo", "raft", "dpo", "iterate", "serve"]);
/** A server's memory may grow by this much, MB, after its first loss. */
const MOST_GROWTH_MB = 300;

const work = mkdtempSync(path.join(tmpdir(), "webrlhf-loss-"));
const tiny = tinyTrainers(work);
const victims = {
  ...Object.fromEntries([...Object.keys(tiny.trainers), ...Object.keys(tiny.verbs)].map((name) => [name, writer])),
  serve: server,
};
const names = flags.only?.split(",") ?? Object.keys(victims);
for (const name of names) if (!victims[name]) throw new Error(`no trainer ${name}`);

let unheard = 0;
process.on("unhandledRejection", (reason) => {
  unheard += 1;
  console.error("nobody heard of:", reason);
});
process.setMaxListeners(0); // every run listens for Ctrl-C

/** Runs a verb of the program; throws what it said where it failed. */
async function run({ verb, words, folder, file }) {
  const said = [];
  const say = (text) => void said.push(text);
  const terminal = { tty: false, columns: 80, write: say, line: say, result: say, style: (_, text) => text };
  const where = file ? ["--output_file", path.join(folder, file)] : ["--output_dir", folder];
  const code = await main([verb, ...words, ...where], terminal);
  if (code !== 0) throw new Error(`${verb} ended with ${code}:\n${said.slice(-5).join("\n")}`);
}

const linesIn = (file) => (existsSync(file) ? readFileSync(file, "utf8").split("\n").length : 0);

/** A verb to disturb that writes a folder: `undisturbed` is the run to compare with, `trial` gives what differs from it. */
function writer(name) {
  const { words, verb = name, file } = tiny.trainers[name] ?? tiny.verbs[name];
  const undisturbed = path.join(work, name, "undisturbed");
  let expected;
  let trials = 0;
  return {
    async undisturbed() {
      await run({ verb, words, folder: undisturbed, file });
      expected = contents(undisturbed);
    },
    async trial() {
      const folder = path.join(work, name, `trial-${++trials}`);
      await run({ verb, words, folder, file });
      const wrong = differences(expected, contents(folder));
      const timing = (where) => linesIn(path.join(where, "timing.jsonl"));
      if (timing(folder) !== timing(undisturbed)) wrong.push("timing.jsonl");
      if (wrong.length === 0 && !flags.keep) rmSync(folder, { recursive: true });
      return { wrong };
    },
    async end() {},
  };
}

/** The server to disturb: it lives through all of its trials. */
function server() {
  let asked;
  let expected;
  let before = 0;
  return {
    async undisturbed() {
      asked = await askedServer(main, tiny.base);
      await asked.round(); // kernels are compiled
      losses.plan([]);
      expected = (await asked.round()).answers;
    },
    async trial() {
      const { answers, again } = await asked.round();
      await asked.healthy();
      const wrong = answers.flatMap((answer, i) => (answer === expected[i] ? [] : [`request ${i}`]));
      globalThis.gc?.();
      const memory = process.memoryUsage().rss / 2 ** 20;
      before ||= memory;
      if (memory > before + MOST_GROWTH_MB) wrong.push(`memory, ${memory.toFixed(0)} MB after ${before.toFixed(0)}`);
      return { wrong, said: `${again} asked again, ${memory.toFixed(0)} MB` };
    },
    end: () => asked?.stop(),
  };
}

/** How many of the losses each gets. */
function sharesOf(total) {
  const weights = names.map((name) => (MOSTLY.has(name) ? 2 : 1));
  const all = weights.reduce((sum, weight) => sum + weight, 0);
  let passed = 0;
  return weights.map((weight) => {
    const from = Math.floor((total * passed) / all);
    passed += weight;
    return Math.floor((total * passed) / all) - from;
  });
}

let losses;
const table = [];
try {
  await openDevice();
  losses = await losing();
  for (const start of tiny.starts()) await run(start);
  for (const [i, share] of sharesOf(Number(flags.losses)).entries()) {
    if (share === 0) continue;
    const name = names[i];
    const victim = victims[name](name);
    const row = { name, losses: 0, identical: 0, trials: 0, seconds: 0 };
    table.push(row);
    try {
      losses.plan([]);
      await victim.undisturbed();
      const moments = losses.passed();
      const random = randomStream(flags.seed, name);
      while (row.losses < share) {
        const first = Math.floor(random() * moments);
        const second = first + 1 + Math.floor(random() ** 3 * moments);
        losses.plan(row.losses + 1 < share && random() < 0.5 ? [first, second] : [first]);
        const started = performance.now();
        let verdict = "identical";
        let more = "";
        try {
          const { wrong, said } = await victim.trial();
          if (wrong.length > 0) verdict = `DIFFERS in ${wrong.join(", ")}`;
          if (said) more = ` (${said})`;
        } catch (error) {
          verdict = `FAILED: ${error.message}`;
        }
        const lost = losses.happened();
        if (lost.length === 0 && verdict === "identical") continue;
        row.trials += 1;
        row.losses += Math.max(1, lost.length);
        if (verdict === "identical") row.identical += lost.length;
        const seconds = (performance.now() - started) / 1000;
        row.seconds += seconds;
        const where = `lost ${lost.join(" and ")} of ${moments}, ${seconds.toFixed(1)} s`;
        console.log(`${name} ${row.losses}/${share}: ${where}: ${verdict}${more}`);
      }
    } finally {
      losses.plan([]);
      await victim.end();
    }
  }
} finally {
  if (flags.keep || table.some((row) => row.identical < row.losses)) console.log(`folders are in ${work}`);
  else rmSync(work, { recursive: true, force: true });
}
const column = (text, width) => String(text).padStart(width);
console.log(`\n${"".padEnd(16)}  losses  identical  trials  seconds`);
for (const { name, losses: lost, identical, trials, seconds } of table) {
  const numbers = [column(lost, 8), column(identical, 11), column(trials, 8), column(seconds.toFixed(0), 9)];
  console.log(name.padEnd(16) + numbers.join(""));
}
const sum = (key) => table.reduce((total, row) => total + row[key], 0);
const made = sum("losses");
const identical = sum("identical");
console.log(`${unheard} rejections that nobody heard of`);
console.log(`${identical} of ${made} identical`);
process.exit(made > 0 && identical === made && unheard === 0 ? 0 : 1);
