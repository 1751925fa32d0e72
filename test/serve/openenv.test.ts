/** An environment served over OpenEnv's protocol: our client plays the same episodes as in process, and servers stay bounded. */
import { afterEach, describe, expect, it } from "vitest";
import {
  type Environment,
  type EnvironmentRow,
  gridEnvironment,
  guessEnvironment,
  openEnvEnvironment,
  type SocketLike,
} from "webrlhf/rlhf";
import { WebSocket } from "ws";
import { type EnvironmentServerOptions, serveEnvironment } from "../../src/serve/openenv/server.ts";
import { said } from "../rlhf/environment/said.ts";

const opened: { close(): Promise<void> }[] = [];
afterEach(async () => {
  for (const one of opened.splice(0)) await one.close();
});

async function served(environment: Environment, options: Partial<EnvironmentServerOptions> = {}) {
  const server = await serveEnvironment(environment, { port: 0, ...options });
  opened.push(server);
  return server;
}

const open = (url: string): SocketLike => new WebSocket(url) as unknown as SocketLike;
const quiet = () => new AbortController().signal;
const promptOf = (row: EnvironmentRow) => ({ text: "", ids: new Uint32Array(0), row });

/** What an environment shows and gives for what is said in an episode. */
async function played(environment: Environment, row: EnvironmentRow, words: readonly string[]): Promise<unknown[]> {
  const episode = await environment.reset({ prompt: promptOf(row), seed: 3, signal: quiet() });
  const all: unknown[] = [episode.observation];
  for (const [turn, text] of words.entries()) {
    const { observation, reward = 0, done = false } = await episode.step(said(text, { turn }));
    all.push([done ? null : observation, reward, done]);
    if (done) break;
  }
  await episode.close?.();
  return all;
}

/** A client of the bare protocol. */
async function bare(url: string, headers: Record<string, string> = {}) {
  const socket = new WebSocket(`${url.replace("http", "ws")}/ws`, { headers });
  const heard: { type: string; data: Record<string, unknown> }[] = [];
  let closed = false;
  let more = () => {};
  socket.on("message", (data) => {
    heard.push(JSON.parse(String(data)));
    more();
  });
  socket.on("close", () => {
    closed = true;
    more();
  });
  await new Promise<void>((resolve, reject) => {
    socket.on("open", resolve);
    socket.on("error", reject);
  });
  /** The next answer; null when the connection is closed. */
  const next = async () => {
    while (heard.length === 0 && !closed) {
      await new Promise<void>((resolve) => {
        more = resolve;
      });
    }
    return heard.shift() ?? null;
  };
  const say = (text: string | Uint8Array) => socket.send(text);
  const ask = (type: string, data?: unknown) => {
    say(JSON.stringify({ type, data }));
    return next();
  };
  return { ask, say, next, end: () => socket.terminate() };
}

