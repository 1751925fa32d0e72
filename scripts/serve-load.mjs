#!/usr/bin/env node
/**
 * Loads `webrlhf serve` with many clients and with attackers, and measures what the clients notice of these.
 *
 *   npm run build
 *   node scripts/serve-load.mjs                      2 minutes
 *   node scripts/serve-load.mjs --minutes 10         longer
 *   --clients 64    parallel clients       --only slow,half    some attacks only
 *   --program FILE  another build          --model DIR         another model (default models/world-sft)
 *
 * First every request of a mixed set is asked alone. Then the clients ask them in random order: for the first third of the
 * time by themselves, for the rest beside the attackers of serve-attacks.mjs, which run in a thread of their own. Printed
 * are the latencies of both phases, how many requests were refused, how many answers differ from those given alone (ids, or
 * log-probabilities by more than 0.001), and the server's memory. The exit code is 1 where an answer differs, a client got
 * no answer, p99 beside the attackers is more than three times the quiet one, memory went up by more than 512 MB, or the
 * server does not end by SIGTERM.
 */
import { spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { Agent, request as ask } from "node:http";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { Worker } from "node:worker_threads";

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "..");
const { values: flags } = parseArgs({
  options: {
    minutes: { type: "string", default: "2" },
    clients: { type: "string", default: "64" },
    only: { type: "string" },
    program: { type: "string", default: path.join(root, "dist/cli/main.js") },
    model: { type: "string", default: path.join(root, "models/world-sft") },
  },
});
if (!existsSync(flags.program)) {
  console.error(`${flags.program} is missing: run "npm run build" first`);
  process.exit(1);
}
const MOST_SLOWER = 3;
const MOST_GROWTH_MB = 512;

/** Starts the server; gives its process and where it listens. */
function startServer() {
  const env = { ...process.env };
  if (process.platform === "linux") env.XDG_RUNTIME_DIR ??= tmpdir();
  const words = ["serve", "--model_name_or_path", flags.model, "--port", "0", "--served_model_name", "tiny"];
  const server = spawn(process.execPath, [flags.program, ...words], { env, stdio: ["ignore", "pipe", "pipe"] });
  return new Promise((resolve, reject) => {
    let text = "";
    const look = (part) => {
      text = (text + part).slice(-4000);
      const port = /served at http:\/\/127\.0\.0\.1:(\d+)\/v1/.exec(text)?.[1];
      if (port) resolve({ server, port: Number(port), said: () => text });
    };
    server.stdout.on("data", look);
    server.stderr.on("data", look);
    server.on("exit", (code) => reject(new Error(`the server ended with ${code}: ${text}`)));
  });
}

const agent = new Agent({ keepAlive: true, maxSockets: Number.POSITIVE_INFINITY });

/** The status and the text of an answer; status 0 where none came. */
function post(port, url, body) {
  return new Promise((resolve) => {
    const payload = JSON.stringify(body);
    const headers = { "Content-Type": "application/json", "Content-Length": Buffer.byteLength(payload) };
    const sent = ask({ port, host: "127.0.0.1", path: url, method: "POST", agent, headers }, (response) => {
      let text = "";
      response.setEncoding("utf8").on("data", (part) => {
        text += part;
      });
      response.on("end", () => resolve({ status: response.statusCode, text }));
      response.on("error", (error) => resolve({ status: 0, text: String(error) }));
    });
    sent.on("error", (error) => resolve({ status: 0, text: String(error) }));
    sent.end(payload);
  });
}

const words = ["Once there was a cat", "One day Sam", "The dog", "Anna and Ben went home", "Once upon a time"];
const common = (i) => ({ model: "tiny", seed: i, temperature: 0.8, ignore_eos: true });

/** The mixed set: texts, streams, chats, several samples, scores. */
const requests = Array.from({ length: 40 }, (_, i) => {
  const prompt = words[i % words.length];
  const complete = { ...common(i), prompt, max_tokens: 4 + (i % 9), logprobs: i % 3, return_token_ids: true };
  const kinds = [
    () => ["/v1/completions", complete],
    () => ["/v1/completions", { ...complete, stream: true }],
    () => ["/v1/completions", { ...complete, n: 2, presence_penalty: 0.5 }],
    () => ["/v1/completions", { model: "tiny", prompt: [prompt, words[0]], max_tokens: 0, echo: true, logprobs: 2 }],
    () => [
      "/v1/chat/completions",
      { ...common(i), messages: [{ role: "user", content: prompt }], max_tokens: 6, logprobs: true, top_logprobs: 1 },
    ],
  ];
  return kinds[i % kinds.length]();
});

/** What an answer says: its ids or tokens, and its log-probabilities. */
function contentOf(text) {
  const parts = text.startsWith("data: ")
    ? text.split("\n\n").flatMap((event) => (event.startsWith("data: {") ? [JSON.parse(event.slice(6))] : []))
    : [JSON.parse(text)];
  const tokens = [];
  const logProbs = [];
  for (const { choices, error } of parts) {
    if (error) throw new Error(error.message);
    for (const choice of choices) {
      const { logprobs } = choice;
      tokens.push(choice.index, choice.text ?? choice.message.content, ...(choice.token_ids ?? []));
      logProbs.push(...(logprobs?.token_logprobs ?? logprobs?.content.map((c) => c.logprob) ?? []));
    }
  }
  // Streams are cut anywhere: what counts is the whole.
  const joined = parts.length > 1 ? tokens.filter((t) => typeof t === "string").join("") : JSON.stringify(tokens);
  return { tokens: joined, logProbs };
}

