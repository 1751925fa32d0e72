#!/usr/bin/env node
/**
 * Does the suite notice? Changes one line of the source at a time, runs the tests that ought to fail, and says which did.
 * By hand, not in CI: it takes about ten minutes.
 *
 *   node scripts/mutants.mjs                    all of scripts/mutants.json; writes docs/results/mutants.md
 *   node scripts/mutants.mjs --only ppo         those whose name has this text; writes nothing
 *   node scripts/mutants.mjs --workers 1        one run of tests at a time (default: two)
 *
 * A mutant names its file, the text that is replaced (which must stand there exactly once) and the tests. One that
 * nothing kills is either a gap in the tests or a change that cannot be seen; the list says which ("equivalent"). The same
 * tests must pass without any change first, or their failing would say nothing.
 */
import { spawn } from "node:child_process";
import { cpSync, mkdtempSync, readFileSync, realpathSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "..");
/** Milliseconds for the tests of a mutant, and for those of all together. */
const LIMIT = 240_000;
const UNCHANGED_LIMIT = 1_800_000;

const option = (name) => (process.argv.includes(name) ? process.argv[process.argv.indexOf(name) + 1] : null);
const only = option("--only");
const workers = Number(option("--workers") ?? 2);
const all = JSON.parse(readFileSync(path.join(root, "scripts/mutants.json"), "utf8"));
const mutants = all.filter(({ name }) => only === null || name.includes(only));

/** A copy of the project to change, with the same installed packages. */
function workplace() {
  const folder = mkdtempSync(path.join(os.tmpdir(), "webrlhf-mutants-"));
  for (const part of ["src", "test", "scripts", "demo", "models", "recipes", "docs", "examples", "api"]) {
    try {
      cpSync(path.join(root, part), path.join(folder, part), { recursive: true });
    } catch {}
  }
  for (const file of ["package.json", "tsconfig.json", "vitest.config.ts", "deno.json"]) {
    cpSync(path.join(root, file), path.join(folder, file));
  }
  symlinkSync(path.join(root, "node_modules"), path.join(folder, "node_modules"));
  return folder;
}

function runTests(folder, tests, limit = LIMIT) {
  const vitest = path.join(root, "node_modules/vitest/vitest.mjs");
  const args = [
    vitest,
    "run",
    "--project",
    "node",
    "--bail=1",
    "--reporter=json",
    "--outputFile=report.json",
    ...tests,
  ];
  const env = { ...process.env, XDG_RUNTIME_DIR: process.env.XDG_RUNTIME_DIR ?? os.tmpdir() };
  return new Promise((resolve) => {
    rmSync(path.join(folder, "report.json"), { force: true });
    const child = spawn(process.execPath, args, { cwd: folder, env, stdio: "ignore" });
    const timer = setTimeout(() => child.kill("SIGKILL"), limit);
    child.on("close", (code) => {
      clearTimeout(timer);
      resolve({ code, killer: killerOf(folder) });
    });
  });
}

/** A change that no program could start with is no mutant. */
const UNLOADABLE = "cannot be loaded";

/** The first test that failed, or what else broke. */
function killerOf(folder) {
  try {
    const { testResults } = JSON.parse(readFileSync(path.join(folder, "report.json"), "utf8"));
    for (const { name, assertionResults, status } of testResults) {
      const failed = assertionResults.find((one) => one.status === "failed");
      const file = path.relative(path.join(realpathSync(folder), "test"), name);
      if (failed) return `${file}: ${failed.fullName}`;
      if (status === "failed") return `${file}: ${UNLOADABLE}`;
    }
    return null;
  } catch {
    return "no report: the run broke off";
  }
}

async function judge(folder, { file, from, to, tests }) {
  const target = path.join(folder, file);
  const text = readFileSync(target, "utf8");
  if (text.split(from).length !== 2) return { verdict: "stale", killer: `"${from}" does not stand once in ${file}` };
  writeFileSync(
    target,
    text.replace(from, () => to),
  );
  try {
    const { code, killer } = await runTests(folder, tests);
    if (code === 0) return { verdict: "survived", killer: "" };
    return { verdict: killer?.endsWith(UNLOADABLE) ? "stale" : "killed", killer: killer ?? `exit ${code}` };
  } finally {
    writeFileSync(target, text);
  }
}

/** Throws where a test fails without any change. */
async function checkTests() {
  const folder = workplace();
  try {
    const { code, killer } = await runTests(
      folder,
      [...new Set(mutants.flatMap(({ tests }) => tests))],
      UNCHANGED_LIMIT,
    );
    if (code !== 0) throw new Error(`the tests fail without any change: ${killer ?? `exit ${code}`}`);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const results = new Map();
let next = 0;
async function worker() {
  const folder = workplace();
  try {
    while (next < mutants.length) {
      const mutant = mutants[next++];
      const result = await judge(folder, mutant);
      results.set(mutant, result);
      console.log(
        `${String(results.size).padStart(2)}/${mutants.length} ${result.verdict.padEnd(8)} ${mutant.name}  ${result.killer}`,
      );
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
await checkTests();
await Promise.all(Array.from({ length: workers }, worker));

const count = (verdict) => [...results.values()].filter((one) => one.verdict === verdict).length;
const killed = count("killed");
console.log(`\n${killed} of ${mutants.length} killed, ${count("survived")} survived, ${count("stale")} stale`);
if (only === null) {
  const cell = (text) => text.replaceAll("|", "\\|").replaceAll("\n", " ");
  const rows = mutants.map((mutant) => {
    const { verdict, killer } = results.get(mutant);
    const change = `\`${cell(mutant.from)}\` → ${mutant.to === "" ? "nothing" : `\`${cell(mutant.to)}\``}`;
    return `| ${mutant.name} | ${mutant.file} | ${change} | ${verdict} | ${cell(killer || (mutant.equivalent ?? ""))} |`;
  });
  const head = "| mutant | file | change | verdict | killed by, or why not |\n|---|---|---|---|---|";
  const text = `# Mutants

${killed} of ${mutants.length} killed. Every row is a slip that somebody could make in one line of the source, and the first test that fails with
it. Made by \`node scripts/mutants.mjs\` from \`scripts/mutants.json\`.

${head}
${rows.join("\n")}
`;
  writeFileSync(path.join(root, "docs/results/mutants.md"), text);
}
process.exit(count("stale") > 0 || killed < 0.95 * mutants.length ? 1 : 0);
