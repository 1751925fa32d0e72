import { mkdtemp, readdir, rm } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { json } from "node:stream/consumers";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { diskFiles } from "webrlhf";
import { main } from "webrlhf/cli";
import { CausalLM, modelFiles, ScoreModel } from "webrlhf/nn";
import { tokenizerFiles } from "webrlhf/open";
import { gpuReady } from "../helpers.ts";
import { tinyConfig, tokenizer } from "../rlhf/tiny.ts";
import { type TinyServer, tinyServer } from "../serve/tiny-server.ts";
import { silentTerminal } from "./terminal.ts";

let dir: string;
let tiny: TinyServer;
let proxy: Server;
let url: string;
/** What the server was asked, one entry per request. */
let asked: string[] = [];

/** A server that takes adapters as vLLM does; the tiny one samples, whatever is loaded. */
async function startProxy(): Promise<string> {
  const loaded = new Set<string>();
  proxy = createServer(async (request, response) => {
    const body = (request.method === "POST" ? await json(request) : {}) as Record<string, string>;
    if (request.url === "/v1/load_lora_adapter") {
      expect((await readdir(body.lora_path)).sort()).toEqual(["adapter_config.json", "adapter_model.safetensors"]);
      loaded.add(body.lora_name);
      asked.push(`load ${body.lora_name}`);
      return response.end(`Success: LoRA adapter '${body.lora_name}' added successfully.`);
    }
    if (request.url === "/v1/unload_lora_adapter") {
      loaded.delete(body.lora_name);
      asked.push(`unload ${body.lora_name}`);
      return response.end("Success");
    }
    asked.push(`sample ${body.model}`);
    expect(loaded.has(body.model)).toBe(true);
    const answer = await fetch(tiny.url + request.url, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ ...body, model: "tiny" }),
    });
    response.writeHead(answer.status).end(await answer.text());
  });
  await new Promise<void>((done) => proxy.listen(0, "127.0.0.1", done));
  return `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`;
}

beforeAll(async () => {
  process.setMaxListeners(100);
  await gpuReady();
  tiny = await tinyServer({}, { maxWaiting: 200 });
  url = await startProxy();
  dir = await mkdtemp(join(tmpdir(), "webrlhf-raft-"));
  const files = await diskFiles();
  const models = { base: new CausalLM(tinyConfig()), judge: new ScoreModel(tinyConfig()) };
  for (const [name, model] of Object.entries(models)) {
    model.initialize(1);
    await files.writeFolder(join(dir, name), { ...(await modelFiles(model)), ...tokenizerFiles(tokenizer) });
    model.destroy();
  }
});
afterAll(async () => {
  proxy.closeAllConnections();
  proxy.close();
  await tiny.stop();
  await rm(dir, { recursive: true });
});

async function raft(...words: string[]): Promise<{ code: number; text: string }> {
  asked = [];
  const terminal = silentTerminal();
  const paths = ["--model_name_or_path", join(dir, "base"), "--reward_model_path", join(dir, "judge")];
  const sizes = ["--raft_batch_size", "2", "--top_reward_percentage", "0.5", "--output_max_length", "6"];
  const out = ["--output_dir", await mkdtemp(join(dir, "out-"))];
  const code = await main(["raft", ...paths, ...sizes, ...out, "--max_train_samples", "4", ...words], terminal);
  return { code, text: terminal.written.join("") };
}

describe("raft --server", () => {
  it("hands its adapter over before every iteration, under a new name", async () => {
    const { code, text } = await raft("--server", url, "--use_peft", "--lora_r", "2", "--num_raft_iteration", "2");
    expect(code, text).toBe(0);
    const names = asked.filter((a) => a.startsWith("load")).map((a) => a.split(" ")[1]);
    expect(names.length).toBe(2);
    expect(new Set(names).size).toBe(2);
    expect(asked).toEqual(names.flatMap((n) => [`load ${n}`, `sample ${n}`, `sample ${n}`, `unload ${n}`]));
  });

  it("samples once from a model that cannot follow", async () => {
    const { code, text } = await raft("--server", tiny.url, "--num_raft_iteration", "1");
    expect(code, text).toBe(0);
    expect((await raft("--server", tiny.url)).text).toMatch(/weights do not follow the training.*--use_peft/);
    expect((await raft("--server", "http://127.0.0.1:9", "--num_raft_iteration", "1")).text).toMatch(
      /cannot be reached/,
    );
  }, 60_000);
});
