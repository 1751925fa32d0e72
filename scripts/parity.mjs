#!/usr/bin/env node
/**
 * Trains beside PyTorch and TRL (test/interop), and writes docs/parity.md: how far apart the weights are in the end. By hand,
 * not in CI: it needs a Python with torch, transformers, trl and datasets, and takes some minutes.
 *
 *   pip install --no-deps --target trl-1.12 trl==1.12.0      the last TRL with a PPOTrainer
 *   WEBRLHF_PYTHON=venv/bin/python WEBRLHF_TRL_PPO=trl-1.12 node scripts/parity.mjs
 *   node scripts/parity.mjs --rows rows.jsonl               of what runs of those tests with WEBRLHF_PARITY=rows.jsonl left
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "..");
const files = ["ppo", "trl-distill", "trl-group", "trl-preference", "trl-reward"].map(
  (name) => `test/interop/${name}.test.ts`,
);

/** Runs all comparisons; returns their rows. Ends here unless all of them passed. */
function compared() {
  const { WEBRLHF_PYTHON: python, WEBRLHF_TRL_PPO: trl } = process.env;
  if (!python || !trl) {
    console.error("WEBRLHF_PYTHON must name a Python with torch and TRL, and WEBRLHF_TRL_PPO a folder with TRL 1.12.0");
    process.exit(1);
  }
  const folder = mkdtempSync(path.join(os.tmpdir(), "webrlhf-parity-"));
  const rows = path.join(folder, "rows.jsonl");
  const env = {
    ...process.env,
    XDG_RUNTIME_DIR: process.env.XDG_RUNTIME_DIR ?? os.tmpdir(),
    WEBRLHF_PARITY: rows,
    WEBRLHF_PYTHON: python.includes(path.sep) ? path.resolve(python) : python,
    WEBRLHF_TRL_PPO: path.resolve(trl),
  };
  const vitest = path.join(root, "node_modules/vitest/vitest.mjs");
  const options = { cwd: root, env, stdio: "inherit" };
  const tests = spawnSync(process.execPath, [vitest, "run", "--project", "node", ...files], options);
  const found = existsSync(rows) ? readFileSync(rows, "utf8") : "";
  rmSync(folder, { recursive: true, force: true });
  if (tests.status !== 0 || found === "") {
    console.error("docs/parity.md is left as it was: not all comparisons ran and passed");
    process.exit(1);
  }
  return found;
}

const gathered = process.argv.indexOf("--rows");
const lines = (gathered < 0 ? compared() : readFileSync(process.argv[gathered + 1], "utf8")).trimEnd().split("\n");
const key = (row) => `${row.method}|${row.settings}|${row.other}`;
/** Each comparison's last row. */
const found = [...new Map(lines.map((text) => JSON.parse(text)).map((row) => [key(row), row])).values()];

const families = [
  ["PPO", (method) => method.startsWith("PPO")],
  ["GRPO and RLOO", (method) => method === "GRPO" || method === "RLOO"],
  ["Distillation", (method) => method === "Distillation"],
  ["Preferences, reward models, supervised fine-tuning", () => true],
];
const number = (x) => x.toExponential(1);
const worst = (of, list) => number(Math.max(...list.map((row) => row[of])));
const line = (row) =>
  `| ${row.method} | ${row.settings} | ${row.other} | ${row.steps} | ${number(row.weight)} | ${number(row.update)} |`;
const left = [...found].sort((a, b) => key(a).localeCompare(key(b)));
const tables = families.map(([title, belongs]) => {
  const own = left.filter(({ method }) => belongs(method));
  for (const row of own) left.splice(left.indexOf(row), 1);
  return [
    `## ${title}`,
    "",
    "| trained | settings | beside | optimizer steps | of the weights | of the update |",
    "|---|---|---|---|---|---|",
    ...own.map(line),
    "",
  ].join("\n");
});

writeFileSync(
  path.join(root, "docs/parity.md"),
  `# Agreement with other implementations

One tiny model, the same tokens, rewards and order, trained here and by other people's programs or by an implementation in
PyTorch that shares no line with this one; then the weights are compared, tensor by tensor. Made by \`node scripts/parity.mjs\`, which
says what it needs; the same tests run in \`test/interop\` wherever \`WEBRLHF_PYTHON\` names a Python with torch and TRL, and
\`test/rlhf/ppo/ppo-runs.test.ts\` holds PPO to weights that were computed in float64 before, without any Python.

- **of the weights**: the largest |w - w'| / |w'| of any tensor, w being the weights here in the end, w' theirs, |.| the Euclidean
  norm. Every comparison must be below 1e-4; the worst here is ${worst("weight", found)}.
- **of the update**: the largest |w - w'| / |w' - w0|, w0 being the weights at the start: the share of what was learned that differs.
  Every comparison must be below 1e-3; the worst here is ${worst("update", found)}.

Models are Llamas of two layers with grouped queries and 32 wide, f32 here. Prompts, responses and answers differ in
length, so that averages over tokens, passes and sequences differ. Passes of an odd size, several passes to an optimizer step
and several responses to a prompt are among the settings. TRL's own trainers are given the responses, rewards and orders, and are
otherwise as they were installed, in f32. PaddleNLP's and safe-rlhf's PPO (\`paddle\`, \`paddle-late\`, \`safe\`) are compared with
[an implementation in float64](../test/interop/ppo_reference.py) that was written after their sources; the programs themselves were
not run. [PPO](paddlenlp-ppo.md) and [the methods without a critic](group-methods.md) list what differs on purpose.

${tables.join("\n")}`,
);
console.log(`docs/parity.md: ${found.length} comparisons, worst ${worst("weight", found)} of the weights`);