describe("an environment that is served", () => {
  it("is played by this project's client as in process", async () => {
    for (const [environment, row, words] of [
      [guessEnvironment(7), { number: 6 }, ["4", "six", "6"]],
      [guessEnvironment(7), { number: 1 }, ["4", "3", "2"]],
      [gridEnvironment(), { row: 3, column: 4 }, ["left", "right", "down"]],
    ] as const) {
      const { url } = await served(environment);
      const there = await openEnvEnvironment(url, { open });
      expect(await played(there, row, words)).toEqual(await played(environment, row, words));
    }
  });

  it("says how it is talked to", async () => {
    const { url } = await served(guessEnvironment());
    const get = async (path: string) => (await fetch(url + path)).json();
    expect(await get("/health")).toEqual({ status: "healthy" });
    expect(await get("/schema")).toMatchObject({ action: { required: ["text"] }, observation: { required: ["text"] } });
    expect(await get("/metadata")).toMatchObject({ name: "guess" });
    expect((await fetch(`${url}/reset`, { method: "POST", body: "{}" })).status).toBe(405);
    expect((await fetch(`${url}/elsewhere`)).status).toBe(404);
  });

  it("begins from the columns that it gets, or from a row of its own by the seed, and shows the row's prompt", async () => {
    const starts: unknown[] = [];
    const noting: Environment = {
      rows: (n, seed) => Array.from({ length: n }, () => ({ made: seed })),
      reset({ prompt: { row, text, messages }, seed }) {
        starts.push([row, text, messages, seed]);
        return { step: () => ({ done: true }) };
      },
    };
    const { url } = await served(noting);
    const { ask } = await bare(url);
    expect(await ask("reset", { seed: 5, prompt: "Go", level: 2 })).toEqual({
      type: "observation",
      data: { observation: { text: "Go" }, reward: null, done: false },
    });
    const messages = [{ role: "user", content: "Go" }];
    expect(await ask("reset", { seed: 6, prompt: messages })).toMatchObject({ data: { observation: { text: "Go" } } });
    expect(await ask("reset", { seed: 7 })).toMatchObject({ type: "error", data: { code: "EXECUTION_ERROR" } });
    expect(starts).toEqual([
      [{ prompt: "Go", level: 2 }, "Go", undefined, 5],
      [{ prompt: messages }, "", messages, 6],
      [{ made: 7 }, "", undefined, 7],
    ]);
  });

  it("counts steps, says goodbye, and ends every episode once", async () => {
    let ended = 0;
    const environment: Environment = {
      reset: () => ({
        observation: "go",
        step: ({ text, turn }) => ({ observation: `${turn}: ${text}`, done: text === "stop" }),
        close: () => void ended++,
      }),
    };
    const server = await served(environment);
    const { ask } = await bare(server.url);
    expect(await ask("state")).toEqual({ type: "state", data: { episode_id: null, step_count: 0 } });
    expect(await ask("step", { text: "a" })).toMatchObject({ type: "error", data: { code: "SESSION_ERROR" } });
    await ask("reset", { episode_id: "mine" });
    expect(await ask("step", { text: "a", metadata: {} })).toMatchObject({
      data: { observation: { text: "0: a" }, reward: 0 },
    });
    expect(await ask("state")).toEqual({ type: "state", data: { episode_id: "mine", step_count: 1 } });
    expect(await ask("step", { text: "stop" })).toMatchObject({ data: { done: true } });
    expect(await ask("step", { text: "b" })).toMatchObject({ type: "error", data: { code: "SESSION_ERROR" } });
    expect(ended).toBe(1);
    await ask("reset");
    await ask("reset");
    expect(ended).toBe(2);
    expect(await ask("close")).toBeNull();
    expect([ended, server.sessions]).toEqual([3, 0]);
  });

  it("tells what is wrong with a message, and goes on", async () => {
    const lines: string[] = [];
    const failing: Environment = {
      reset: ({ seed }) => ({
        observation: "go",
        step() {
          if (seed === 1) throw new Error("out of order");
          if (seed === 2) return { done: false };
          return { observation: Uint32Array.of(1), done: false };
        },
      }),
    };
    const { url } = await served(failing, { log: (line) => void lines.push(line) });
    const { ask, say, next } = await bare(url);
    say("{");
    expect(await next()).toMatchObject({ type: "error", data: { code: "INVALID_JSON" } });
    say(`{"type":"reset","data":${"[".repeat(40)}${"]".repeat(40)}}`);
    expect(await next()).toMatchObject({ data: { code: "INVALID_JSON", message: expect.stringContaining("nested") } });
    for (const [type, data, code] of [
      ["mcp", {}, "UNKNOWN_TYPE"],
      ["reset", [], "VALIDATION_ERROR"],
      ["reset", { seed: -1 }, "VALIDATION_ERROR"],
      ["reset", { prompt: [{ content: "Go" }] }, "VALIDATION_ERROR"],
      ["step", { message: "a" }, "VALIDATION_ERROR"],
      ["step", { text: "a", more: 1 }, "VALIDATION_ERROR"],
    ] as const) {
      expect(await ask(type, data), type).toMatchObject({ type: "error", data: { code } });
    }
    for (const [seed, message] of [
      [1, "out of order"],
      [2, "step gave nothing for the policy to go on from"],
      [3, "shows token ids"],
    ] as const) {
      await ask("reset", { seed });
      const answer = await ask("step", { text: "a" });
      expect(answer).toMatchObject({ type: "error", data: { code: "EXECUTION_ERROR" } });
      expect(answer?.data.message).toContain(message);
      expect(await ask("step", { text: "a" })).toMatchObject({ data: { code: "SESSION_ERROR" } }); // a failed one is over
    }
    expect(lines).toHaveLength(3);
  });
});

