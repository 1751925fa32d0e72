import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { diskFiles, OpenAIClient } from "webrlhf";
import { main } from "webrlhf/cli";
import { adapterFiles, CausalLM, generate, modelFiles, ScoreModel } from "webrlhf/nn";
import { onlyModel, tokenizerFiles } from "webrlhf/open";
import { type OpenTextModel, openTextModel } from "../../src/serve/open.ts";
import { type RunningServer, startServer } from "../../src/serve/server.ts";
import { silentTerminal } from "../cli/terminal.ts";
import { gpuReady } from "../helpers.ts";
import { tinyConfig, tokenizer } from "../rlhf/tiny.ts";

let dir: string;
let allowed: string;
let opened: OpenTextModel;
let server: RunningServer;
const logged: string[] = [];
/** What the adapter called "one" answers, and the base. */
let expected: { one: number[]; base: number[] };
const prompt = Uint32Array.from([40, 41, 42]);
const greedy = { maxNewTokens: 8, temperature: 0, seed: 1, ignoreEos: true };

beforeAll(async () => {
  process.setMaxListeners(100);
  await gpuReady();
  dir = await mkdtemp(join(tmpdir(), "webrlhf-adapters-"));
  allowed = join(dir, "allowed");
  await mkdir(join(dir, "secret"), { recursive: true });
  await mkdir(allowed);
  const files = await diskFiles();
  const base = new CausalLM(tinyConfig()).initialize(1);
  const judge = new ScoreModel(tinyConfig()).initialize(1);
  for (const [name, model] of Object.entries({ base, judge })) {
    await files.writeFolder(join(dir, name), { ...(await modelFiles(model)), ...tokenizerFiles(tokenizer) });
  }
  const adapted = new CausalLM({ base, lora: { rank: 4, alpha: 64 } }).initialize(2);
  for (const { value } of adapted.store.parameters) {
    value.write(Float32Array.from({ length: value.size }, (_, i) => Math.sin(i)));
  }
  for (const folder of ["allowed/one", "secret/two"])
    await files.writeFolder(join(dir, folder), await adapterFiles(adapted));
  const [one] = await generate(adapted, [prompt], greedy);
  const [plain] = await generate(base, [prompt], greedy);
  expected = { one: [...one.ids], base: [...plain.ids] };
  for (const model of [adapted, base, judge]) model.destroy();

  opened = await openTextModel(join(dir, "base"), {}, () => ({ name: "base", slots: 4 }));
  server = await startServer(opened.model, {
    port: 0,
    adapters: { folders: [allowed], most: 2, open: opened.openAdapter },
    log: (line) => logged.push(line),
  });
});
afterAll(async () => {
  await server.close(0);
  await opened.close();
  await rm(dir, { recursive: true });
});

afterEach(async () => {
  for (const name of (await names()).slice(1)) await unload(name);
});

async function post(path: string, body: object): Promise<{ status: number; text: string }> {
  const headers = { "Content-Type": "application/json" };
  const response = await fetch(server.url + path, { method: "POST", headers, body: JSON.stringify(body) });
  return { status: response.status, text: await response.text() };
}

const load = (lora_name: string, lora_path: string, more = {}) =>
  post("/v1/load_lora_adapter", { lora_name, lora_path, ...more });
const unload = (lora_name: string) => post("/v1/unload_lora_adapter", { lora_name });
const ask = (model: string, more: object = {}) =>
  post("/v1/completions", {
    model,
    prompt: [...prompt],
    max_tokens: 8,
    temperature: 0,
    ignore_eos: true,
    return_token_ids: true,
    ...more,
  });
const idsOf = (text: string): number[] => JSON.parse(text).choices[0].token_ids;
const names = async (): Promise<string[]> => {
  const { data } = (await (await fetch(`${server.url}/v1/models`)).json()) as { data: { id: string }[] };
  return data.map(({ id }) => id);
};

