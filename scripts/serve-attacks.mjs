/** Attacks on a server, one after the other in a loop for each kind: see serve-load.mjs, which runs this in a thread. */
import { Agent, request as ask } from "node:http";
import { connect } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { parentPort, workerData } from "node:worker_threads";

const { port, only } = workerData;
let going = true;
const counts = {};
const count = (name, answer) => {
  counts[name] ??= {};
  counts[name][answer] = (counts[name][answer] ?? 0) + 1;
};

const agent = new Agent({ keepAlive: false });
const post = (body, { path = "/v1/completions", hangUpMs = 0 } = {}) =>
  new Promise((resolve) => {
    const payload = Buffer.isBuffer(body) ? body : JSON.stringify(body);
    const headers = { "Content-Type": "application/json", "Content-Length": Buffer.byteLength(payload) };
    const sent = ask({ port, host: "127.0.0.1", path, method: "POST", agent, headers }, (response) => {
      response.on("end", () => resolve(response.statusCode)).on("error", () => resolve("cut"));
      response.resume();
    });
    sent.on("error", (error) => resolve(error.code === "ECONNRESET" ? "cut" : (error.code ?? "cut")));
    sent.end(payload);
    if (hangUpMs > 0) setTimeout(() => sent.destroy(), hangUpMs);
  });

/** A raw connection: sends, waits, and says how it ended. */
const raw = (chunks, { everyMs = 0, forMs = 5000, read = true } = {}) =>
  new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    let got = "";
    if (read) socket.on("data", (part) => (got ||= String(part)));
    else socket.pause();
    const end = (how) => {
      clearTimeout(timer);
      clearInterval(drip);
      socket.destroy();
      resolve(how ?? /^HTTP\/1.1 (\d+)/.exec(got)?.[1] ?? "nothing");
    };
    const timer = setTimeout(() => end(), forMs);
    socket.on("close", () => end()).on("error", () => end("cut"));
    let next = 0;
    const more = () => next < chunks.length && socket.write(chunks[next++]);
    const drip = everyMs > 0 ? setInterval(more, everyMs) : undefined;
    if (everyMs === 0) for (const _ of chunks) more();
  });

const head = (more) =>
  `POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n${more}\r\n`;
const whole = (body) => {
  const text = JSON.stringify(body);
  return head(`Content-Length: ${Buffer.byteLength(text)}\r\n`) + text;
};
const ids = (length, seed) => Array.from({ length }, (_, i) => 10 + ((seed * 31 + i * 7) % 300));
const many = (prompts, length) => Array.from({ length: prompts }, (_, seed) => ids(length, seed));
const long = { prompt: "Once there was", max_tokens: 50, ignore_eos: true, stream: true };
const times = (number, act) => Promise.all(Array.from({ length: number }, (_, i) => act(i)));

/** Made once: the attackers are to take the server's time, not the machine's. */
const large = {
  echo: { prompt: many(16, 60), max_tokens: 0, echo: true, logprobs: 20, n: 128 },
  prompts: { prompt: many(1024, 60), max_tokens: 0, echo: true, logprobs: 20, n: 1 },
  text: { prompt: "word ".repeat(800_000) },
  chat: { messages: [{ role: "user", content: "a ".repeat(1_000_000) }] },
  keys: Object.fromEntries(Array.from({ length: 200_000 }, (_, i) => [`k${i}`, 1])),
};
for (const [name, body] of Object.entries(large)) large[name] = Buffer.from(JSON.stringify(body));
large.deep = Buffer.from(`{"temperature": ${"[".repeat(200_000)}${"]".repeat(200_000)}}`);

const attacks = {
  echo: () => post(large.echo),
  prompts: () => post(large.prompts),
  scores: () => post({ prompt: many(200, 60), max_tokens: 0, echo: true, logprobs: 20, n: 1 }),
  samples: () => post({ prompt: "Once there was", max_tokens: 50, n: 128, ignore_eos: true }),
  hangup: () => post({ prompt: many(32, 40), max_tokens: 20, echo: true, logprobs: 5, n: 2 }, { hangUpMs: 200 }),
  text: () => post(large.text),
  spaces: () => post({ prompt: " ".repeat(4000), max_tokens: 1 }),
  chat: () => post(large.chat, { path: "/v1/chat/completions" }),
  deep: () => post(large.deep),
  keys: () => post(large.keys),
  half: () => times(60, () => raw([head("Content-Length: 5000\r\n"), "x".repeat(100)], { forMs: 4000, read: false })),
  header: () => times(40, () => raw(["POST / HTTP/1.1\r\n", ..."x".repeat(40)], { everyMs: 100, forMs: 4000 })),
  slow: () => times(8, () => raw([whole({ ...long, n: 16, logprobs: 20 })], { forMs: 4000, read: false })),
  pipeline: () => raw(Array.from({ length: 100 }, () => whole({ ...long, stream: false, max_tokens: 5 }))),
  huge: () => raw([head(`X: ${"x".repeat(100_000)}\r\n`)]),
  endless: () => raw([head("Transfer-Encoding: chunked\r\n"), ...Array(500).fill(`4000\r\n${"x".repeat(0x4000)}\r\n`)]),
  rubbish: () => raw([Buffer.from(Array.from({ length: 2000 }, () => Math.floor(256 * Math.random())))]),
};

const chosen = Object.entries(attacks).filter(([name]) => !only || only.split(",").includes(name));
parentPort.on("message", () => {
  going = false;
});
await Promise.all(
  chosen.map(async ([name, attack]) => {
    while (going) {
      for (const answer of [await attack()].flat()) count(name, answer);
      await sleep(50);
    }
  }),
);
parentPort.postMessage(counts);
parentPort.close();
