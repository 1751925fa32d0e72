#!/usr/bin/env node
/**
 * Runs the configs and command lines of other programs, as they stand there, on tiny models and data that it makes:
 *
 *   npm run build && node scripts/originals/run.mjs [part of a name]
 *
 * `originals.json` has each one's `command` with the keys, flags and values of the original; `pointed` are flags that come
 * behind it and name other models, other data and other sizes, and nothing else. The configs beside it hold the originals' keys
 * and values.
 */
import { spawnSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";

const root = path.resolve(import.meta.dirname, "../..");
const program = path.join(root, "dist/cli/main.js");
const folder = fs.mkdtempSync(path.join(os.tmpdir(), "webrlhf-originals-"));
const at = (name) => path.join(folder, name);

function webrlhf(words) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [program, ...words], {
    cwd: folder,
    encoding: "utf8",
  });
  return { ok: status === 0, output: `${stdout}${stderr}` };
}

function need(words) {
  const { ok, output } = webrlhf(words);
  if (!ok) throw new Error(`webrlhf ${words.join(" ")}\n${output}`);
}

const lines = (name, rows) => fs.writeFileSync(at(name), rows.map((row) => `${JSON.stringify(row)}\n`).join(""));
const each = (make) => Array.from({ length: 16 }, (_, i) => make(`Once there was a cat number ${i}`, i));

/** A tokenizer, a model, a reward model and an adapter, all tiny, and data of every kind. */
function prepare() {
  lines(
    "texts.jsonl",
    each((prompt) => ({ prompt, completion: " and it sat on the mat." })),
  );
  lines(
    "pairs.jsonl",
    each((prompt) => ({ prompt, chosen: " and it sat down.", rejected: " no" })),
  );
  lines(
    "prompts.jsonl",
    each((prompt) => ({ prompt })),
  );
  lines(
    "scored.jsonl",
    each((prompt, i) => ({ prompt, responses: [" sat", " ran", " hid"], rewards: [i, -1, 0.5] })),
  );
  const tiny = "--hidden_size 16 --num_hidden_layers 1 --num_attention_heads 2 --max_position_embeddings 128";
  const go = (words) => need(`${words} --max_steps 1`.split(" "));
  need("tokenizer train --dataset_name texts.jsonl --vocab_size 300 --output_dir tok".split(" "));
  go(`sft --dataset_name texts.jsonl --tokenizer_name_or_path tok --output_dir model ${tiny}`);
  go("sft --model_name_or_path model --use_peft --dataset_name texts.jsonl --output_dir adapter");
  const normalizer = "--normalizer_type ExponentialMovingAverage";
  go(`reward --model_name_or_path model --dataset_name pairs.jsonl --output_dir reward ${normalizer}`);
}

const stands = {
  "@here/": `${import.meta.dirname}/`,
  "@model": at("model"),
  "@reward": at("reward"),
  "@adapter": at("adapter"),
  ...Object.fromEntries(["pairs", "prompts", "texts", "scored"].map((name) => [`@${name}`, at(`${name}.jsonl`)])),
};

const originals = JSON.parse(fs.readFileSync(path.join(import.meta.dirname, "originals.json"), "utf8"));
let failed = 0;
try {
  prepare();
  for (const [i, { name, command, pointed }] of originals.entries()) {
    if (!name.includes(process.argv[2] ?? "")) continue;
    const all = Object.entries({ ...stands, "@out": at(`out-${i}`) });
    const later = pointed.match(/--\w+/g) ?? [];
    // A flag that is pointed elsewhere takes the place of the original's, also where a flag may be repeated.
    const kept = command
      .split(/ (?=--)/)
      .filter((flag) => !later.includes(flag.split(" ")[0]))
      .join(" ");
    const words = all.reduce((text, [stand, path]) => text.replaceAll(stand, path), `${kept} ${pointed}`).split(" ");
    const { ok, output } = webrlhf(words);
    if (!ok) failed++;
    console.log(`${ok ? "ok    " : "FAILED"} ${name}`);
    console.log(output.replace(/^/gm, "       ").trimEnd());
  }
} finally {
  fs.rmSync(folder, { recursive: true, force: true });
}
process.exit(failed ? 1 : 0);
