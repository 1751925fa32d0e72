import { connect, type Socket } from "node:net";
import OpenAI from "openai";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { type TinyServer, tinyServer } from "./tiny-server.ts";

let server: TinyServer;
const open: Socket[] = [];

beforeAll(async () => {
  server = await tinyServer({ maxBodyBytes: 20_000, headersMs: 1000, bodyMs: 2000, writeMs: 1000, maxRequests: 16 });
});
afterAll(() => server.stop());
afterEach(async () => {
  for (const socket of open.splice(0)) socket.destroy();
  // Whatever happened: nothing is left over, and the next one is served.
  await expect.poll(() => server.active, { timeout: 20_000 }).toBe(0);
  await expect.poll(() => server.model.engine.load, { timeout: 20_000 }).toEqual({ waiting: 0, active: 0 });
  const client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: "none", maxRetries: 0 });
  const fine = await client.completions.create({ model: "tiny", prompt: "Once", max_tokens: 3, seed: 1 });
  expect(fine.choices[0].finish_reason).toMatch(/stop|length/);
});

/** A connection, and everything that comes back over it until it is closed (or for so long). */
function raw(): { socket: Socket; all: (ms?: number) => Promise<string> } {
  const socket = connect(server.port, "127.0.0.1");
  socket.on("error", () => {});
  open.push(socket);
  let text = "";
  socket.on("data", (part) => {
    text += part.toString("latin1");
  });
  const all = (ms = 5000) =>
    new Promise<string>((resolve) => {
      const timer = setTimeout(() => resolve(text), ms);
      socket.on("close", () => {
        clearTimeout(timer);
        resolve(text);
      });
    });
  return { socket, all };
}

const request = (body: string | Buffer, more = "", path = "/v1/completions") =>
  Buffer.concat([
    Buffer.from(
      `POST ${path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n${more}` +
        `Content-Length: ${Buffer.byteLength(body)}\r\n\r\n`,
    ),
    Buffer.from(body),
  ]);

const send = async (data: Buffer | string, ms = 5000): Promise<string> => {
  const { socket, all } = raw();
  socket.write(data);
  return all(ms);
};

const post = (body: BodyInit, headers: Record<string, string> = {}, path = "/v1/completions") =>
  fetch(server.url + path, { method: "POST", body, headers: { "Content-Type": "application/json", ...headers } });

const errorOf = async (response: Response) => ({
  status: response.status,
  ...((await response.json()) as { error: { message: string; type: string; code: string | null } }),
});

const long = { model: "tiny", prompt: "Once", max_tokens: 100, ignore_eos: true, stream: true };

describe("bodies", () => {
  it.each<[string, BodyInit, RegExp]>([
    ["no JSON", "hello", /could not parse the JSON/],
    ["half a JSON", '{"prompt": "x"', /could not parse the JSON/],
    ["an empty body", "", /could not parse the JSON/],
    ["bad UTF-8", Uint8Array.of(0x22, 0xff, 0xfe, 0x22), /not valid UTF-8/],
    ["no object", "[1, 2]", /must be a JSON object/],
    ["null", "null", /must be a JSON object/],
    ["JSON nested deep", `${"[".repeat(9000)}${"]".repeat(9000)}`, /JSON/],
    ["a prototype", '{"__proto__": {"prompt": "x"}, "constructor": 1}', /prompt must be/],
  ])("refuses %s", async (_, body, message) => {
    const { status, error } = await errorOf(await post(body));
    expect(status).toBe(400);
    expect(error.message).toMatch(message);
    expect(error.type).toBe("invalid_request_error");
  });

  it("refuses what is too large, by its announced and by its real size", async () => {
    const big = JSON.stringify({ prompt: "x".repeat(30_000) });
    const announced = await errorOf(await post(big));
    expect([announced.status, announced.error.code]).toEqual([413, "request_too_large"]);
    const head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    const chunk = `4000\r\n${"x".repeat(0x4000)}\r\n`;
    const chunked = await send(`${head}Transfer-Encoding: chunked\r\n\r\n${chunk}${chunk}${chunk}0\r\n\r\n`);
    expect(chunked).toMatch(/^HTTP\/1.1 413 /);
    expect(chunked).toMatch(/connection: close/i);
  });

  it("refuses other kinds of content, so that no form can post here", async () => {
    for (const type of ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"]) {
      expect((await post('{"prompt": "x"}', { "Content-Type": type })).status).toBe(415);
    }
    expect((await post('{"prompt": "x"}', { "Content-Encoding": "gzip" })).status).toBe(415);
  });
});

