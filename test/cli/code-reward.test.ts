/** Programs that responses hold, run by a sandbox: a server of the test's own that speaks the protocols and runs nothing. */
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { json } from "node:stream/consumers";
import { afterEach, describe, expect, it } from "vitest";
import { type Response, verifiableReward } from "webrlhf/rlhf";

type Body = Record<string, unknown>;

let server: Server | null = null;
afterEach(() => {
  server?.closeAllConnections();
  server?.close();
});

async function serve(answer: (body: Body) => object | [status: number, body: object]): Promise<string> {
  server = createServer(async (request, response) => {
    const found = answer((await json(request)) as Body);
    const [status, body] = Array.isArray(found) ? found : [200, found];
    response.writeHead(status).end(JSON.stringify(body));
  });
  await new Promise<void>((done) => server?.listen(0, "127.0.0.1", done));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/run`;
}

const response = (text: string, tests: unknown): Response => ({
  prompt: 0,
  sample: 0,
  promptText: "double it",
  promptLength: 1,
  ids: new Uint32Array(2),
  text,
  ended: true,
  row: { tests },
});
const score = async (spelling: string, ...all: Response[]) => Array.from(await (await verifiableReward(spelling))(all));

const doubling = "Like so:\n```python\nprint(2 * int(input()))\n```\nDone.";
const tests = [
  { input: "2", output: "4\n" },
  { input: "3", output: "6" },
  { input: "4", output: "9" },
];

/** What a machine that runs the program above would print. */
const printed = (stdin: unknown) => `${2 * Number(stdin)}  \n`;

describe("builtin:code", () => {
  it("speaks Piston's protocol", async () => {
    const asked: Body[] = [];
    const url = await serve((body) => {
      asked.push(body);
      return { run: { code: 0, signal: null, stdout: printed(body.stdin) } };
    });
    const none = response("no program", tests);
    expect(await score(`builtin:code?sandbox=${url}`, response(doubling, tests), none)).toEqual([2 / 3, 0]);
    expect(asked).toHaveLength(3);
    expect(asked[0]).toEqual({
      language: "python",
      version: "*",
      files: [{ content: "print(2 * int(input()))\n" }],
      stdin: "2",
      run_timeout: 10_000,
    });
  });

  it("speaks SandboxFusion's protocol, and takes lines as tests", async () => {
    const url = await serve(({ code, run_timeout }) => {
      expect(run_timeout).toBe(3);
      const wrong = /f\(3\)/.test(String(code));
      const run_result = { status: wrong ? "Error" : "Finished", return_code: wrong ? 1 : 0, stdout: "" };
      return { status: wrong ? "Failed" : "Success", run_result };
    });
    const spelling = `builtin:code?sandbox=${url}&format=sandbox_fusion&timeout=3`;
    const lines = JSON.stringify({ test_cases: ["assert f(1) == 2", "assert f(3) == 7"] });
    expect(await score(spelling, response("```python\ndef f(x): return 2 * x\n```", lines))).toEqual([0.5]);
  });

  it("counts programs that crash, do not compile or take too long as failed", async () => {
    const answers = [
      { run: { code: 1, stdout: "4\n" } },
      { run: { code: null, signal: "SIGKILL", stdout: "4" } },
      { compile: { code: 1 }, run: { code: 0, stdout: "4" } },
    ];
    const url = await serve(() => answers.pop() as object);
    const one = tests.slice(0, 1);
    const all = [1, 2, 3].map(() => response(doubling, one));
    expect(await score(`builtin:code?sandbox=${url}`, ...all)).toEqual([0, 0, 0]);
  });

  it("never takes a sandbox's own failure for a program's", async () => {
    const failing = async (answer: object | [number, object], format = "piston") => {
      const url = await serve(() => answer);
      const error = await score(`builtin:code?sandbox=${url}&format=${format}`, response(doubling, tests)).catch(
        (e) => e,
      );
      server?.close();
      return (error as Error).message.replaceAll(url, "URL");
    };
    expect(await failing({ status: "SandboxError", message: "no cgroup" }, "sandbox_fusion")).toBe(
      "URL could not run a program: no cgroup",
    );
    expect(await failing([400, { message: "python-* runtime is unknown" }])).toMatch(
      /400 python-\* runtime is unknown/,
    );
    expect(await failing({ status: "Success" })).toBe('URL answered without "run": does it speak piston?');
  });

  it("says what is wrong with an address, a protocol or a test", async () => {
    await expect(verifiableReward("builtin:code")).rejects.toThrow("sandbox is needed");
    await expect(verifiableReward("builtin:code?sandbox=here")).rejects.toThrow(/sandbox is the address of a sandbox/);
    const url = "http://127.0.0.1:9/run";
    await expect(verifiableReward(`builtin:code?sandbox=${url}&format=e2b`)).rejects.toThrow(
      /piston or sandbox_fusion/,
    );
    const bad = (given: unknown) => score(`builtin:code?sandbox=${url}`, response(doubling, given));
    await expect(bad([{ input: 3, output: "4" }])).rejects.toThrow(/the column "tests": .* is no test/);
    await expect(bad([])).rejects.toThrow(/tests are a list/);
    await expect(bad(new Array(101).fill("pass"))).rejects.toThrow(/there are 101 tests, and a row may have 100/);
    await expect(bad(undefined)).rejects.toThrow(/no text or number in the column "tests"/);
  });
});