describe("adapters of a running server", () => {
  it("are loaded, asked by their names, and unloaded", async () => {
    expect(expected.one).not.toEqual(expected.base);
    expect((await ask("one")).status).toBe(404);
    const { status, text } = await load("one", join(allowed, "one"), { lora_int_id: 3 });
    expect([status, text]).toEqual([200, "Success: LoRA adapter 'one' added successfully."]);
    expect(await names()).toEqual(["base", "one"]);
    expect((await fetch(`${server.url}/v1/models/one`)).status).toBe(200);
    const asked = await Promise.all(["one", "base", "one"].map((name) => ask(name)));
    expect(asked.map((answer) => idsOf(answer.text))).toEqual([expected.one, expected.base, expected.one]);
    // Others find the server's own model as before.
    expect(await onlyModel(new OpenAIClient({ baseUrl: server.url }), new AbortController().signal)).toBe("base");
    expect((await load("one", join(allowed, "one"))).text).toMatch(/loaded already/);
    expect((await load("base", join(allowed, "one"))).status).toBe(400);
    expect((await unload("one")).status).toBe(200);
    expect(await names()).toEqual(["base"]);
    expect((await unload("one")).status).toBe(404);
    expect((await ask("one")).status).toBe(404);
  });

  it("are bounded in number", async () => {
    const loaded = await Promise.all(["a", "b", "c"].map((name) => load(name, join(allowed, "one"))));
    expect(loaded.map(({ status }) => status).sort()).toEqual([200, 200, 429]);
    expect((await load("d", join(allowed, "one"))).text).toMatch(/2 adapters are loaded already \(--max_loras\)/);
    for (const name of (await names()).slice(1)) expect((await unload(name)).status).toBe(200);
  });

  it("stay for those who use them when they are unloaded, and may come again at once", async () => {
    await load("one", join(allowed, "one"));
    const body = { model: "one", prompt: [...prompt], max_tokens: 50, temperature: 0, ignore_eos: true };
    const running = await Promise.all(
      Array.from({ length: 6 }, () =>
        fetch(`${server.url}/v1/completions`, {
          method: "POST",
          headers: { "Content-Type": "application/json" },
          body: JSON.stringify({ ...body, return_token_ids: true, stream: true }),
        }),
      ),
    );
    expect((await unload("one")).status).toBe(200);
    expect((await load("one", join(allowed, "one"))).status).toBe(200);
    for (const response of running) {
      const events = (await response.text()).split("\n\n").filter((event) => event.startsWith("data: {"));
      const ids = events.flatMap((event) => idsOf(event.slice(6)));
      expect(ids.length).toBe(50);
      expect(ids.slice(0, 8)).toEqual(expected.one);
    }
    expect(idsOf((await ask("one")).text)).toEqual(expected.one);
    await unload("one");
  });

  it("come from allowed folders only, whatever way a path takes", async () => {
    await symlink(join(dir, "secret"), join(allowed, "link"));
    await mkdir(join(allowed, "files"));
    for (const file of ["adapter_config.json", "adapter_model.safetensors"]) {
      await symlink(join(dir, "secret/two", file), join(allowed, "files", file));
    }
    await mkdir(join(allowed, "empty"));
    await mkdir(join(allowed, "folder/adapter_config.json"), { recursive: true });
    await mkdir(`${allowed}-too`);
    for (const path of [
      join(dir, "secret/two"),
      `${allowed}/../secret/two`,
      `${allowed}/link/two`,
      `${allowed}/files`,
      `${allowed}-too`,
      allowed,
      "/etc",
      `/no/such/folder`,
      ".",
    ]) {
      const { status, text } = await load("x", path);
      expect([path, status], text).toEqual([path, 403]);
      expect(text).not.toMatch(/exist|missing|ENOENT/);
    }
    for (const path of [`${allowed}/none`, `${allowed}/empty`, `${allowed}/folder`, `${allowed}/one\0`]) {
      expect([400, 403]).toContain((await load("x", path)).status);
    }
    expect(await names()).toEqual(["base"]);
    // Links inside are nobody's harm.
    await symlink(join(allowed, "one"), join(allowed, "same"));
    expect((await load("x", `${allowed}/same`)).status).toBe(200);
    await unload("x");
  });

  it("are refused for what is wrong with them", async () => {
    await mkdir(join(allowed, "bad"));
    for (const [config, message] of [
      ["{", /adapter_config.json/],
      ['{"peft_type": "IA3"}', /IA3/],
    ] as const) {
      await writeFile(join(allowed, "bad/adapter_config.json"), config);
      await writeFile(join(allowed, "bad/adapter_model.safetensors"), "no tensors");
      const { status, text } = await load("x", join(allowed, "bad"));
      expect(status, text).toBe(400);
      expect(text).toMatch(message);
    }
    for (const [name, path] of [["", "x"], [1, "x"], ["x"], ["x".repeat(300), "x"], ["a\nb", "x"]] as [
      string,
      string,
    ][]) {
      expect((await load(name, path)).status).toBe(400);
    }
    expect((await load("x", join(allowed, "one"), { unknown: 1 })).status).toBe(400);
    for (const line of logged) expect(line).toMatch(/^[\x20-\x7e]*$/);
  });

  it("are not loaded at all unless the server is told from where", async () => {
    const closed = await startServer(opened.model, { port: 0 });
    try {
      const response = await fetch(`${closed.url}/v1/load_lora_adapter`, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ lora_name: "x", lora_path: join(allowed, "one") }),
      });
      expect(response.status).toBe(403);
      expect(await response.text()).toMatch(/--lora_folders/);
    } finally {
      await closed.close(0);
    }
  });
});

describe("training that samples on webrlhf's own server", () => {
  const run = async (verb: string, ...words: string[]) => {
    const terminal = silentTerminal();
    const paths = ["--model_name_or_path", join(dir, "base"), "--reward_model_path", join(dir, "judge")];
    const adapter = ["--server", server.url, "--use_peft", "--lora_r", "2"];
    const out = ["--output_dir", await mkdtemp(join(allowed, `${verb}-`))];
    const code = await main([verb, ...paths, ...adapter, ...out, "--max_train_samples", "4", ...words], terminal);
    return { code, text: terminal.written.join("") };
  };
  const loads = () => logged.filter((line) => line.includes("/v1/load_lora_adapter 200")).length;

  const group = "--num_generations 2 --generation_batch_size 4 --response_length 6";
  it.each([
    ["grpo", `--max_steps 2 ${group}`, 2],
    ["grpo", `--max_steps 3 --max_staleness 1 ${group}`, 2],
    ["rloo", `--max_steps 2 --importance_sampling_correction truncated ${group}`, 2],
    ["reinforce", "--max_steps 2 --generation_batch_size 4 --response_length 6", 2],
    ["ppo", "--max_steps 2 --rollout_batch_size 2 --response_length 6", 2],
    ["raft", "--raft_batch_size 2 --top_reward_percentage 0.5 --output_max_length 6 --num_raft_iteration 2", 2],
    ["iterate", "--num_iterations 2 --prompts_per_iteration 2 --num_return_sequences 3 --max_new_tokens 6", 2],
  ])("%s %s", async (verb, words, times) => {
    const before = loads();
    const { code, text } = await run(verb, ...words.split(" "));
    expect(code, text).toBe(0);
    expect(loads() - before).toBe(times);
    expect(await names()).toEqual(["base"]);
  });
});
