import type { IncomingMessage } from "node:http";
import { connect } from "node:net";
import { Readable } from "node:stream";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { OpenAIClient } from "webrlhf";
import { BodyReader } from "../../src/serve/body.ts";
import { completions } from "../../src/serve/completions.ts";
import { Admission } from "../../src/serve/limits.ts";
import { type TinyServer, tinyServer, tokenizer } from "./tiny-server.ts";

let server: TinyServer;
beforeAll(async () => {
  server = await tinyServer(
    { maxBodyBytes: 1 << 20, maxAnswerBytes: 1 << 20, maxRequestTokens: 20_000, writeMs: 500 },
    { maxWaiting: 300 },
  );
});
afterAll(() => server.stop());

async function ask(body: object | string, path = "/v1/completions", on = server) {
  const response = await fetch(on.url + path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: typeof body === "string" ? body : JSON.stringify(body),
  });
  const text = await response.text();
  const { error } = JSON.parse(text.startsWith("{") ? text : "{}") as { error?: { message: string; param: string } };
  return { status: response.status, text, message: error?.message ?? "", param: error?.param };
}

const ids = (length: number, seed = 1) => Array.from({ length }, (_, i) => 5 + ((seed * 31 + i * 7) % 300));
const many = (count: number, length: number) => Array.from({ length: count }, (_, seed) => ids(length, seed));

describe("a request's cost", () => {
  it.each<[string, object, RegExp]>([
    [
      "small requests for large answers",
      { prompt: many(16, 60), max_tokens: 0, echo: true, logprobs: 20, n: 128 },
      /16 prompts with n = 128.*--max_request_tokens|about \d+ bytes.*logprobs 20.*--max_answer_bytes/,
    ],
    ["many scores", { prompt: many(200, 60), max_tokens: 0, echo: true, logprobs: 20 }, /--max_answer_bytes/],
    ["many tokens", { prompt: many(100, 20), max_tokens: 100, n: 4 }, /up to 42000 tokens.*--max_request_tokens/],
    [
      "prompts given back again and again",
      { prompt: many(100, 100), max_tokens: 1, n: 20, return_token_ids: true },
      /--max_answer_bytes/,
    ],
  ])("is reckoned before anything is done: %s", async (_, body, message) => {
    const { status, message: said } = await ask(body);
    expect([status, said]).toEqual([413, expect.stringMatching(message)]);
    expect(server.model.engine.load).toEqual({ waiting: 0, active: 0 });
  });

  it("is about what the answer has", async () => {
    const reckoned = (body: object, asked: Parameters<Admission["admit"]>[0], chat = false) => {
      const admission = new Admission({ maxRequestTokens: 1e9, maxAnswerBytes: 1 });
      const bytes = () => {
        try {
          admission.admit(asked, chat);
        } catch (error) {
          return Number(/about (\d+) bytes/.exec((error as Error).message)?.[1]);
        }
        return 0;
      };
      return { body, bytes: bytes(), path: chat ? "/v1/chat/completions" : "/v1/completions" };
    };
    const base = { ignore_eos: true, seed: 1 };
    const plain = { echoed: 0, returnTokenIds: false };
    const prompt = tokenizer.decode(ids(40));
    const echoed = { prompts: [41], echoed: prompt.length, n: 4, longest: [40] };
    const messages = [{ role: "user", content: "Hi" }];
    for (const { body, bytes, path } of [
      reckoned(
        { ...base, prompt: ids(10), max_tokens: 100, n: 9 },
        { ...plain, prompts: [10], n: 9, longest: [100], logprobs: null },
      ),
      reckoned(
        { ...base, prompt, max_tokens: 40, n: 4, echo: true, logprobs: 0, return_token_ids: true },
        { ...echoed, logprobs: 0, returnTokenIds: true },
      ),
      reckoned(
        { ...base, prompt, max_tokens: 40, n: 4, echo: true, logprobs: 20 },
        { ...plain, ...echoed, logprobs: 20 },
      ),
      reckoned(
        { ...base, messages, max_tokens: 60, logprobs: true, top_logprobs: 20 },
        { ...plain, prompts: [9], n: 1, longest: [60], logprobs: 20 },
        true,
      ),
    ]) {
      const { text, status } = await ask(body, path);
      expect(status, text).toBe(200);
      expect(bytes / text.length).toBeGreaterThan(0.8);
      expect(bytes / text.length).toBeLessThan(2.5);
    }
  });

  it("of all large answers together has a limit, which small ones do not feel", () => {
    const admission = new Admission({ maxRequestTokens: 1e9, maxAnswerBytes: 1 << 20 });
    const asked = (longest: number) => ({
      prompts: [1],
      echoed: 0,
      n: 1,
      longest: [longest],
      logprobs: null,
      returnTokenIds: false,
    });
    const ends = Array.from({ length: 4 }, () => admission.admit(asked(160_000), false));
    expect(() => admission.admit(asked(160_000), false)).toThrow(/other large answers/);
    admission.admit(asked(100), false)();
    ends[0]();
    admission.admit(asked(160_000), false);
  });

  it("of long texts is bounded before they are tokenised", async () => {
    const { encode } = tokenizer;
    let longest = 0;
    tokenizer.encode = (text, options) => {
      const found = encode.call(tokenizer, text, options);
      longest = Math.max(longest, found.length);
      return found;
    };
    try {
      for (const prompt of ["word ".repeat(100_000), "a ".repeat(1500)]) {
        expect((await ask({ prompt })).status).toBe(400);
        expect((await ask({ messages: [{ role: "user", content: prompt }] }, "/v1/chat/completions")).status).toBe(400);
      }
    } finally {
      tokenizer.encode = encode;
    }
    expect(longest).toBeLessThan(200);
  });

  it("of many prompts does not keep others waiting", async () => {
    const slow = {
      ...server.model,
      encode(text: string) {
        block(5);
        return server.model.encode(text);
      },
    };
    let turns = 0;
    const ticking = setInterval(() => {
      turns += 1;
    }, 1);
    await completions(slow, { prompt: Array(40).fill("Once"), max_tokens: 1 }, new AbortController().signal);
    clearInterval(ticking);
    expect(turns).toBeGreaterThan(8);
    const gone = new AbortController();
    const asked = completions(slow, { prompt: Array(400).fill("Once"), max_tokens: 1 }, gone.signal);
    setTimeout(() => gone.abort(new Error("gone")), 20);
    await expect(asked).rejects.toThrow("gone");
  });
});

