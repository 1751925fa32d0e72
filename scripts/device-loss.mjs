#!/usr/bin/env node
/**
 * Takes the GPU device away from training at random moments, and compares what the run leaves with one that kept its.
 *
 *   npm run build
 *   node scripts/device-loss.mjs                        100 losses, spread over every trainer
 *   node scripts/device-loss.mjs --losses 10 --only ppo fewer
 *   --seed 7    other moments        --keep    leave the folders, and print where they are
 *
 * Everything happens in this process, through the command line as a library: the device is destroyed before or after a
 * submit, or while something is read back, wherever that happens to be: in loading, sampling, learning, evaluating, saving.
 * Nobody resumes; the run goes on by itself, on a new device. Each run loses one device, two, or two in a row. Every file of
 * its output folder must equal the undisturbed run's byte for byte, except timing.jsonl, which holds the clock and must have
 * as many lines; and no promise may be rejected without somebody who hears of it.
 *
 * Prints a line per run and `100 of 100 identical`; the exit code is 1 if anything differs.
 */
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
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

const work = mkdtempSync(path.join(tmpdir(), "webrlhf-loss-"));
const tiny = tinyTrainers(work);
const names = flags.only?.split(",") ?? Object.keys(tiny.trainers);
for (const name of names) if (!tiny.trainers[name]) throw new Error(`no trainer ${name}`);

let unheard = 0;
process.on("unhandledRejection", (reason) => {
  unheard += 1;
  console.error("nobody heard of:", reason);
});
process.setMaxListeners(0); // every run listens for Ctrl-C

/** Runs a verb of the program; throws what it said where it failed. */
async function run({ verb, words, folder }) {
  const said = [];
  const say = (text) => void said.push(text);
  const terminal = { tty: false, columns: 80, write: say, line: say, result: say, style: (_, text) => text };
  const code = await main([verb, ...words, "--output_dir", folder], terminal);
  if (code !== 0) throw new Error(`${verb} ended with ${code}:\n${said.slice(-5).join("\n")}`);
}

const linesIn = (file) => (existsSync(file) ? readFileSync(file, "utf8").split("\n").length : 0);

let identical = 0;
let made = 0;
try {
  await openDevice();
  const losses = await losing();
  for (const start of tiny.starts()) await run(start);
  for (const [i, name] of names.entries()) {
    const share = Math.floor((Number(flags.losses) * (i + 1)) / names.length);
    const { words, verb = name } = tiny.trainers[name];
    const undisturbed = path.join(work, name, "undisturbed");
    losses.plan([]);
    await run({ verb, words, folder: undisturbed });
    const expected = contents(undisturbed);
    const moments = losses.passed();
    const random = randomStream(flags.seed, name);
    for (let trial = 1; made < share; trial++) {
      const folder = path.join(work, name, `trial-${trial}`);
      const first = Math.floor(random() * moments);
      const second = first + 1 + Math.floor(random() ** 3 * moments);
      losses.plan(made + 1 < share && random() < 0.5 ? [first, second] : [first]);
      const started = performance.now();
      let verdict = "identical";
      try {
        await run({ verb, words, folder });
        const wrong = differences(expected, contents(folder));
        const timing = (where) => linesIn(path.join(where, "timing.jsonl"));
        if (timing(folder) !== timing(undisturbed)) wrong.push("timing.jsonl");
        if (wrong.length > 0) verdict = `DIFFERS in ${wrong.join(", ")}`;
      } catch (error) {
        verdict = `FAILED: ${error.message}`;
      }
      const lost = losses.happened();
      if (lost.length === 0 && verdict === "identical") continue;
      made += Math.max(1, lost.length);
      if (verdict === "identical") identical += lost.length;
      const seconds = ((performance.now() - started) / 1000).toFixed(1);
      console.log(`${name} ${made}/${share}: lost ${lost.join(" and ")} of ${moments}, ${seconds} s: ${verdict}`);
      if (verdict === "identical" && !flags.keep) rmSync(folder, { recursive: true });
    }
  }
} finally {
  if (flags.keep || identical < made) console.log(`folders are in ${work}`);
  else rmSync(work, { recursive: true, force: true });
}
console.log(`${identical} of ${made} identical, ${unheard} rejections that nobody heard of`);
process.exit(made > 0 && identical === made && unheard === 0 ? 0 : 1);
