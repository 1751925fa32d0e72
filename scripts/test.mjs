#!/usr/bin/env node
/**
 * Runs the one test suite in every runtime: all of it in Node, the portable part also in Deno and in Chromium.
 *
 *   node scripts/test.mjs                       everything (this is `npm test`)
 *   node scripts/test.mjs --only node,deno      some runtimes
 *   node scripts/test.mjs test/tensor -t adamw  what is left goes to vitest
 *
 * No GPU, driver, browser or Deno needs to be installed: npm brought them. Where the system has a Vulkan driver that
 * works it is used, and an ICD chosen by VK_ICD_FILENAMES or VK_DRIVER_FILES is left alone.
 */
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { denoExecutable } from "./deno.mjs";
import { fromSource } from "./source.mjs";

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "..");
const minutes = 60_000;
const limit = 40 * minutes; // a hung runtime must not hang the run

const argv = process.argv.slice(2);
const onlyAt = argv.indexOf("--only");
const only = onlyAt < 0 ? ["node", "deno", "browser"] : argv.splice(onlyAt, 2)[1].split(",");

const env = { ...process.env, DENO_NO_UPDATE_CHECK: "1" };
if (process.platform === "linux") env.XDG_RUNTIME_DIR ??= os.tmpdir(); // else lavapipe prints a warning per process
const vitest = path.join(root, "node_modules", "vitest", "vitest.mjs");
const results = mkdtempSync(path.join(os.tmpdir(), "webrlhf-test-"));

/** Finds the adapter that Node gets, and shares the embedded software Vulkan with Deno where that is the one. */
const chooseAdapter = () =>
  fromSource(async (load) => {
    const before = process.env.VK_ICD_FILENAMES;
    const { requestAdapter } = await load("/src/gpu/adapter.ts");
    const { note } = await requestAdapter();
    console.log(note);
    if (process.env.VK_ICD_FILENAMES === before) return;
    const { embeddedVulkan } = await load("/src/runtime/embedded.ts");
    const vulkan = await embeddedVulkan();
    env.VK_ICD_FILENAMES = vulkan.icd;
    env.LD_LIBRARY_PATH = [vulkan.libraryPath, process.env.LD_LIBRARY_PATH].filter(Boolean).join(":");
  });

/** Runs vitest's project `name`, and what of it stands apart. With `later` its output is held back and printed at the end. */
function run(name, command, args, later = false) {
  const report = path.join(results, `${name}.json`);
  const all = [...args, vitest, "run", "--project", name, "--project", `${name}-apart`, "--passWithNoTests", ...argv];
  all.push("--reporter=default", "--reporter=json", `--outputFile.json=${report}`);
  if (!later) console.log(`\n=== ${name} ===`);
  return new Promise((resolve) => {
    const started = Date.now();
    const output = later ? "pipe" : "inherit";
    const colour = later && process.stdout.isTTY && !process.env.NO_COLOR ? { FORCE_COLOR: "1" } : {};
    const child = spawn(command, all, { cwd: root, env: { ...env, ...colour }, stdio: ["ignore", output, output] });
    const held = [];
    for (const stream of [child.stdout, child.stderr]) stream?.on("data", (bytes) => held.push(bytes));
    const timer = setTimeout(() => child.kill("SIGKILL"), limit);
    child.on("error", (error) => resolve({ name, failure: error.message }));
    child.on("close", (code, signal) => {
      clearTimeout(timer);
      const text = Buffer.concat(held).toString();
      const seconds = (Date.now() - started) / 1000;
      if (!existsSync(report)) {
        return resolve({ name, seconds, text, failure: `ended without a report (${signal ?? code})` });
      }
      const json = JSON.parse(readFileSync(report, "utf8"));
      const { numPassedTests: passed, numFailedTests, numPendingTests: pending, numTodoTests: todo } = json;
      // A file that cannot even be loaded has no tests to count: it counts as one failure.
      const broken = json.testResults.filter((file) => file.status === "failed" && file.assertionResults.length === 0);
      const failed = numFailedTests + broken.length;
      const files = json.testResults.length;
      const broke = failures(json.testResults);
      const clean = code === 0 && json.success && failed === 0;
      const failure = clean || failed > 0 ? undefined : `exit code ${code ?? signal}`;
      resolve({ name, seconds, text, passed, failed, skipped: pending + todo, files, failure, broke });
    });
  });
}

/** Names what failed, with the first line of why: the end of a long output is what people keep. */
function failures(results) {
  const first = (text) => text.trim().split("\n")[0];
  return results
    .filter(({ status }) => status === "failed")
    .flatMap(({ name, message, assertionResults }) => {
      const file = path.relative(root, name);
      const failed = assertionResults.filter(({ status }) => status === "failed");
      if (failed.length === 0) return [`${file}: ${first(message || "it failed outside of its tests")}`];
      return failed.map((test) => `${file}: ${test.fullName}: ${first(test.failureMessages.join("\n"))}`);
    });
}

const runs = [];
try {
  await chooseAdapter();
  // Deno waits for each of its readbacks and hardly computes: it runs beside the others.
  let beside = null;
  if (only.includes("deno")) {
    const deno = denoExecutable();
    const absent = "npm has no Deno for this system";
    beside = deno ? run("deno", deno, ["run", "-A"], true) : Promise.resolve({ name: "deno", absent });
  }
  if (only.includes("node")) runs.push(await run("node", process.execPath, []));
  if (only.includes("browser")) {
    const available = process.env.WEBRLHF_CHROMIUM || (process.platform === "linux" && process.arch === "x64");
    const absent = "no embedded browser for this system; name a Chromium in WEBRLHF_CHROMIUM";
    runs.push(available ? await run("browser", process.execPath, []) : { name: "browser", absent });
  }
  if (beside) {
    const result = await beside;
    if (result.text) console.log(`\n=== deno ===\n${result.text}`);
    runs.push(result);
  }
} finally {
  rmSync(results, { recursive: true, force: true });
}

console.log("\n=== Summary ===");
const total = { passed: 0, failed: 0, skipped: 0, files: 0 };
for (const run of runs) {
  const { name, passed = 0, failed = 0, skipped = 0, files = 0, seconds = 0, failure, absent, broke = [] } = run;
  const counts = `${passed} passed, ${failed} failed, ${skipped} skipped in ${seconds.toFixed(0)} s`;
  console.log(`${name.padEnd(8)} ${absent ? `not run: ${absent}` : counts}${failure ? `; ${failure}` : ""}`);
  for (const line of broke) console.log(`  failed: ${line}`);
  total.passed += passed;
  total.failed += failed + (failure ? 1 : 0);
  total.skipped += skipped;
  total.files += files;
}
const all = total.passed + total.failed + total.skipped;
const parts = [`${total.failed} failed`, `${total.passed} passed`, `${total.skipped} skipped`];
console.log(` Test Files  ${total.files} in ${runs.filter((run) => !run.absent).length} runtimes`);
console.log(`      Tests  ${parts.filter((part) => !part.startsWith("0 ")).join(" | ")} (${all})`);
console.log(`${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`);
process.exit(total.failed > 0 || total.passed === 0 ? 1 : 0);
