#!/usr/bin/env node
/**
 * How the time to encode grows with the text, for every layout of tokenizer.json in the tests' fixtures and for texts that
 * make others slow. By hand, not in CI.
 *
 *   node scripts/tokenizer-time.mjs                          texts of 10 kB, 100 kB and 1 MB
 *   node scripts/tokenizer-time.mjs --only gemma --largest 100000
 *   node scripts/tokenizer-time.mjs --python /path/to/python beside the Rust library (pip install tokenizers);
 *                                                            writes docs/results/tokenizer-times.md where it does all
 *   node scripts/tokenizer-time.mjs --tokenizer tokenizer.json
 *
 * Seconds are medians of three. The exponent is that of the two largest texts: 1 is linear, 2 is quadratic. The exit code
 * is 1 above 1.5, where the shorter one took long enough to tell.
 */
import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { fromSource } from "./source.mjs";

const root = path.resolve(import.meta.dirname, "..");
const option = (name, otherwise) => {
  const at = process.argv.indexOf(name);
  return at < 0 ? otherwise : process.argv[at + 1];
};
const largest = Number(option("--largest", 1_000_000));
const sizes = [largest / 100, largest / 10, largest];
const texts = {
  english: (n) => "the quick brown fox jumps over it. ".repeat(n / 35),
  "one word": (n) => "abcdefghijklmnopqrstuvwxyz".repeat(n / 26),
  "one letter": (n) => "a".repeat(n),
  capitals: (n) => "A".repeat(n),
  spaces: (n) => `${" ".repeat(n)}x`,
  newlines: (n) => `${" \n".repeat(n / 2)}x`,
  digits: (n) => "1234567890".repeat(n / 10),
  signs: (n) => "!?".repeat(n / 2),
  chinese: (n) => "日本語中文".repeat(n / 5),
  emoji: (n) => "🙂👍🏽".repeat(n / 6),
};

const RUNS = 3;
/** The middle of three. */
const median = (values) => values.toSorted((a, b) => a - b)[1];

/** Seconds of the Rust library for the same texts. */
function rust(python, json, list) {
  const program = `import json,sys,time
from tokenizers import Tokenizer
g,texts=json.load(sys.stdin)
t=Tokenizer.from_str(g)
out=[]
for text in texts:
    runs=[]
    for _ in range(${RUNS}):
        s=time.time(); t.encode(text, add_special_tokens=False); runs.append(time.time()-s)
    out.append(sorted(runs)[len(runs)//2])
print(json.dumps(out))`;
  const run = spawnSync(python, ["-c", program], {
    input: JSON.stringify([JSON.stringify(json), list]),
    encoding: "utf8",
    maxBuffer: 2 ** 28,
  });
  if (run.status !== 0) throw new Error(run.stderr);
  return JSON.parse(run.stdout);
}

/** Writes the page of all layouts. */
function page(rows) {
  const lines = [
    "# The time to encode",
    "",
    "Seconds to encode texts of 10 kB, 100 kB and 1 MB with every layout of tokenizer.json that the tests know, beside the Rust",
    `library in the same run: medians of ${RUNS}, ${os.cpus().length} cores of ${os.cpus()[0].model}, Node ${process.versions.node}. The texts repeat`,
    "what is named: they are those that make tokenizers slow. Made by `node scripts/tokenizer-time.mjs --python ...`.",
    "",
    "| layout | text | 10 kB | 100 kB | 1 MB | Rust, 10 kB | 100 kB | 1 MB |",
    "|---|---|---|---|---|---|---|---|",
    ...rows.map((row) => `| ${row.join(" | ")} |`),
  ];
  writeFileSync(path.join(root, "docs/results/tokenizer-times.md"), `${lines.join("\n")}\n`);
}

const config = {
  root,
  configFile: false,
  resolve: { alias: [{ find: /^webrlhf\/data$/, replacement: path.join(root, "src/data/index.ts") }] },
};
await fromSource(async (load) => {
  const { Tokenizer } = await load("/src/data/index.ts");
  const folder = path.join(root, "test/data/fixtures/tokenizers");
  const own = option("--tokenizer");
  const kinds = own
    ? [own]
    : readdirSync(folder).filter((name) => name !== "strings.json" && name.includes(option("--only", "")));
  const python = option("--python");
  const rows = [];
  let worst = 0;
  for (const name of kinds) {
    const file = JSON.parse(readFileSync(own ?? path.join(folder, name), "utf8"));
    const json = own ? file : file.tokenizer;
    const tokenizer = Tokenizer.fromJson(json, {}, name);
    for (const [kind, make] of Object.entries(texts)) {
      const seconds = sizes.map((size) => {
        const text = make(size);
        const once = () => {
          const start = performance.now();
          tokenizer.encode(text);
          return (performance.now() - start) / 1000;
        };
        return median(Array.from({ length: RUNS }, once));
      });
      const exponent = Math.log10(seconds[2] / Math.max(seconds[1], 1e-3));
      if (seconds[1] > 0.05) worst = Math.max(worst, exponent);
      const shown = (list) => list.map((s) => s.toFixed(3));
      const theirs = python ? shown(rust(python, json, sizes.map(make))) : null;
      const beside = theirs ? ` Rust ${theirs.join(" ")}` : "";
      console.log(
        `${name.padEnd(32)} ${kind.padEnd(10)} ${shown(seconds).join(" ")} s, exponent ${exponent.toFixed(2)}${beside}`,
      );
      if (theirs) rows.push([name.replace(/\.json$/, ""), kind, ...shown(seconds), ...theirs]);
    }
  }
  if (python && !own && !option("--only") && largest === 1_000_000) page(rows);
  console.log(`largest exponent ${worst.toFixed(2)}`);
  process.exitCode = worst > 1.5 ? 1 : 0;
}, config);