describe("a server of an environment", () => {
  const silent: Environment = { reset: () => ({ observation: "go", step: () => new Promise(() => {}) }) };

  it("has room for so many sessions, and gives the room back", async () => {
    const server = await served(guessEnvironment(), { maxSessions: 1 });
    const first = await bare(server.url);
    await first.ask("reset", { number: 3 });
    const there = await openEnvEnvironment(server.url, { open });
    const begin = async () => there.reset({ prompt: promptOf({ number: 3 }), seed: 1, signal: quiet() });
    await expect(begin()).rejects.toThrow("CAPACITY_REACHED: 1 of 1 sessions are open");
    await first.ask("close");
    const second = await begin();
    expect(second.observation).toBeDefined();
    await second.close?.();
  });

  it("waits neither for environments nor for clients longer than it may", async () => {
    const { url } = await served(silent, { timeoutMs: 20 });
    const { ask } = await bare(url);
    await ask("reset");
    const late = await ask("step", { text: "a" });
    expect(late?.data.message).toContain("no answer within 0.02 seconds");
    const idle = await bare((await served(silent, { idleMs: 20 })).url);
    expect(await idle.next()).toMatchObject({
      data: { code: "SESSION_ERROR", message: "nothing came for 0.02 seconds" },
    });
    expect(await idle.next()).toBeNull();
  });

  it("cuts off who sends too much, too far ahead, or no text", async () => {
    const { url } = await served(silent);
    const large = await bare(url);
    large.say(JSON.stringify({ type: "reset", data: { text: "x".repeat(1 << 20) } }));
    expect(await large.next()).toBeNull();
    const hasty = await bare(url);
    await hasty.ask("reset");
    for (let i = 0; i < 10; i++) hasty.say(JSON.stringify({ type: "step", data: { text: "a" } }));
    expect(await hasty.next()).toBeNull();
    const other = await bare(url);
    other.say(Uint8Array.of(1, 2));
    expect(await other.next()).toBeNull();
  });

  it("answers neither pages of others nor foreign names, and no other path", async () => {
    const { url } = await served(guessEnvironment());
    await expect(bare(url, { Origin: "https://example.org" })).rejects.toThrow("403");
    await expect(bare(url, { Host: "example.org" })).rejects.toThrow("403");
    await expect(bare(`${url}/deeper`)).rejects.toThrow("404");
    expect((await fetch(`${url}/schema`, { headers: { Origin: "https://example.org" } })).status).toBe(403);
  });

  it("ends its sessions when it stops, and says why a port cannot be had", async () => {
    let ended = 0;
    const server = await serveEnvironment(
      { reset: () => ({ observation: "go", step: () => new Promise(() => {}), close: () => void ended++ }) },
      { port: 0 },
    );
    await expect(serveEnvironment(silent, { port: server.port })).rejects.toThrow("another program listens there");
    const { ask, say, next } = await bare(server.url);
    await ask("reset");
    say(JSON.stringify({ type: "step", data: { text: "a" } }));
    await server.close();
    expect(await next()).toBeNull();
    expect([ended, server.sessions]).toEqual([1, 0]);
  });
});
