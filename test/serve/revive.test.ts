/** A server whose GPU device is lost, or has no memory left: it opens a new one, and those who asked get their answers. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { memoryFiles } from "webrlhf";
import { CausalLM, modelFiles } from "webrlhf/nn";
import { tokenizerFiles } from "webrlhf/open";
import { device } from "../../src/gpu/device.ts";
import { type OpenTextModel, openTextModel } from "../../src/serve/open.ts";
import { type RunningServer, startServer } from "../../src/serve/server.ts";
import { gpuReady } from "../helpers.ts";
import { lackingMemory, losingAt } from "../losing.ts";
import { tinyConfig, tokenizer } from "../rlhf/tiny.ts";

const files = memoryFiles();
let open: OpenTextModel;
let server: RunningServer;
const logged: string[] = [];

beforeAll(async () => {
  await gpuReady();
  const lm = new CausalLM(tinyConfig()).initialize(7);
  await files.writeFolder("tiny", { ...(await modelFiles(lm)), ...tokenizerFiles(tokenizer) });
  lm.destroy();
  open = await openTextModel("tiny", { files }, () => ({ slots: 2, stepsPerRead: 2, fixedRows: true }));
  server = await startServer(open.model, { port: 0, revive: open.revive, log: (line) => logged.push(line) });
});
beforeEach(() => {
  logged.length = 0;
});
afterAll(async () => {
  await server.close(0);
  await open.close();
});

const ask = async (seed: number, more: object = {}) =>
  fetch(`${server.url}/v1/completions`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ prompt: [5, 6, 7], max_tokens: 24, temperature: 1, seed, ignore_eos: true, ...more }),
  });
const textOf = async (response: Response): Promise<string> => {
  expect(response.status).toBe(200);
  return ((await response.json()) as { choices: { text: string }[] }).choices[0].text;
};
const texts = async (seeds: readonly number[]) => Promise.all(seeds.map(async (seed) => textOf(await ask(seed))));
const seeds = [1, 2, 3];
const told = () => logged.filter((line) => !line.startsWith("POST") && !line.startsWith("GET"));

describe("a server whose device is lost", () => {
  it("answers those who were waiting as if nothing had been", async () => {
    const expected = await texts(seeds);
    await losingAt(
      (submit) => submit === 6,
      async () => expect(await texts(seeds)).toEqual(expected),
    );
    expect(told()).toEqual([expect.stringMatching(/^the GPU device was lost \(.+\); tiny is on a new device$/)]);
  });

  it("notices a loss that came while nobody asked", async () => {
    const expected = await texts([4]);
    device().destroy();
    expect(await texts([4])).toEqual(expected);
  });

  it("ends a stream that had begun with an error, and serves the next one", async () => {
    await losingAt(
      (submit) => submit === 8,
      async () => {
        const lines = (await (await ask(1, { stream: true })).text()).trim().split("\n\n");
        expect(lines.at(-1)).toBe("data: [DONE]");
        expect(JSON.parse(lines.at(-2)?.slice(6) ?? "")).toMatchObject({
          error: { type: "service_unavailable_error", message: expect.stringMatching(/the GPU device was lost/) },
        });
      },
    );
    await texts([1]);
  });

  it("says 503 while it gets no device that lasts, and recovers afterwards", async () => {
    await losingAt(
      () => true,
      async () => {
        const response = await ask(1);
        expect(response.status).toBe(503);
        expect(response.headers.get("retry-after")).toBe("5");
      },
    );
    await texts([1]);
    const health = await fetch(`${server.url}/health`);
    expect(await health.json()).toMatchObject({ status: "ok" });
  });
});

describe("a server whose GPU has no memory left", () => {
  it("fails the request alone that asks for too much, by a 503", async () => {
    const expected = await texts(seeds);
    await lackingMemory([/matmul/, 32768], 100, async () => {
      const long = Array.from({ length: 50 }, (_, i) => 5 + i); // needs larger buffers than the others
      const asked = ask(9, { prompt: long, max_tokens: 8 });
      const [much, ...others] = await Promise.all([asked, ...seeds.map((seed) => ask(seed))]);
      expect(much.status).toBe(503);
      expect(await much.json()).toMatchObject({
        error: { type: "service_unavailable_error", message: expect.stringMatching(/out of GPU memory/) },
      });
      expect(await Promise.all(others.map(textOf))).toEqual(expected);
    });
    expect(await texts([1])).toEqual(expected.slice(0, 1));
  });
});