function block(ms: number): void {
  const end = performance.now() + ms;
  while (performance.now() < end);
}

describe("bodies", () => {
  const deep = `${"[".repeat(200_000)}${"]".repeat(200_000)}`;
  it.each([
    "temperature",
    "modalities",
    "logit_bias",
    "best_of",
    "prompt",
    "stop",
    "metadata",
    "model",
    "nobody_knows",
  ])("may not be nested deep in %s", async (field) => {
    for (const path of ["/v1/completions", "/v1/chat/completions"]) {
      const { status, message } = await ask(`{"prompt": "x", "${field}": ${deep}}`, path);
      expect([status, message]).toEqual([400, expect.stringMatching(/nested deeper than 32/)]);
    }
  });

  it("that are large are parsed one after the other, with time for others between", async () => {
    const body = Buffer.from(`{"prompt": "${"x".repeat(100_000)}"}`);
    const reader = new BodyReader(1 << 20);
    const request = () => {
      const stream = Readable.from([body]) as unknown as IncomingMessage;
      stream.headers = { "content-type": "application/json" };
      return stream;
    };
    const parse = vi.spyOn(JSON, "parse").mockImplementation(() => block(20));
    const began = performance.now();
    await Promise.all(Array.from({ length: 3 }, () => reader.json(request())));
    parse.mockRestore();
    expect(performance.now() - began).toBeGreaterThan(3 * 20 + 2 * 40 - 10);
  });

  it("may hold brackets in strings, and what is shown of them is short", async () => {
    const text = `Once ${"[".repeat(40)}"\\]{`;
    expect((await ask({ prompt: text, max_tokens: 1 })).status).toBe(200);
    const keys = `{${Array.from({ length: 20_000 }, (_, i) => `"k${i}": 1`).join()}}`;
    const { status, message } = await ask(keys);
    expect(status).toBe(400);
    expect(message.length).toBeLessThan(1100);
    expect((await ask({ prompt: "x", stop: "x".repeat(2000) })).param).toBe("stop");
    expect((await ask({ messages: 1, modalities: [[["text"]]] }, "/v1/chat/completions")).status).toBe(400);
  });
});

