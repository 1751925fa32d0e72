#!/usr/bin/env node
/* biome-ignore-all lint/suspicious/noTemplateCurlyInString: recipes hold references of this form */
/**
 * Kills every verb that writes at single operations on files, runs it again, and compares what it leaves with a run that
 * nobody killed.
 *
 *   npm run build
 *   node scripts/kill-everywhere.mjs --trials 300
 *   --only sft,recipe   some cases        --seed 7   other moments        --jobs 2   cases at a time
 *   --program FILE      another build     --keep     leave the folders of trials that differ
 *
 * A run's operations (files made, written, synced, renamed, deleted) are counted by scripts/kill-hook.mjs. In a trial the
 * program ends before, half-way through or after one of them: by SIGKILL, by SIGKILL with a loss of what was not yet synced,
 * as when the power goes, by SIGTERM or by SIGHUP. A case's trials lie all over its run, each at a moment drawn at random in
 * its part. Then it runs again, trainers with --resume, and every file must have the same bytes as in the undisturbed run,
 * with nothing left over, no empty folder either; only timing.jsonl and the seconds of recipes' records and reports hold the
 * clock. Half of the trainers run by default settings, the others save by time at every step. A verb that has no case is an
 * error.
 */
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import { writeSafetyPairs } from "./tiny-trainers.mjs";