describe("paths, methods and headers", () => {
  it("answers unknown ones with the right status", async () => {
    const get = (path: string, init?: RequestInit) => fetch(server.url + path, init);
    expect((await get("/")).status).toBe(404);
    expect((await get("/v1/engines")).status).toBe(404);
    expect((await get("/v1/models/%E0%A4%A")).status).toBe(404);
    const wrong = await get("/v1/completions");
    expect([wrong.status, wrong.headers.get("allow")]).toEqual([405, "POST"]);
    expect((await get("/v1/models", { method: "DELETE" })).status).toBe(405);
    expect((await get("/health", { method: "HEAD" })).status).toBe(200);
    expect(await (await get("/health")).json()).toMatchObject({ status: "ok" });
    expect((await get("/v1/models/?x=1")).status).toBe(200);
  });

  it("does not answer under names that somebody else pointed here, nor to pages of other origins", async () => {
    const get = (headers: string) => send(`GET /v1/models HTTP/1.1\r\n${headers}\r\nConnection: close\r\n\r\n`);
    expect(await get("Host: evil.example")).toMatch(/^HTTP\/1.1 403 .*host_not_allowed/s);
    expect(await get("Host: localhost.evil.example:80")).toMatch(/^HTTP\/1.1 403 /);
    expect(await get("Host: 127.0.0.1.evil.example")).toMatch(/^HTTP\/1.1 403 /);
    expect(await get("Host: LOCALHOST:1234")).toMatch(/^HTTP\/1.1 200 /);
    expect(await get("Host: [::1]:1234")).toMatch(/^HTTP\/1.1 200 /);
    expect(await get("X: no host")).toMatch(/^HTTP\/1.1 400 /);
    const page = await get("Host: localhost\r\nOrigin: https://evil.example");
    expect(page).toMatch(/^HTTP\/1.1 403 .*origin_not_allowed/s);
    expect(page).not.toMatch(/access-control/i);
    expect(await get("Host: localhost\r\nOrigin: null")).toMatch(/^HTTP\/1.1 403 /);
    const preflight = await fetch(`${server.url}/v1/models`, { method: "OPTIONS", headers: { Origin: "https://a.b" } });
    expect([preflight.status, preflight.headers.get("access-control-allow-origin")]).toEqual([403, null]);
  });

  it("lets in the origins and hosts that it is told of", async () => {
    const friendly = await tinyServer({ corsOrigins: ["https://page.example"], allowedHosts: ["my.host"] });
    try {
      const headers = { Origin: "https://page.example" };
      const preflight = await fetch(`${friendly.url}/v1/completions`, { method: "OPTIONS", headers });
      expect(preflight.status).toBe(204);
      expect(preflight.headers.get("access-control-allow-origin")).toBe("https://page.example");
      expect(preflight.headers.get("access-control-allow-headers")).toMatch(/Authorization/);
      const models = await fetch(`${friendly.url}/v1/models`, { headers });
      expect(models.headers.get("access-control-allow-origin")).toBe("https://page.example");
      const socket = connect(friendly.port, "127.0.0.1");
      const answer = await new Promise<string>((resolve) => {
        socket.once("data", (d) => resolve(String(d)));
        socket.write("GET /health HTTP/1.1\r\nHost: my.host\r\nConnection: close\r\n\r\n");
      });
      expect(answer).toMatch(/^HTTP\/1.1 200 /);
    } finally {
      await friendly.stop();
    }
  });

  it("refuses what is not HTTP, and headers without end", async () => {
    expect(await send("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 this is TLS\r\n\r\n")).toMatch(/^HTTP\/1.1 400 /);
    expect(await send(`GET /health HTTP/1.1\r\nHost: localhost\r\nX: ${"x".repeat(40_000)}\r\n\r\n`)).toMatch(
      /^HTTP\/1.1 431 /,
    );
    const smuggled =
      "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    expect(await send(smuggled)).toMatch(/^HTTP\/1.1 400 /);
    const log = await send("GET /%0d%0a\x01evil HTTP/1.1\r\nHost: localhost\r\n\r\n", 300);
    expect(log).toMatch(/^HTTP\/1.1 4/);
    expect(server.logged.every((line) => /^[\x20-\x7e]*$/.test(line))).toBe(true);
  });
});

