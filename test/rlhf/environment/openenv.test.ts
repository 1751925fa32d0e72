/** Environments of an OpenEnv server, played against a server of these tests' own in the same process. */
import { describe, expect, it } from "vitest";
import { type OpenEnvOptions, openEnvEnvironment, type SocketLike } from "webrlhf/rlhf";
import { said } from "./said.ts";

const address = "http://127.0.0.1:8000";
const actions = { properties: { message: { type: "string" }, metadata: { type: "object" } }, required: ["message"] };
const schemaOf = (action: object) => (async () => new Response(JSON.stringify({ action }))) as typeof fetch;

/** A server of one number to guess; `heard` are the messages that came. */
function server(answer?: (message: { type: string; data: Record<string, unknown> }) => unknown) {
  const heard: { type: string; data: Record<string, unknown> }[] = [];
  let closed = 0;
  const open = (url: string): SocketLike => {
    expect(url).toBe("ws://127.0.0.1:8000/ws");
    const socket: SocketLike = {
      ...{ onopen: null, onmessage: null, onerror: null, onclose: null },
      close: () => void closed++,
      send(text) {
        const message = JSON.parse(String(text)) as { type: string; data: Record<string, unknown> };
        heard.push(message);
        if (message.type === "close") {
          closed++;
          return socket.onclose?.call(socket as WebSocket, {} as CloseEvent);
        }
        const own = answer?.(message) ?? played(message);
        if (own !== undefined) queueMicrotask(() => hear(typeof own === "string" ? own : JSON.stringify(own)));
      },
    };
    const hear = (data: string) => socket.onmessage?.call(socket as WebSocket, { data } as MessageEvent);
    setTimeout(() => socket.onopen?.call(socket as WebSocket, {} as Event));
    return socket;
  };
  return { open, heard, closed: () => closed };
}
const played = ({ type, data }: { type: string; data: Record<string, unknown> }) => {
  if (type === "reset")
    return { type: "observation", data: { observation: { text: `seed ${data.seed}` }, reward: null, done: false } };
  const right = data.message === "7";
  if (type === "step")
    return { type: "observation", data: { observation: { text: "no", left: 2 }, reward: right, done: right } };
};

const quiet = () => new AbortController().signal;
async function episode(options: OpenEnvOptions, row = {}, signal = quiet()) {
  const environment = await openEnvEnvironment(address, { fetch: schemaOf(actions), ...options });
  return environment.reset({ prompt: { text: "", ids: new Uint32Array(), row }, seed: 5, signal });
}