const root = path.resolve(import.meta.dirname, "..");
const { values: flags } = parseArgs({
  options: {
    trials: { type: "string", default: "60" },
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
const hook = pathToFileURL(path.join(root, "scripts/kill-hook.mjs")).href;
const work = mkdtempSync(path.join(tmpdir(), "webrlhf-kill-"));
const at = (...names) => path.join(work, ...names);
const [base, judge, lora] = ["base", "judge", "lora"].map((name) => at("made", name));

const shape = "--hidden_size 16 --num_hidden_layers 1 --num_attention_heads 2 --max_position_embeddings 64".split(" ");
const few = "--max_train_samples 24 --per_device_train_batch_size 4 --learning_rate 1e-3 --seed 3".split(" ");
const held = "--max_eval_samples 4 --eval_steps 3".split(" ");
const steps = "--max_steps 5".split(" ");
const often = "--save_minutes 0.000001".split(" ");
const policy = ["--model_name_or_path", base];
const judged = ["--reward_model_path", judge];
const aligned = [...policy, ...judged, ...few];
const safety = at("safety.jsonl");
const rounds = [
  ..."--iterations 2 --prompts_per_iteration 6 --num_return_sequences 2 --response_length 6".split(" "),
  ..."--max_eval_samples 4 --num_train_epochs 1".split(" "),
];
const groups = "--max_steps 3 --num_generations 2 --generation_batch_size 4 --response_length 6".split(" ");

/** Words of each verb. `{out}` is the case's own folder, `{server}` a server's address; `again` is said when it goes on. */
const train = (verb, words) => ({ verb, words: [...words, "--output_dir", "{out}/run"], again: ["--resume"] });
const make = (verb, words) => ({ verb, words, again: [] });
const cases = {
  sft: train("sft", [...shape, ...few, ...held, ...steps]),
  "sft-often": train("sft", [...shape, ...few, ...held, ...steps, ...often]),
  "sft-lora": train("sft", [...policy, "--use_peft", "true", "--lora_r", "2", ...few, ...steps, "--save_steps", "2"]),
  reward: train("reward", [...policy, ...few, ...held, ...steps, ...often, "--save_steps", "2"]),
  cost: train("cost", [...policy, "--dataset_name", safety, "--test_size", "0.2", ...few, ...held, ...steps]),
  "multi-objective": train("multi-objective", [
    ...[...policy, "--preference_dataset_name", "builtin:domains", "--verbosity_attribute", "long", ...few, ...held],
    ..."--max_preference_samples 24 --gating_hidden_dim 8 --max_steps 3".split(" "),
  ]),
  dpo: train("dpo", [...policy, ...few, ...held, ...steps]),
  kto: train("kto", [...policy, ...few, ...held, ...steps, ...often]),
  orpo: train("orpo", [...policy, ...few, ...held, ...steps]),
  cpo: train("cpo", [...policy, ...few, ...held, ...steps, ...often]),
  pairwise: train("pairwise", [...policy, ...few, ...held, ...steps, ...often]),
  ppo: train("ppo", [...aligned, ..."--max_steps 3 --rollout_batch_size 4 --response_length 6".split(" ")]),
  "ppo-often": train("ppo", [
    ...aligned,
    ...often,
    ..."--max_steps 3 --rollout_batch_size 4 --response_length 6 --save_steps 2 --offload_level freeze_model".split(
      " ",
    ),
  ]),
  grpo: train("grpo", [...aligned, ...groups, ...often]),
  rloo: train("rloo", [...aligned, ...groups]),
  reinforce: train("reinforce", [...aligned, ...groups, ...often]),
  raft: train("raft", [
    ...aligned,
    ...often,
    ..."--num_raft_iteration 3 --raft_batch_size 4 --top_reward_percentage 0.5 --output_max_length 6".split(" "),
    ..."--output_min_length 2".split(" "),
  ]),
  "raft-server": train("raft", [
    ...[...aligned, "--server", "{server}", "--use_peft", "--lora_r", "2"],
    ..."--num_raft_iteration 2 --raft_batch_size 4 --top_reward_percentage 0.5 --output_max_length 6".split(" "),
  ]),
  iterate: train("iterate", [...aligned, ...often, ...rounds]),
  "iterate-server": train("iterate", [
    ...[...aligned, ...rounds, "--server", "{server}", "--use_peft", "--lora_r", "2"],
  ]),
  evaluate: make("evaluate", [
    ...[...policy, ...judged, "--num_prompts", "4", "--response_length", "6"],
    ...["--output_dir", "{out}/evaluated"],
  ]),
  "evaluate-reward": make("evaluate", [
    ...[
      "reward",
      ...judged,
      "--dataset_name",
      "builtin:world",
      "--num_prompts",
      "4",
      "--output_dir",
      "{out}/evaluated",
    ],
  ]),
  score: make("score", [at("made", "answers.jsonl"), ...judged, "--output_file", "{out}/scored.jsonl"]),
  generate: make("generate", [
    ...[...policy, "--num_prompts", "4", "--num_return_sequences", "2", "--max_new_tokens", "6"],
    ...["--output_format", "responses", "--output_file", "{out}/responses.jsonl"],
  ]),
  annotate: make("annotate", [
    ...["--input_file", at("made", "responses.jsonl"), ...judged, "--rows_at_once", "1"],
    ...["--output_file", "{out}/rewards.jsonl"],
  ]),
  pairs: make("pairs", ["--input_file", at("made", "rewards.jsonl"), "--output_file", "{out}/pairs.jsonl"]),
  convert: make("convert", [...policy, "--dtype", "bfloat16", "--output_dir", "{out}/half"]),
  merge: make("merge", ["--adapter_path", lora, "--output_dir", "{out}/merged"]),
  tokenizer: make("tokenizer", [
    ...["train", "--dataset_name", at("made", "answers.jsonl"), "--vocab_size", "260", "--output_dir", "{out}/tok"],
  ]),
  data: make("data", ["prepare", "--dataset_name", at("made", "answers.jsonl"), "--output_dir", "{out}/data"]),
  "data-convert": make("data", [
    ...["convert", "--dataset_name", at("made", "answers.jsonl"), "--to", "text2text", "--output_dir", "{out}/data"],
  ]),
  "data-describe": make("data", [
    ...["describe", "--dataset_name", at("made", "answers.jsonl"), "--output_file", "{out}/described.json"],
  ]),
  report: make("report", [at("made"), "--output_dir", "{out}/report"]),
  figure: make("figure", [at("made"), "--metrics", "loss", "--output_path", "{out}/figure"]),
  recipe: make("run", [at("recipe.json"), "--output_dir", "{out}/all"]),
  "recipe-policies": make("run", [at("policies.json"), "--output_dir", "{out}/all"]),
};
/** Verbs that leave no files. */
const unwritten = ["chat", "serve", "worker", "cluster"];

const option = (words) => {
  const names = words.flatMap((word, i) => (word.startsWith("--") ? [[word.slice(2), words[i + 1]]] : []));
  return Object.fromEntries(names);
};
const figureStage = {
  name: "figure",
  verb: "figure",
  options: { input_dir: "${output_dir}", metrics: ["loss"], output_path: "${output_dir}/figure/loss" },
};
const reportStage = { name: "report", verb: "report", options: { input_dir: "${output_dir}" } };
const recipe = {
  name: "killed",
  stages: [
    {
      name: "tokenizer",
      verb: "tokenizer",
      options: { dataset_name: at("made", "answers.jsonl"), vocab_size: 260 },
    },
    { name: "sft", verb: "sft", options: option([...shape, ...few, ...steps]) },
    {
      name: "reward",
      verb: "reward",
      options: { model_name_or_path: "${output_dir}/sft", ...option([...few, ...steps]) },
    },
    {
      name: "lora",
      verb: "dpo",
      options: { model_name_or_path: "${output_dir}/sft", use_peft: true, lora_r: 2, ...option([...few, ...steps]) },
    },
    { name: "merged", verb: "merge", options: { adapter_path: "${output_dir}/lora" } },
    {
      name: "measured",
      verb: "evaluate",
      options: {
        model_name_or_path: "${output_dir}/merged",
        reward_model_path: "${output_dir}/reward",
        num_prompts: 4,
        response_length: 6,
      },
    },
    figureStage,
    reportStage,
  ],
};
/** A stage that is one of the cases. */
const stageOf = (name) => ({ name, verb: cases[name].verb, options: option(cases[name].words.slice(0, -2)) });
const policies = {
  name: "policies",
  stages: [...["cost", "multi-objective", "pairwise", "ppo", "raft", "iterate"].map(stageOf), figureStage, reportStage],
};

/** A stream of numbers in [0, 1) of its own for each case. */
function randomStream(name) {
  let count = 0;
  return () => createHash("sha256").update(`${flags.seed} ${name} ${count++}`).digest().readUInt32LE(0) / 2 ** 32;
}

const surroundings = { ...process.env, XDG_RUNTIME_DIR: process.env.XDG_RUNTIME_DIR ?? tmpdir() };

/** Runs the program to its end, whatever that is. */
async function run(verb, words, env = {}) {
  const preload = Object.keys(env).length > 0 ? ["--import", hook] : [];
  const child = spawn(process.execPath, [...preload, program, verb, ...words], {
    env: { ...surroundings, ...env },
    stdio: ["ignore", "ignore", "pipe"],
  });
  let said = "";
  child.stderr.on("data", (bytes) => (said += bytes));
  const { code, signal } = await new Promise((resolve) =>
    child.on("close", (code, signal) => resolve({ code, signal })),
  );
  return { code, signal, said };
}

async function succeed(...words) {
  const { code, signal, said } = await run(...words);
  if (code !== 0) throw new Error(`${words.flat().join(" ")} ended with ${code ?? signal}:\n${said}`);
}

/** Every file below a folder with the hash of its bytes, less the clock's part, and every folder. */
function contents(folder) {
  const hash = (name) => {
    const file = path.join(folder, name);
    if (statSync(file).isDirectory()) return "a folder";
    let bytes = readFileSync(file);
    if (path.basename(name) === "done.json") bytes = JSON.stringify({ ...JSON.parse(String(bytes)), seconds: 0 });
    // A report of stages says how long they took.
    if (/report\.html$|summary\.json$/.test(name)) {
      bytes = String(bytes).replace(/[\d.]+ s\b|\b\d+s\b|\b\d+:\d\d\b|"seconds": [\d.]+/g, "some time");
    }
    return createHash("sha256").update(bytes).digest("hex");
  };
  return new Map(
    readdirSync(folder, { recursive: true })
      .filter((name) => path.basename(name) !== "timing.jsonl")
      .sort()
      .map((name) => [name, hash(name)]),
  );
}

function differences(expected, found) {
  const names = [...new Set([...expected.keys(), ...found.keys()])];
  return names.filter((name) => expected.get(name) !== found.get(name));
}

const ways = [
  { signal: "SIGKILL" },
  { signal: "SIGKILL" },
  { signal: "SIGKILL", lose: true },
  { signal: "SIGTERM" },
  { signal: "SIGHUP" },
];

/** The trials of one case. Resolves to how many ended identical. */
async function test(name, trials, server) {
  const { verb, words, again } = cases[name];
  const out = at(name);
  const own = words.map((word) => word.replace("{out}", out).replace("{server}", server));
  const random = randomStream(name);
  const fresh = () => {
    rmSync(out, { recursive: true, force: true });
    mkdirSync(out, { recursive: true });
  };
  fresh();
  const counter = at(`${name}.count`);
  await succeed(verb, own, { KILL_COUNT: counter, KILL_ROOT: out });
  const operations = Number(readFileSync(counter, "utf8"));
  const expected = contents(out);
  console.log(`${name}: ${operations} operations, ${expected.size} files`);
  let identical = 0;
  for (let trial = 1; trial <= trials; trial++) {
    fresh();
    const { signal, lose } = ways[Math.floor(random() * ways.length)];
    const when = ["before", "half", "after"][Math.floor(random() * 3)];
    const moment = 1 + Math.floor(((trial - 1 + random()) / trials) * operations);
    const env = { KILL_ROOT: out, KILL_AT: String(moment), KILL_WHEN: when, KILL_SIGNAL: signal };
    const killed = await run(verb, own, { ...env, ...(lose && { KILL_LOSE: "1" }) });
    const left = readdirSync(out, { recursive: true }).length;
    const { code, said } = await run(verb, [...own, ...again]);
    const wrong =
      code === 0 ? differences(expected, contents(out)) : [`exit code ${code}: ${said.trim().split("\n").at(-1)}`];
    if (wrong.length === 0) identical += 1;
    const how = `${signal}${lose ? " and a loss" : ""} ${when} operation ${moment}`;
    const ended = `${killed.signal ?? killed.code}, ${left} files`;
    console.log(
      `${name} ${trial}/${trials}: ${how} (${ended}): ${wrong.length === 0 ? "identical" : `DIFFERS: ${wrong}`}`,
    );
    if (wrong.length > 0 && flags.keep) break;
  }
  if (identical === trials || !flags.keep) rmSync(out, { recursive: true, force: true });
  return identical;
}

/** A server of the tiny model, which takes adapters from the cases' folders. */
async function serve() {
  const words = [...policy, "--port", "0", "--lora_folders", work];
  const child = spawn(process.execPath, [program, "serve", ...words], { env: surroundings, stdio: "pipe" });
  let said = "";
  const url = await new Promise((resolve, reject) => {
    for (const stream of [child.stdout, child.stderr]) {
      stream.on("data", (bytes) => {
        said += bytes;
        const found = /(http:\/\/\S+)\/v1/.exec(said);
        if (found) resolve(found[1]);
      });
    }
    child.on("close", () => reject(new Error(`the server ended:\n${said}`)));
  });
  return { url, stop: () => child.kill("SIGKILL") };
}

async function prepare() {
  const { verbNames } = await import(pathToFileURL(path.join(path.dirname(program), "verbs/index.js")).href);
  const verbs = new Set([...Object.values(cases).map(({ verb }) => verb), ...unwritten]);
  const missing = verbNames().filter((verb) => !verbs.has(verb));
  if (missing.length > 0) throw new Error(`no case of ${missing.join(", ")}`);
  mkdirSync(at("made"), { recursive: true });
  writeSafetyPairs(safety);
  writeFileSync(at("policies.json"), JSON.stringify(policies));
  writeFileSync(at("recipe.json"), JSON.stringify(recipe));
  const row = (i) => JSON.stringify({ prompt: `Tim had a ${["dog", "cat", "hat"][i % 3]}.`, completion: " He ran." });
  writeFileSync(at("made", "answers.jsonl"), Array.from({ length: 6 }, (_, i) => `${row(i)}\n`).join(""));
  await succeed("sft", [...shape, ...few, "--max_steps", "20", "--output_dir", base]);
  await succeed("reward", [...policy, ...few, "--max_steps", "4", "--output_dir", judge]);
  await succeed("sft", [...policy, "--use_peft", "true", ...few, "--max_steps", "2", "--output_dir", lora]);
  const file = (name) => ["--output_file", at("made", name)];
  const responses = cases.generate.words.slice(0, -2);
  await succeed("generate", [...responses, ...file("responses.jsonl")]);
  await succeed("annotate", ["--input_file", at("made", "responses.jsonl"), ...judged, ...file("rewards.jsonl")]);
}

const names = flags.only?.split(",") ?? Object.keys(cases);
for (const name of names) if (!cases[name]) throw new Error(`no case ${name}: ${Object.keys(cases).join(", ")}`);
let identical = 0;
let made = 0;
let server = null;
try {
  await prepare();
  const asks = names.some((name) => cases[name].words.includes("{server}"));
  if (asks) server = await serve();
  const all = Number(flags.trials);
  const queue = names.map((name, i) => [name, Math.floor(all / names.length) + (i < all % names.length ? 1 : 0)]);
  const worker = async () => {
    for (let next = queue.shift(); next; next = queue.shift()) {
      const [name, trials] = next;
      made += trials;
      // What one case cannot do does not keep the others from being tried.
      const same = await test(name, trials, server?.url).catch((error) => {
        console.log(`${name}: FAILS: ${error.message}`);
        return 0;
      });
      identical += same; // read only now: other cases end meanwhile
    }
  };
  await Promise.all(Array.from({ length: Math.max(1, Number(flags.jobs)) }, worker));
} finally {
  server?.stop();
  if (flags.keep) console.log(`folders are in ${work}`);
  else rmSync(work, { recursive: true, force: true });
}
console.log(`${identical} of ${made} identical`);
process.exitCode = made > 0 && identical === made ? 0 : 1;
