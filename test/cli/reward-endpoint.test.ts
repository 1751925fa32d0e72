import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { json } from "node:stream/consumers";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { diskFiles, isUserError } from "webrlhf";
import { main } from "webrlhf/cli";
import { CausalLM, modelFiles } from "webrlhf/nn";
import { tokenizerFiles } from "webrlhf/open";
import { type HttpRewardOptions, httpReward, type Response } from "webrlhf/rlhf";
import { gpuReady } from "../helpers.ts";
import { tinyConfig, tokenizer } from "../rlhf/tiny.ts";
import { silentTerminal } from "./terminal.ts";

type Body = Record<string, string[]>;

let server: Server | null = null;
afterEach(() => {
  server?.closeAllConnections();
  server?.close();
});

/** Starts a server that answers every POST by `handler`; returns its URL. */
async function serve(handler: (body: Body, response: ServerResponse, request: IncomingMessage) => void) {
  server = createServer(async (request, response) => handler((await json(request)) as Body, response, request));
  await new Promise<void>((done) => server?.listen(0, "127.0.0.1", done));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/score`;
}

const responses = (count: number): Response[] =>
  Array.from({ length: count }, (_, i) => ({
    ids: new Uint32Array([1]),
    promptLength: 1,
    prompt: i,
    sample: 0,
    promptText: `question ${i}`,
    text: "x".repeat(i),
    ended: true,
  }));

const quick: HttpRewardOptions = { backoffMs: 1, timeoutMs: 10_000 };

/** What asking for three rewards fails with, when the server answers with `text`. */
async function failure(text: string, status = 200, options: HttpRewardOptions = {}): Promise<string> {
  const url = await serve((_, response) => response.writeHead(status).end(text));
  const error = await Promise.resolve(httpReward(url, { ...quick, ...options })(responses(3))).catch((e: unknown) => e);
  expect(isUserError(error)).toBe(true);
  return (error as Error).message.replaceAll(url, "URL");
}

describe("rewards from a server", () => {
  it("come in the order of the responses, whatever batch answers first", async () => {
    const seen: Body[] = [];
    const url = await serve((body, response, request) => {
      seen.push(body);
      expect(request.headers.authorization).toBe("Bearer secret");
      const late = body.responses[0].length === 0 ? 60 : 0;
      setTimeout(() => response.end(JSON.stringify({ rewards: body.responses.map((r) => r.length) })), late);
    });
    const reward = httpReward(url, { ...quick, batchSize: 3, apiKey: "secret" });
    expect(Array.from(await reward(responses(8)))).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    expect(seen.map((b) => b.prompts.length).sort()).toEqual([2, 3, 3]);
    expect(seen.flatMap((b) => b.prompts).sort()).toEqual(responses(8).map((r) => r.promptText));
    expect(Array.from(await reward([]))).toEqual([]);
  });

  it("come in PaddleNLP's form", async () => {
    const url = await serve((body, response) => {
      expect(body).toEqual({ src: ["question 0", "question 1"], tgt: ["t0", "t1"], response: ["", "x"] });
      response.end(JSON.stringify({ score: [[1.5], -2] }));
    });
    const reward = httpReward(url, { ...quick, format: "paddle", target: ({ prompt }) => `t${prompt}` });
    expect(Array.from(await reward(responses(2)))).toEqual([1.5, -2]);
  });

  it("are asked for again when the server is busy or away for a moment", async () => {
    let asked = 0;
    const url = await serve((body, response) => {
      asked += 1;
      if (asked === 1) return response.writeHead(503).end("starting");
      if (asked === 2) return response.destroy();
      if (asked === 3)
        return void response.writeHead(200, { "Content-Length": 100 }).write('{"rewa', () => response.destroy());
      response.end(JSON.stringify({ rewards: body.prompts.map(() => 1) }));
    });
    expect(Array.from(await httpReward(url, quick)(responses(2)))).toEqual([1, 1]);
    expect(asked).toBe(4);
  });

  it("are never made up", async () => {
    expect(await failure('{"rewards": [1, NaN, 2]}')).toMatch(
      /URL gave a reward of NaN: every reward must be a finite/,
    );
    expect(await failure('{"rewards": [1, -Infinity, 2]}')).toMatch(/gave a reward of -Infinity/);
    expect(await failure('{"rewards": [1, null, 2]}')).toBe("URL: rewards[1] is null, not a finite number");
    expect(await failure('{"rewards": [1, 1e999, 2]}')).toBe("URL: rewards[1] is Infinity, not a finite number");
    expect(await failure('{"rewards": [1, 2, "3"]}')).toBe('URL: rewards[2] is "3", not a finite number');
    expect(await failure('{"rewards": [[1, 2], 2, 3]}')).toBe("URL: rewards[0] is [1,2], not a finite number");
    expect(await failure('{"rewards": [1, 2]}')).toBe("URL gave 2 rewards for 3 responses");
    expect(await failure('{"rewards": [1, 2, 3, 4]}')).toBe("URL gave 4 rewards for 3 responses");
    expect(await failure('{"score": [1, 2, 3]}')).toMatch(
      /must answer \{"rewards": \[\.\.\]\} \(form plain\), not \{"score"/,
    );
    expect(await failure('{"rewards": [1, 2, 3]}', 200, { format: "paddle" })).toMatch(/must answer \{"score"/);
    expect(await failure("null")).toMatch(/must answer .* not null/);
    expect(await failure("<html>hello</html>")).toMatch(/something that is not JSON: <html>/);
    expect(await failure("")).toMatch(/something that is not JSON: nothing/);
    expect(await failure('{"detail": "no such field"}', 422)).toMatch(/URL: 422 "no such field"/);
    expect(await failure("on fire", 500, { retries: 2 })).toMatch(/URL: 500 on fire/);
  });

  it("have their time, and a server that stays away is named", async () => {
    const slow = await serve(() => {});
    await expect(httpReward(slow, { timeoutMs: 50 })(responses(1))).rejects.toThrow(
      /score: the server said nothing for 0.05 s/,
    );
    const half = await serve((_, response) => void response.write('{"rewards"'));
    await expect(httpReward(half, { timeoutMs: 50 })(responses(1))).rejects.toThrow(/said nothing for 0.05 s/);
    const nobody = httpReward("http://127.0.0.1:9/", { retries: 1, backoffMs: 1 });
    await expect(nobody(responses(1))).rejects.toThrow(/127.0.0.1:9\/ cannot be reached/);
    expect(() => httpReward("localhost:8000")).toThrow(/only http and https/);
    expect(() => httpReward("http://me:secret@host/")).toThrow(/leave the name and password out/);
  });

  it("stop after the first failure", async () => {
    let asked = 0;
    const url = await serve((_, response) => {
      asked += 1;
      response.writeHead(400).end("{}");
    });
    await expect(httpReward(url, { ...quick, batchSize: 1, concurrency: 2 })(responses(20))).rejects.toThrow(/400/);
    expect(asked).toBeLessThanOrEqual(3);
  });
});

describe("reward_model_path http://", () => {
  let dir: string;
  beforeAll(async () => {
    await gpuReady();
    dir = await mkdtemp(join(tmpdir(), "webrlhf-endpoint-"));
    const files = await diskFiles();
    const model = new CausalLM(tinyConfig()).initialize(1);
    await files.writeFolder(join(dir, "base"), { ...(await modelFiles(model)), ...tokenizerFiles(tokenizer) });
    model.destroy();
  });
  afterAll(() => rm(dir, { recursive: true }));

  async function run(verb: string, url: string, ...words: string[]): Promise<{ code: number; text: string }> {
    const terminal = silentTerminal();
    const paths = ["--model_name_or_path", join(dir, "base"), "--reward_model_path", url];
    const out = ["--output_dir", await mkdtemp(join(dir, "out-")), "--max_new_tokens", "4"];
    const code = await main([verb, ...paths, ...out, ...words], terminal);
    return { code, text: terminal.written.join("") };
  }
  const raft = ["--raft_batch_size", "2", "--top_reward_percentage", "0.5", "--num_raft_iteration", "1"];

  it("trains and tests", async () => {
    const url = await serve((body, response) =>
      response.end(JSON.stringify({ rewards: body.responses.map((r) => r.length) })),
    );
    for (const [verb, ...words] of [
      ["raft", ...raft],
      ["ppo", "--max_steps", "1", "--rollout_batch_size", "2"],
      ["evaluate", "--num_prompts", "2"],
    ]) {
      const { code, text } = await run(verb, url, ...words);
      expect(code, text).toBe(0);
    }
  });

  it("sends the data's answers in PaddleNLP's form", async () => {
    const seen: string[][] = [];
    const url = await serve((body, response) => {
      seen.push(...body.src.map((src, i) => [src, body.tgt[i]]));
      response.end(JSON.stringify({ score: body.tgt.map(() => 1) }));
    });
    const data = join(dir, "paddle.jsonl");
    const rows = [
      { src: "Ben ran.", tgt: "He sat." },
      { src: ["Sam sat."], tgt: ["He ran."] },
    ];
    await writeFile(data, rows.map((row) => JSON.stringify(row)).join("\n"));
    const words = ["--reward_server_format", "paddle", "--dataset_name", data, "--num_raft_iteration", "1"];
    const { code, text } = await run("raft", url, ...words, "--raft_batch_size", "2", "--top_reward_percentage", "1");
    expect(code, text).toBe(0);
    expect(seen.sort()).toEqual([
      ["Ben ran.", "He sat."],
      ["Sam sat.", "He ran."],
    ]);
  });

  it.each([1, 0])(
    "goes on from where the server died, with save_steps %i",
    async (saveSteps) => {
      let left = 0;
      const scores = (body: Body) => ({ rewards: body.responses.map((r) => r.length) });
      const url = await serve((body, response) => {
        left -= 1;
        if (left < 0) return response.writeHead(500).end("gone");
        response.end(JSON.stringify(scores(body)));
      });
      const files = ["model.safetensors", "raft.jsonl", "rewards.txt", "train_set_1.json"];
      const contents = (out: string) => Promise.all(files.map((file) => readFile(join(out, file))));
      const train = async (out: string, answers: number, ...words: string[]) => {
        left = answers;
        const terminal = silentTerminal();
        const paths = ["--model_name_or_path", join(dir, "base"), "--reward_model_path", url, "--output_dir", out];
        const sizes = [
          ...raft,
          "--num_raft_iteration",
          "3",
          "--save_steps",
          `${saveSteps}`,
          "--output_max_length",
          "4",
        ];
        const code = await main(["raft", ...paths, ...sizes, "--reward_server_retries", "0", ...words], terminal);
        return { code, text: terminal.written.join("") };
      };
      expect((await train(join(dir, `whole-${saveSteps}`), 99)).code).toBe(0);
      const broken = await train(join(dir, `broken-${saveSteps}`), 1);
      expect(broken.code).toBe(1);
      expect(broken.text).toMatch(/score: 500 gone/);
      if (saveSteps === 0) expect(broken.text).toMatch(/learned before is in checkpoint-1: resume from it/);
      expect((await train(join(dir, `broken-${saveSteps}`), 99, "--resume")).code).toBe(0);
      expect(await contents(join(dir, `broken-${saveSteps}`))).toEqual(await contents(join(dir, `whole-${saveSteps}`)));
    },
    60_000,
  );

  it("has no statistics to normalise by", async () => {
    const { code, text } = await run("ppo", "http://127.0.0.1:9/", "--normalize_reward");
    expect(code).toBe(1);
    expect(text).toMatch(
      /127\.0\.0\.1:9\/ has no statistics to normalise its rewards by: .*--reward_normalizer running/,
    );
  });

  it("fails by name", async () => {
    const url = await serve((_, response) => response.end('{"score": [0.5]}'));
    const words = ["--reward_server_format", "paddle", "--reward_server_timeout", "5", ...raft];
    const { code, text } = await run("raft", url, ...words);
    expect(code).toBe(1);
    expect(text).toMatch(/gave 1 rewards for 4 responses/);
    expect((await run("raft", url, "--reward_model_dtype", "int8", ...raft)).text).toMatch(
      /reward_model_dtype has no effect/,
    );
  });
});