describe("an OpenEnv server's environment", () => {
  it("plays an episode in a session of its own: reset with the row, steps with what the policy writes, and a close", async () => {
    const { open, heard, closed } = server();
    const { observation, step, close } = await episode({ open }, { level: 2 });
    expect(observation).toEqual([{ role: "user", content: "seed 5" }]);
    expect(await step(said("3"))).toEqual({ observation: [{ role: "user", content: "no" }], reward: 0, done: false });
    expect(await step(said("7"))).toMatchObject({ reward: 1, done: true });
    await close?.();
    expect(heard).toEqual([
      { type: "reset", data: { seed: 5, level: 2 } },
      { type: "step", data: { message: "3" } },
      { type: "step", data: { message: "7" } },
      { type: "close" },
    ]);
    expect(closed()).toBe(1);
  });

  it("has rows of its own, whose seeds are the same for all responses to a prompt", async () => {
    const { open, heard } = server();
    const environment = await openEnvEnvironment(address, { fetch: schemaOf(actions), open });
    const rows = environment.rows?.(3, 1, "train") ?? [];
    expect(rows).toEqual(environment.rows?.(3, 1, "train"));
    expect(rows).not.toEqual(environment.rows?.(3, 1, "test"));
    for (const seed of [8, 9])
      await environment.reset({ prompt: { text: "", ids: new Uint32Array(), row: rows[0] }, seed, signal: quiet() });
    expect(heard.map(({ data }) => data.seed)).toEqual([rows[0].seed, rows[0].seed]);
  });

  it("shows an observation of several texts as JSON", async () => {
    const observation = { stdout: "a", stderr: "b" };
    const { open } = server(() => ({ type: "observation", data: { observation, reward: 0.5, done: false } }));
    expect((await episode({ open })).observation).toEqual([{ role: "user", content: JSON.stringify(observation) }]);
  });

  it.each([
    [
      () => ({ type: "error", data: { code: "CAPACITY_REACHED", message: "1 of 1" } }),
      "CAPACITY_REACHED: 1 of 1; all episodes of a rollout",
    ],
    [
      () => ({ type: "error", data: { code: "VALIDATION_ERROR", message: "no" } }),
      "answered reset with VALIDATION_ERROR: no",
    ],
    [() => "{", "something that is no observation"],
    [() => ({ type: "observation", data: { observation: {}, reward: "much", done: false } }), "no observation"],
    [() => ({ type: "observation", data: { observation: {}, reward: 0, done: true } }), "over before the first turn"],
    [() => "x".repeat((1 << 20) + 1), "no text of at most 1048576 characters"],
  ])("says what is wrong with an answer, and closes", async (answer, message) => {
    const { open, closed } = server(answer);
    await expect(episode({ open })).rejects.toThrow(message);
    expect(closed()).toBeGreaterThan(0);
  });

  it("waits no longer than it may, and says when the connection breaks", async () => {
    const patience = new AbortController();
    const { open, closed } = server(({ type }) => (type === "step" ? "" : undefined));
    const silent = { ...server(), open: (url: string) => Object.assign(open(url), { send: () => {} }) };
    setTimeout(() => patience.abort(new Error("too long")), 20);
    await expect(episode(silent, {}, patience.signal)).rejects.toThrow("too long");
    expect(closed()).toBeGreaterThan(0);
    let socket: SocketLike | undefined;
    const breaking = server();
    const { step } = await episode({ open: (url) => (socket = breaking.open(url)) });
    socket?.onclose?.call(socket as WebSocket, {} as CloseEvent);
    await expect(step(said("1"))).rejects.toThrow("the server closed the connection");
  });

  it("names the field of an action that takes a text, and refuses actions that have none", async () => {
    const { open, heard } = server();
    const two = {
      properties: { code: { type: "string" }, language: { type: "string" } },
      required: ["code", "language"],
    };
    const opened = (action: object, field?: string) =>
      openEnvEnvironment(address, { open, fetch: schemaOf(action), field });
    await expect(opened(two)).rejects.toThrow("name one as openenv:http://127.0.0.1:8000#code (code, language)");
    await expect(opened(two, "text")).rejects.toThrow("no text field text; there are code, language");
    await expect(opened({ properties: { move: { type: "integer" } }, required: ["move"] })).rejects.toThrow(
      "an action needs move",
    );
    await expect(opened({ properties: {} })).rejects.toThrow("no text field that a policy could write");
    const broken = (async () => new Response("no", { status: 404 })) as typeof fetch;
    await expect(openEnvEnvironment(address, { open, fetch: broken })).rejects.toThrow("it answered 404");
    const more = { pull: (to: ReadableStreamDefaultController<Uint8Array>) => to.enqueue(new Uint8Array(1 << 16)) };
    const endless = (async () => new Response(new ReadableStream(more))) as typeof fetch;
    await expect(openEnvEnvironment(address, { open, fetch: endless })).rejects.toThrow("more than 1048576 bytes");
    const chosen = await openEnvEnvironment(address, { open, fetch: schemaOf(two), field: "code" });
    const { step } = await chosen.reset({ prompt: { text: "", ids: new Uint32Array() }, seed: 1, signal: quiet() });
    await step(said("print(1)"));
    expect(heard.at(-1)?.data).toEqual({ code: "print(1)" });
  });

  it("asks this machine alone without https, and no address with a password", async () => {
    const at = (text: string) => openEnvEnvironment(text, { open: server().open, fetch: schemaOf(actions) });
    await expect(at("http://10.0.0.1:8000")).rejects.toThrow("only this machine is asked over plain http");
    await expect(at("ftp://127.0.0.1")).rejects.toThrow("only http and https");
    await expect(at("https://a:b@example.org")).rejects.toThrow("leave the name and password out");
    await expect(at("http://127.0.0.1:1/?x=1")).rejects.toThrow("has no query");
    expect((await at("https://env.example.org/one/")).name).toBe("openenv:https://env.example.org/one");
  });
});
