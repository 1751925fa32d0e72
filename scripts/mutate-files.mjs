#!/usr/bin/env node
/**
 * Damaged files against the reference readers: what both accept must have the same content, and nothing may crash, hang
 * or end in an error that is not meant for the person. By hand, not in CI.
 *
 *   node scripts/mutate-files.mjs                                      10,000 of every kind
 *   node scripts/mutate-files.mjs --kinds parquet,gguf --count 1500 --seed 7
 *   node scripts/mutate-files.mjs --kinds gguf --seed 7 --case 123     one of them, in full; --save FILE keeps it
 *   node scripts/mutate-files.mjs --expect 120                         writes test/mutations/expected.json for the suite
 *   node scripts/mutate-files.mjs --python /path/to/python             with safetensors, tokenizers, pyarrow, gguf, transformers
 *
 * Files are made by test/mutations, from their number alone. Each reader runs in a process of its own under a watchdog.
 * The exit code is 1 where something crashed, hung or was read differently.
 */
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { writeFileSync } from "node:fs";
import path from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { fromSource } from "./source.mjs";

const here = path.dirname(fileURLToPath(import.meta.url));
const option = (name, otherwise) => {
  const at = process.argv.indexOf(name);
  return at < 0 ? otherwise : process.argv[at + 1];
};
const root = path.resolve(here, "..");
const src = path.join(root, "src");
/** The package's own name means its source. */
const config = {
  root,
  configFile: false,
  resolve: {
    alias: [
      { find: /^webrlhf$/, replacement: path.join(src, "index.ts") },
      { find: /^webrlhf\/data$/, replacement: path.join(src, "data/index.ts") },
      { find: /^webrlhf\/nn$/, replacement: path.join(src, "nn/index.ts") },
    ],
  },
};
const MODULE = "/test/mutations/read.ts";
const HANG = 5_000;
/** Cases by their number: those of two seeds have no number in common. */
const numberOf = (seed, i) => (seed * 1_000_003 + i) % 2 ** 32;

/** The reader of webrlhf: a line of base64 in, a line of JSON out. */
async function ours(kind) {
  await fromSource(async (load) => {
    const { KINDS } = await load(MODULE);
    const { isUserError } = await load("/src/index.ts");
    process.stdout.write("ready\n");
    for await (const line of createInterface({ input: process.stdin })) {
      let answer;
      try {
        answer = { read: await KINDS[kind].read(new Uint8Array(Buffer.from(line, "base64"))) };
      } catch (error) {
        answer = isUserError(error) ? { refused: error.message } : { crash: String(error?.stack ?? error) };
      }
      process.stdout.write(`${JSON.stringify(answer)}\n`);
    }
  }, config);
}

/** A process that answers one line at a time, and is started again when it dies or hangs. */
class Reader {
  constructor(command, args) {
    Object.assign(this, { command, args, child: null });
  }
  async start() {
    this.errors = "";
    this.child = spawn(this.command, this.args, { stdio: ["pipe", "pipe", "pipe"] });
    this.child.stderr.on("data", (text) => (this.errors = (this.errors + text).slice(-2000)));
    this.child.stdin.on("error", () => {});
    this.lines = createInterface({ input: this.child.stdout })[Symbol.asyncIterator]();
    await this.lines.next(); // "ready"
  }
  async ask(line, limit) {
    if (!this.child) await this.start();
    let timer;
    const late = new Promise((resolve) => {
      timer = setTimeout(() => resolve({ hang: true }), limit);
    });
    this.child.stdin.write(`${line}\n`);
    const answer = await Promise.race([
      this.lines
        .next()
        .then(({ value, done }) => (done ? { ended: true, crash: this.errors || "it ended" } : JSON.parse(value))),
      late,
    ]);
    clearTimeout(timer);
    if (answer.hang || answer.ended) this.stop();
    return answer;
  }
  stop() {
    this.child?.kill("SIGKILL");
    this.child = null;
  }
}