describe("an answer", () => {
  const endless = { prompt: "Once", max_tokens: 120, ignore_eos: true };

  it("takes a limited time", async () => {
    const hurried = await tinyServer({ requestMs: 20 }, { stepsPerRead: 1 });
    try {
      const body = { ...endless, n: 12, logprobs: 20, temperature: 0.5 };
      const { status, message } = await ask(body, undefined, hurried);
      expect([status, message]).toEqual([504, expect.stringMatching(/longer than 0.02 s \(--request_timeout\)/)]);
      const idle = () =>
        expect.poll(() => hurried.model.engine.load, { timeout: 20_000 }).toEqual({ waiting: 0, active: 0 });
      await idle(); // or there may be no room yet for the next
      expect((await ask({ ...body, stream: true }, undefined, hurried)).text).toMatch(/request_timeout.*\[DONE\]/s);
      await idle();
    } finally {
      await hurried.stop();
    }
  });

  it("that breaks off for several prompts at once ends no process", async () => {
    const unhandled: unknown[] = [];
    const hear = (error: unknown) => void unhandled.push(error);
    process.on("unhandledRejection", hear);
    try {
      const controller = new AbortController();
      const body = { ...endless, prompt: ["Once", "The dog", "One day"], stream: true };
      const answer = await completions(server.model, body, controller.signal);
      if (!("events" in answer)) throw new Error("no stream");
      await answer.events.next();
      controller.abort(new Error("gone")); // while nobody waits for the next event
      await new Promise((resolve) => setTimeout(resolve, 50));
      const rest = async () => {
        for await (const _ of answer.events);
      };
      await expect(rest()).rejects.toThrow("gone");
      await new Promise((resolve) => setTimeout(resolve, 20));
    } finally {
      process.off("unhandledRejection", hear);
    }
    expect(unhandled).toEqual([]);
  });
});

describe("connections", () => {
  const head =
    "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n";

  it("that never finish what they ask take nobody's place", async () => {
    const small = await tinyServer({ maxRequests: 4, maxConnections: 30, bodyMs: 60_000, headersMs: 60_000 });
    const sockets = Array.from({ length: 100 }, (_, i) => {
      const socket = connect(small.port, "127.0.0.1");
      socket.on("error", () => {}).pause();
      socket.write(i % 2 ? head : head.slice(0, 40));
      return socket;
    });
    try {
      await new Promise((resolve) => setTimeout(resolve, 100));
      expect(small.active).toBe(0);
      for (let i = 0; i < 5; i++)
        expect((await ask({ prompt: "Once", max_tokens: 1 }, undefined, small)).status).toBe(200);
    } finally {
      for (const socket of sockets) socket.destroy();
      await small.stop();
    }
  });

  it("that were refused are gone soon, whether the other side closes or not", async () => {
    const small = await tinyServer({ bodyMs: 300, headersMs: 200 });
    const sockets = [head, head.slice(0, 30), "rubbish\r\n\r\n", head.replace("/v1/completions", "/nowhere")].map(
      (text) => {
        const socket = connect({ port: small.port, host: "127.0.0.1", allowHalfOpen: true });
        socket.on("error", () => {});
        socket.write(text);
        return new Promise<void>((resolve) => {
          const probe = setInterval(() => socket.write("x"), 100); // a peer that is gone answers with a reset
          socket.on("close", () => {
            clearInterval(probe);
            resolve();
          });
        });
      },
    );
    await Promise.all(sockets);
    await small.stop();
  });

  it("that are gone take with them what they sent ahead", async () => {
    const socket = connect(server.port, "127.0.0.1");
    const body = JSON.stringify({ prompt: "Once", max_tokens: 100, ignore_eos: true, n: 8 });
    const one = `${head.replace("500", String(body.length))}${body}`;
    socket.write(one.repeat(20));
    await expect.poll(() => server.active).toBeGreaterThan(2);
    socket.resetAndDestroy();
    await expect.poll(() => server.active, { timeout: 3000 }).toBe(0);
    await expect.poll(() => server.model.engine.load).toEqual({ waiting: 0, active: 0 });
  });

  it("with a mistake among what they sent ahead get all answers", async () => {
    const slow = await tinyServer({ writeMs: 300 }, { stepsPerRead: 1 });
    const engine = slow.model.engine;
    const { submit } = engine;
    // The first answer takes longer than a refusal, and its reader, may.
    engine.submit = (request) => {
      const generation = submit.call(engine, request);
      const iterate = generation[Symbol.asyncIterator].bind(generation);
      generation[Symbol.asyncIterator] = async function* () {
        await new Promise((resolve) => setTimeout(resolve, 1500));
        yield* iterate();
      };
      return generation;
    };
    const send = (body: object) => {
      const text = JSON.stringify(body);
      return `${head.replace("500", String(text.length))}${text}`;
    };
    const socket = connect(slow.port, "127.0.0.1");
    let text = "";
    socket.on("data", (part) => {
      text += part;
    });
    const fine = { prompt: "Once", max_tokens: 2 };
    socket.write(send(fine) + send({ wrong: 1 }) + send(fine));
    await expect
      .poll(() => text.match(/HTTP\/1.1 \d+/g), { timeout: 8000 })
      .toEqual(["HTTP/1.1 200", "HTTP/1.1 400", "HTTP/1.1 200"]);
    socket.destroy();
    await slow.stop();
  });

  it("on which nobody reads are cut, and do not hold up the end", async () => {
    const other = await tinyServer({ writeMs: 60_000 }, { maxWaiting: 200 });
    const socket = connect(other.port, "127.0.0.1");
    socket.on("error", () => {}).pause();
    const body = JSON.stringify({
      prompt: ids(20),
      max_tokens: 100,
      ignore_eos: true,
      n: 40,
      logprobs: 20,
      stream: true,
    });
    socket.write(`${head.replace("500", String(body.length))}${body}`);
    await expect.poll(() => other.active).toBe(1);
    await expect.poll(() => other.model.engine.load, { timeout: 20_000 }).toEqual({ waiting: 0, active: 0 });
    const began = performance.now();
    await other.close(100);
    expect(performance.now() - began).toBeLessThan(3000);
    socket.destroy();
    await other.stop();
  });
});