describe("clients that are slow, many or gone", () => {
  it("does not wait for ever for headers and bodies", async () => {
    const slowHead = raw();
    slowHead.socket.write("POST /v1/completions HTTP/1.1\r\nHost: loc");
    const slowBody = raw();
    slowBody.socket.write(request("x".repeat(100)).subarray(0, 150));
    const silent = raw();
    const dripping = raw();
    dripping.socket.write("GET /health HTTP/1.1\r\n");
    const drip = setInterval(() => dripping.socket.write("A: b\r\n"), 50);
    const answers = await Promise.all([slowHead.all(), slowBody.all(), dripping.all(), silent.all(4000)]);
    clearInterval(drip);
    expect(answers[0]).toMatch(/^HTTP\/1.1 408 /);
    expect(answers[1]).toMatch(/^HTTP\/1.1 408 /);
    expect(answers[2]).toMatch(/^HTTP\/1.1 408 /);
  });

  it("frees the slots of those who hang up, at any moment", async () => {
    const whole = request(JSON.stringify({ ...long, n: 3 }));
    for (const delay of [0, 1, 5, 20, 60]) {
      for (const bytes of [whole.length, whole.length - 3]) {
        const { socket } = raw();
        socket.write(whole.subarray(0, bytes));
        await new Promise((resolve) => setTimeout(resolve, delay));
        socket.destroy();
      }
      const plain = raw();
      plain.socket.write(request(JSON.stringify({ ...long, stream: false })));
      await new Promise((resolve) => setTimeout(resolve, delay));
      plain.socket.resetAndDestroy();
    }
    await expect.poll(() => server.model.engine.load, { timeout: 20_000 }).toEqual({ waiting: 0, active: 0 });
  });

  it("answers pipelined requests in their order", async () => {
    const ask = (max_tokens: number, more = "") =>
      request(JSON.stringify({ model: "tiny", prompt: "Once", max_tokens, ignore_eos: true, seed: 1 }), more);
    const { socket, all } = raw();
    socket.write(
      Buffer.concat([
        ask(20),
        ask(1),
        Buffer.from("GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        ask(2, "Connection: close\r\n"),
      ]),
    );
    const text = await all(20_000);
    const found = [...text.matchAll(/"completion_tokens":(\d+)|"status":"ok"/g)].map((m) => m[1] ?? m[0]);
    expect(found).toEqual(["20", "1", '"status":"ok"', "2"]);
  });

  it("tells those who are too many to come again, and serves the others", async () => {
    const patient = await tinyServer({ maxRequests: 16 }); // a busy machine may take its time
    const post = (body: string) =>
      fetch(`${patient.url}/v1/completions`, {
        method: "POST",
        body,
        headers: { "Content-Type": "application/json" },
      });
    const asked = Array.from({ length: 40 }, () => post(JSON.stringify({ ...long, stream: false, n: 12 })));
    const answers = await Promise.all(asked);
    const counts = new Map<number, number>();
    for (const answer of answers) {
      counts.set(answer.status, (counts.get(answer.status) ?? 0) + 1);
      const body = (await answer.json()) as { error?: { type: string }; choices?: unknown[] };
      if (answer.status === 200) expect(body.choices?.length).toBe(12);
      else {
        expect(Number(answer.headers.get("retry-after"))).toBeGreaterThan(0);
        expect(body.error?.type).toMatch(/rate_limit_error|service_unavailable_error/);
      }
    }
    expect([...counts.keys()].sort()).toEqual(expect.arrayContaining([200]));
    expect([...counts.keys()].every((status) => [200, 429, 503].includes(status))).toBe(true);
    expect(counts.get(200)).toBeGreaterThanOrEqual(1); // it takes all 4 slots and the 8 places to wait
    expect(counts.get(200)).toBeLessThan(40);
    // A request of many samples is admitted whole or not at all.
    expect((await post(JSON.stringify({ ...long, stream: false, n: 100 }))).status).toBe(429);
    await patient.stop();
  });

  it("is not held up by a client that does not read", async () => {
    const { socket } = raw();
    socket.pause();
    const body = JSON.stringify({ ...long, n: 8, logprobs: 20, max_tokens: 120 });
    for (let i = 0; i < 3; i++) socket.write(request(body));
    await new Promise((resolve) => setTimeout(resolve, 500));
    expect((await fetch(`${server.url}/health`)).status).toBe(200);
    socket.destroy();
  });
});

describe("the end", () => {
  it("finishes what is under way within its grace, refuses the rest, then closes", async () => {
    const other = await tinyServer();
    const running = fetch(`${other.url}/v1/completions`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ ...long, stream: false, max_tokens: 120 }),
    });
    await expect.poll(() => other.active, { interval: 1 }).toBe(1);
    const closed = other.close(10_000);
    const answer = await running;
    expect(answer.status).toBe(200);
    expect(((await answer.json()) as { usage: object }).usage).toMatchObject({ completion_tokens: 120 });
    await closed;
    await expect(fetch(`${other.url}/health`)).rejects.toThrow();
    await other.stop();
  });

  it("cuts what takes longer than its grace, with an error event", async () => {
    const other = await tinyServer();
    const answer = await fetch(`${other.url}/v1/completions`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ ...long, max_tokens: 110, n: 4 }),
    });
    const text = answer.text();
    await other.close(0);
    expect(await text).toMatch(/"message":"the server is shutting down".*\n\ndata: \[DONE\]/);
    await other.stop();
  });
});
