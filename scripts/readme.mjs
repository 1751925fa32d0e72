#!/usr/bin/env node
/**
 * Types every command of README.md as it stands, one after the other, and says how each ended.
 *
 *   node scripts/readme.mjs [--from WORD] [--list]
 *
 * --from starts at the first line that holds WORD, --list only shows the lines. A server is stopped once it answers, a
 * conversation gets one message. Commands are run in this clone, with its own program in place of an installed one.
 */
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import path from "node:path";

const root = path.resolve(import.meta.dirname, "..");
const minutes = 60_000;
const limit = 40 * minutes;

/** The lines of the shell blocks of a Markdown text, comments taken off. */
export const shellLines = (markdown) =>
  [...markdown.matchAll(/^```sh\n(.*?)^```/gms)].flatMap(([, block]) =>
    block
      .replaceAll("\\\n", " ")
      .split("\n")
      .map((line) => line.replace(/(^|\s)#\s.*$/, "").trim())
      .filter(Boolean),
  );

/** Runs a line in a shell. Resolves with its exit code, its last words and its seconds. */
function type(line) {
  const started = performance.now();
  // A program that waits for people gets one message; one that serves gets a client.
  const shell = spawn("bash", ["-c", line], { cwd: root, stdio: ["pipe", "pipe", "pipe"], detached: true });
  let text = "";
  for (const stream of [shell.stdout, shell.stderr]) stream.on("data", (data) => (text = (text + data).slice(-4000)));
  shell.stdin.on("error", () => {});
  shell.stdin.end("hello\n");
  const end = (signal) => {
    try {
      process.kill(-shell.pid, signal);
    } catch {}
  };
  const timer = setTimeout(() => end("SIGKILL"), limit);
  let stopped = false;
  const stop = (answered) => {
    if (answered && !stopped) end("SIGTERM");
    stopped ||= answered;
  };
  const client = /\bserve\b/.test(line) && setInterval(() => void ask(line).then(stop), 1000);
  return new Promise((resolve) => {
    shell.on("close", (code, signal) => {
      clearTimeout(timer);
      clearInterval(client);
      // npx ends by the signal that it hands on, whatever its program makes of it.
      const well = stopped && signal === "SIGTERM" && /^stopped$/m.test(text);
      resolve({ code: well ? 0 : (code ?? signal), text, seconds: (performance.now() - started) / 1000 });
    });
  });
}

/** Whether the server that a line starts completes a text. */
async function ask(line) {
  const [, port = "8000"] = /--port[ =](\d+)/.exec(line) ?? [];
  const body = JSON.stringify({ prompt: "the cat", max_tokens: 4 });
  const headers = { "content-type": "application/json" };
  try {
    return (await fetch(`http://127.0.0.1:${port}/v1/completions`, { method: "POST", headers, body })).ok;
  } catch {
    return false; // not yet
  }
}

const all = shellLines(readFileSync(path.join(root, "README.md"), "utf8"));
const from = process.argv.indexOf("--from");
const lines = from < 0 ? all : all.slice(all.findIndex((line) => line.includes(process.argv[from + 1])));
if (process.argv.includes("--list")) {
  console.log(lines.join("\n"));
} else {
  let failed = 0;
  for (const line of lines) {
    const { code, text, seconds } = await type(line);
    console.log(`${code === 0 ? "ok    " : `FAILED (${code})`} ${seconds.toFixed(1).padStart(7)} s  ${line}`);
    if (code === 0) continue;
    failed++;
    console.log(text.replace(/^/gm, "    "));
  }
  console.log(`${lines.length - failed} of ${lines.length} commands ended well`);
  process.exitCode = failed > 0 ? 1 : 0;
}