describe("keys and logs", () => {
  it("knows keys in any letters, whatever way a client writes them", async () => {
    for (const apiKey of ["schlüssel", "ключ🔑", "clé à", "plain"]) {
      const closed = await tinyServer({ apiKey });
      const status = async (key: Buffer) => {
        const socket = connect(closed.port, "127.0.0.1");
        const text = new Promise<string>((resolve) => socket.once("data", (data) => resolve(String(data))));
        const request = ["GET /v1/models HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ", key, "\r\n\r\n"];
        socket.write(Buffer.concat(request.map((part) => Buffer.from(part))));
        const found = /^HTTP\/1.1 (\d+)/.exec(await text)?.[1];
        socket.destroy();
        return found;
      };
      try {
        expect(await new OpenAIClient({ baseUrl: closed.url, apiKey }).models()).toEqual(["tiny"]);
        expect(await status(Buffer.from(apiKey))).toBe("200");
        // Of letters that Latin-1 does not know it keeps a byte, which is another key (or none that HTTP can carry).
        const low = Buffer.from(apiKey, "latin1");
        const is = low.toString("latin1") === apiKey;
        expect(["200", "400", "401"].indexOf((await status(low)) ?? "") === 0).toBe(is);
        expect(await status(Buffer.from(`${apiKey}x`))).toBe("401");
        expect(await status(Buffer.from(apiKey.slice(0, -1)))).toBe("401");
      } finally {
        await closed.stop();
      }
    }
    await expect(tinyServer({ apiKey: "a\u0007b" })).rejects.toThrow(/control characters/);
    await expect(tinyServer({ apiKey: " " })).rejects.toThrow(/empty/);
  });

  it("writes down no query, and no control character", async () => {
    server.logged.length = 0;
    await fetch(`${server.url}/v1/models?api_key=secret#secret`);
    await fetch(`${server.url}/secret%0A%1b[31m?secret`);
    const socket = connect(server.port, "127.0.0.1");
    socket.write("GET /\u001b[2J\u009b?x=secret HTTP/1.1\r\nHost: localhost\r\n\r\n");
    await new Promise((resolve) => setTimeout(resolve, 100));
    socket.destroy();
    expect(server.logged.join("\n")).not.toMatch(/=secret|\?/);
    for (const line of server.logged) expect(line).toMatch(/^[\x20-\x7e]*$/);
    expect(server.logged[0]).toMatch(/^GET \/v1\/models 200 /);
  });
});