async function main() {
  const python = option("--python", process.env.PYTHON ?? "python3");
  const expects = option("--expect");
  const count = Number(expects ?? option("--count", 10_000));
  const seed = expects ? 0 : Number(option("--seed", 1));
  const expected = {};
  const lanes = Number(option("--lanes", 2));
  const only = option("--case");
  return fromSource(async (load) => {
    const { KINDS } = await load(MODULE);
    const kinds = option("--kinds", Object.keys(KINDS).join(",")).split(",");
    let bad = 0;
    for (const kind of kinds) {
      const { make, argument } = KINDS[kind];
      const readers = Array.from({ length: only ? 1 : lanes }, () => ({
        ours: new Reader(process.execPath, [fileURLToPath(import.meta.url), "--ours", kind]),
        theirs: new Reader(python, [path.join(here, "mutate-files.py"), kind, ...(argument ? [argument] : [])]),
      }));
      const started = Date.now();
      const tally = new Tally(kind, seed);
      expected[kind] = [];
      let next = only ? Number(only) : 0;
      const end = only ? next + 1 : count;
      await Promise.all(
        readers.map(async ({ ours, theirs }) => {
          while (next < end) {
            const i = next++;
            const bytes = make(numberOf(seed, i));
            if (option("--save")) writeFileSync(option("--save"), bytes);
            const line = Buffer.from(bytes).toString("base64");
            const [a, b] = await Promise.all([ours.ask(line, HANG), theirs.ask(line, 4 * HANG)]);
            tally.add(i, a, b);
            const content = b.read === undefined ? "" : createHash("sha256").update(b.read).digest("hex").slice(0, 10);
            // The Rust tokenizers library is not always of one mind with itself.
            const again = expects ? await theirs.ask(line, 4 * HANG) : b;
            expected[kind][i] = again.read === b.read ? content : "";
            if (only) console.log(`webrlhf: ${JSON.stringify(a, null, 1)}\nreference: ${JSON.stringify(b, null, 1)}`);
          }
          ours.stop();
          theirs.stop();
        }),
      );
      bad += tally.print((Date.now() - started) / 1000);
    }
    if (expects) {
      const lists = Object.entries(expected).map(([kind, list]) => [kind, list.join(",")]);
      const text = JSON.stringify(Object.fromEntries(lists), null, 2);
      writeFileSync(path.join(root, "test/mutations/expected.json"), `${text}\n`);
    }
    return bad > 0 ? 1 : 0;
  }, config);
}

class Tally {
  counts = {
    same: 0,
    differ: 0,
    "only webrlhf": 0,
    "only the reference": 0,
    refused: 0,
    crashed: 0,
    hung: 0,
    "reference died": 0,
  };
  classes = new Map();
  examples = [];

  constructor(kind, seed) {
    Object.assign(this, { kind, seed });
  }
  add(i, a, b) {
    const found = (what, message) => {
      this.counts[what]++;
      if (message === undefined) return;
      // Numbers and names differ from case to case; the class is what is left.
      const name = `${what}: ${message
        .replace(/"[^"]*"|'[^']*'|`[^`]*`/g, "…")
        .replace(/-?\d[\d.e+-]*/g, "N")
        .slice(0, 110)}`;
      const known = this.classes.get(name) ?? { count: 0, first: i };
      known.count++;
      this.classes.set(name, known);
    };
    if (a.hang) this.examples.push(`${i} hangs`);
    if (a.crash) this.examples.push(`${i} crashes: ${a.crash.slice(0, 400)}`);
    if (a.hang) found("hung");
    else if (a.crash) found("crashed");
    else if (b.hang || b.crash) found("reference died", b.hang ? "it hung" : b.crash.trim().split("\n").at(-1));
    else if (a.read === undefined) found(b.read === undefined ? "refused" : "only the reference", b.read && a.refused);
    else if (b.read === undefined) found("only webrlhf", b.refused);
    else if (a.read === b.read) found("same");
    else {
      found("differ");
      let at = 0;
      while (a.read[at] === b.read[at]) at++;
      const part = (text) => text.slice(Math.max(0, at - 60), at + 60);
      this.examples.push(`${i} differs:\n      webrlhf   ${part(a.read)}\n      reference ${part(b.read)}`);
    }
  }
  print(seconds) {
    const { counts } = this;
    const total = Object.values(counts).reduce((a, b) => a + b);
    const list = Object.entries(counts).map(([name, n]) => `${name} ${n}`);
    console.log(`${this.kind}: ${total} files of seed ${this.seed} in ${seconds.toFixed(0)} s: ${list.join(", ")}`);
    for (const example of this.examples.slice(0, Number(option("--examples", 8)))) console.log(`  case ${example}`);
    for (const [name, { count, first }] of [...this.classes].sort(([, a], [, b]) => b.count - a.count).slice(0, 40)) {
      console.log(`  ${String(count).padStart(5)} ${name} (case ${first})`);
    }
    return counts.differ + counts.crashed + counts.hung;
  }
}

if (process.argv.includes("--ours")) await ours(option("--ours"));
else process.exitCode = await main();
