/** `webrlhf serve` with clients who ask it, for scripts that disturb it and compare what the clients get. */
import { setTimeout as sleep } from "node:timers/promises";

const CLIENTS = 4;
/** Tries of one request that finds the server without a device, or its stream broken off. */
const MOST_TRIES = 10;
/** Between two tries, ms. The server says 5 s, for those who can wait. */
const PAUSE_MS = 100;
/** Who gets no answer in this time, ms, gets none. */
const SILENT_MS = 120_000;

const stories = ["Once there was a cat", "One day Sam", "The dog", "Anna and Ben went home"];

/** Texts and chats, greedy and sampled, whole and as streams. What is drawn is said by a seed. */
const requests = Array.from({ length: 16 }, (_, i) => {
  const story = stories[i % stories.length];
  const common = {
    temperature: i % 3 === 0 ? 0 : 0.9,
    seed: i,
    max_tokens: 8 + (i % 4) * 6,
    ignore_eos: true,
    stream: i % 4 === 1,
  };
  return i % 5 === 2
    ? { url: "/v1/chat/completions", body: { ...common, messages: [{ role: "user", content: story }] } }
    : { url: "/v1/completions", body: { ...common, prompt: story, n: 1 + (i % 2), return_token_ids: true } };
});

/** Starts the server in this process: where it listens, and what stops it. */
async function serve(main, model) {
  const said = [];
  let heard;
  const listening = new Promise((resolve) => {
    heard = resolve;
  });
  const line = (text) => {
    said.push(text);
    const place = /served at (http:\S+)\/v1/.exec(text);
    if (place) heard(place[1]);
  };
  const terminal = { tty: false, columns: 80, write: line, line, result: line, style: (_, text) => text };
  const failure = (code) => new Error(`serve ended with ${code}:\n${said.slice(-5).join("\n")}`);
  const ended = main(["serve", "--model_name_or_path", model, "--port", "0"], terminal);
  const base = await Promise.race([listening, ended.then((code) => Promise.reject(failure(code)))]);
  const stop = async () => {
    process.emit("SIGTERM");
    const code = await ended;
    if (code !== 0) throw failure(code);
  };
  return { base, stop };
}

/**
 * What an answer says, without what no two answers share: its id and its time. Streams are put together, as they may be cut
 * anywhere. Null where it broke off with an error of the server's.
 */
function contentOf(text) {
  if (!text.startsWith("data: ")) {
    const { choices, usage } = JSON.parse(text);
    return JSON.stringify({ choices, usage });
  }
  const events = text.trim().split("\n\n");
  if (events.pop() !== "data: [DONE]") throw new Error("a stream has no end");
  const whole = {};
  for (const { choices, error } of events.map((event) => JSON.parse(event.slice(6)))) {
    if (error?.type === "service_unavailable_error") return null;
    if (error) throw new Error(error.message);
    for (const { index, text: piece, delta, finish_reason: finish, token_ids: ids } of choices) {
      whole[index] ??= { text: "", ids: [], finish: null };
      whole[index].text += piece ?? delta.content ?? "";
      whole[index].ids.push(...(ids ?? []));
      whole[index].finish ??= finish;
    }
  }
  return JSON.stringify(whole);
}

/** Asks until there is an answer. Gives what it says, and how often there was none. */
async function ask(base, { url, body }) {
  for (let tries = 1; tries <= MOST_TRIES; tries++) {
    const response = await fetch(base + url, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(SILENT_MS),
    });
    const text = await response.text();
    const content = response.status === 200 ? contentOf(text) : null;
    if (content !== null) return { content, again: tries - 1 };
    if (response.status !== 200 && response.status !== 503) throw new Error(`${response.status} ${text.slice(0, 300)}`);
    await sleep(PAUSE_MS);
  }
  throw new Error(`${url} had no answer in ${MOST_TRIES} tries`);
}

/**
 * Starts the server on a model's folder.
 * @returns `round` lets the clients ask everything and gives the answers in order, and how many tries were in vain; `healthy`
 *   throws unless the server says that it is well
 */
export async function askedServer(main, model) {
  const { base, stop } = await serve(main, model);
  const round = async () => {
    const answers = [];
    const waiting = [...requests.entries()];
    const client = async () => {
      for (let next = waiting.shift(); next; next = waiting.shift()) {
        const [i, request] = next;
        answers[i] = await ask(base, request).catch((error) =>
          Promise.reject(new Error(`request ${i}: ${error.message}`)),
        );
      }
    };
    await Promise.all(Array.from({ length: CLIENTS }, client));
    return { answers: answers.map(({ content }) => content), again: answers.reduce((sum, one) => sum + one.again, 0) };
  };
  const healthy = async () => {
    for (let tries = 1; ; tries++) {
      const health = await fetch(`${base}/health`);
      const text = await health.text();
      if (health.status === 200 && JSON.parse(text).active === 0) return;
      if (tries === MOST_TRIES) throw new Error(`/health says ${health.status} ${text}`);
      await sleep(PAUSE_MS);
    }
  };
  return { round, healthy, stop };
}