const same = (a, b) =>
  a.tokens === b.tokens &&
  a.logProbs.length === b.logProbs.length &&
  a.logProbs.every((p, i) => p === b.logProbs[i] || Math.abs(p - b.logProbs[i]) < 1e-3);

const memory = (pid) => {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? 0) / 1024;
};

const quantile = (sorted, q) => sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] ?? Number.NaN;

/** The clients, for so long; what they noticed. */
async function phase(port, pid, expected, ms) {
  const seen = { latencies: [], refused: {}, wrong: [], lost: [], most: 0 };
  const end = Date.now() + ms;
  const watch = setInterval(() => {
    seen.most = Math.max(seen.most, memory(pid));
  }, 500);
  const client = async (seed) => {
    let state = seed * 7919 + 1;
    while (Date.now() < end) {
      state = (state * 48271) % 0x7fffffff;
      const i = state % requests.length;
      const began = performance.now();
      const { status, text } = await post(port, ...requests[i]);
      if (status === 429 || status === 503) {
        seen.refused[status] = (seen.refused[status] ?? 0) + 1;
        await sleep(200);
        continue;
      }
      seen.latencies.push(performance.now() - began);
      if (status !== 200) seen.lost.push(`${status} ${text.slice(0, 200)}`);
      else if (!same(contentOf(text), expected[i])) seen.wrong.push(`request ${i}: ${text.slice(0, 300)}`);
    }
  };
  await Promise.all(Array.from({ length: Number(flags.clients) }, (_, seed) => client(seed)));
  clearInterval(watch);
  seen.latencies.sort((a, b) => a - b);
  return seen;
}

function report(name, { latencies, refused, wrong, lost, most }) {
  const p = (q) => `${quantile(latencies, q).toFixed(0)} ms`;
  const no = Object.entries(refused).map(([status, count]) => `${count} x ${status}`);
  console.log(
    `${name}: ${latencies.length} answers, p50 ${p(0.5)}, p99 ${p(0.99)}, longest ${p(1)}; ` +
      `refused ${no.join(", ") || 0}, differing ${wrong.length}, lost ${lost.length}; memory up to ${most.toFixed(0)} MB`,
  );
  for (const line of [...wrong.slice(0, 3), ...lost.slice(0, 3)]) console.log(`  ${line}`);
}

const { server, port, said } = await startServer();
const total = Number(flags.minutes) * 60_000;
const failures = [];
try {
  const expected = [];
  for (const one of requests) {
    const { status, text } = await post(port, ...one);
    if (status !== 200) throw new Error(`alone: ${status} ${text}`);
    expected.push(contentOf(text));
  }
  await phase(port, server.pid, expected, Math.min(10_000, total / 10)); // kernels for many rows are compiled
  const quiet = await phase(port, server.pid, expected, total / 3);
  report("quiet   ", quiet);
  const attackers = new Worker(new URL("./serve-attacks.mjs", import.meta.url), {
    workerData: { port, only: flags.only },
  });
  const done = new Promise((resolve, reject) => {
    attackers.on("message", resolve).on("error", reject);
  });
  const attacked = await phase(port, server.pid, expected, (total * 2) / 3);
  attackers.postMessage("stop");
  const attempts = await done;
  report("attacked", attacked);
  for (const [name, counts] of Object.entries(attempts)) {
    console.log(
      `  ${name}: ${Object.entries(counts)
        .map(([answer, count]) => `${count} x ${answer}`)
        .join(", ")}`,
    );
  }
  await sleep(3000);
  const health = await fetch(`http://127.0.0.1:${port}/health`).then((response) => response.json());
  console.log(`after: ${JSON.stringify(health)}, memory ${memory(server.pid).toFixed(0)} MB`);
  const slower = quantile(attacked.latencies, 0.99) / quantile(quiet.latencies, 0.99);
  console.log(`p99 beside attackers is ${slower.toFixed(2)} times the quiet one`);
  const wrong = quiet.wrong.length + attacked.wrong.length;
  const lost = quiet.lost.length + attacked.lost.length;
  if (wrong > 0) failures.push(`${wrong} answers differ`);
  if (lost > 0) failures.push(`${lost} requests got no answer`);
  if (!(slower <= MOST_SLOWER)) failures.push(`p99 is more than ${MOST_SLOWER} times the quiet one`);
  if (attacked.most - quiet.most > MOST_GROWTH_MB) failures.push(`memory went up by more than ${MOST_GROWTH_MB} MB`);
  if (health.waiting + health.active > 0) failures.push("requests are left over");
} catch (error) {
  failures.push(`${error.stack ?? error}\n${said()}`);
}
server.removeAllListeners("exit");
const ended = new Promise((resolve) => server.on("exit", (code) => resolve(code)));
server.kill("SIGTERM");
const code = await Promise.race([ended, sleep(20_000, "does not end")]);
if (code !== 0) {
  failures.push(`SIGTERM: ${code}`);
  server.kill("SIGKILL");
}
for (const failure of failures) console.log(`FAILED: ${failure}`);
console.log(failures.length === 0 ? "ok" : `${failures.length} failures`);
process.exit(failures.length === 0 ? 0 : 1);
