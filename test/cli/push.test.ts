/** Model cards, and models that go to a hub: a server of the test's own that speaks its interface for writing. */
import { createHash } from "node:crypto";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer, type IncomingHttpHeaders, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { memoryFiles } from "webrlhf";
import { main } from "webrlhf/cli";
import { methods, modelToPush, openPush } from "webrlhf/open";
import { parse } from "yaml";
import { askingSettings } from "../../src/cli/cluster-settings.ts";
import { writeCard } from "../../src/open/model-card.ts";
import { readText } from "../../src/runtime/json-files.ts";
import { gpuReady } from "../helpers.ts";
import { silentTerminal } from "./terminal.ts";

const TOKEN = "hf_very_secret";

interface Request {
  method: string;
  path: string;
  headers: IncomingHttpHeaders;
  body: Buffer;
}

/** What a hub has got: requests, large files by their hashes, and the lines of its commits. */
class Hub {
  requests: Request[] = [];
  stored = new Map<string, Buffer>();
  commits: { key: string; value: { path: string; content: string; oid: string } }[][] = [];
  repos = new Set<string>();
  /** Answers instead, where it gives a status. */
  trouble: (request: Request) => number | null = () => null;
  /** Large files are sent in parts of so many bytes. */
  chunk: number | null = null;
  url = "";
  private parts = new Map<string, Buffer[]>();
  private server: Server | null = null;

  async open(): Promise<void> {
    this.server = createServer(async (request, response) => {
      const { method = "", url: path = "", headers } = request;
      const one = { method, path, headers, body: await buffer(request) };
      this.requests.push(one);
      const status = this.trouble(one);
      const [code, answer, more] = status === null ? this.answer(one) : [status, { error: `no, ${TOKEN}` }];
      // Some hubs say in a header what is wrong.
      const headline = status === 403 ? { "x-error-message": `not with ${TOKEN}` } : {};
      response.writeHead(code, { ...more, ...headline }).end(JSON.stringify(answer));
    });
    await new Promise<void>((done) => this.server?.listen(0, "127.0.0.1", done));
    this.url = `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  close(): void {
    this.server?.closeAllConnections();
    this.server?.close();
  }

  private answer({ method, path, headers, body }: Request): [number, object, Record<string, string>?] {
    const json = () => JSON.parse(body.toString());
    const toStore = path.startsWith("/store/");
    if (!toStore && headers.authorization !== `Bearer ${TOKEN}`) return [401, { error: "Invalid token" }];
    if (path === "/api/whoami-v2") return [200, { name: "me" }];
    if (path === "/api/repos/create") {
      const { organization, name } = json();
      const id = `${organization}/${name}`;
      if (this.repos.has(id)) return [409, { error: "You already created this model repo" }];
      this.repos.add(id);
      return [200, { url: `${this.url}/${id}` }];
    }
    if (path.endsWith("/preupload/main")) {
      const modes = json().files.map((file: { path: string }) => ({
        path: file.path,
        uploadMode: file.path.endsWith(".safetensors") ? "lfs" : "regular",
      }));
      return [200, { files: modes }];
    }
    if (path.endsWith("/info/lfs/objects/batch"))
      return [200, { objects: json().objects.map((o: { oid: string; size: number }) => this.place(o)) }];
    if (path.startsWith("/store/verify")) return [200, {}];
    if (path.startsWith("/store/done/")) {
      const { oid, parts } = json();
      expect(parts.map((part: { etag: string }) => part.etag)).toEqual(
        parts.map((_: unknown, i: number) => `"${i + 1}"`),
      );
      this.stored.set(oid, Buffer.concat(this.parts.get(oid)!));
      return [200, {}];
    }
    const part = /^\/store\/part\/(\w+)\/(\d+)$/.exec(path);
    if (part) {
      const own = this.parts.get(part[1]) ?? [];
      this.parts.set(part[1], own);
      own[Number(part[2]) - 1] = body;
      return [200, {}, { ETag: `"${part[2]}"` }];
    }
    if (toStore && method === "PUT") {
      expect(headers["content-length"]).toBe(String(body.length));
      this.stored.set(path.slice("/store/".length), body);
      return [200, {}];
    }
    if (path.endsWith("/commit/main")) {
      this.commits.push(
        body
          .toString()
          .trimEnd()
          .split("\n")
          .map((line) => JSON.parse(line)),
      );
      return [200, { commitUrl: `${this.url}/commit/1` }];
    }
    return [404, { error: "what?" }];
  }

  private place({ oid, size }: { oid: string; size: number }): object {
    if (this.stored.has(oid)) return { oid, size };
    const verify = { href: `${this.url}/store/verify` };
    if (this.chunk === null) return { oid, size, actions: { upload: { href: `${this.url}/store/${oid}` }, verify } };
    const count = Math.ceil(size / this.chunk);
    const urls = Array.from({ length: count }, (_, i) => [String(i + 1), `${this.url}/store/part/${oid}/${i + 1}`]);
    const header = { chunk_size: String(this.chunk), ...Object.fromEntries(urls) };
    return { oid, size, actions: { upload: { href: `${this.url}/store/done/${oid}`, header }, verify } };
  }

  /** What lies in the repository after the last commit. */
  files(): Record<string, Buffer> {
    const lines = this.commits.at(-1)!.slice(1);
    return Object.fromEntries(
      lines.map(({ key, value }) => [
        value.path,
        key === "file" ? Buffer.from(value.content, "base64") : this.stored.get(value.oid)!,
      ]),
    );
  }
}

let dir: string;
let hub: Hub;
const saved = { ...process.env };
beforeAll(async () => {
  process.setMaxListeners(100);
  dir = await mkdtemp(join(tmpdir(), "webrlhf-"));
  Object.assign(process.env, { HF_TOKEN: TOKEN, HF_HOME: join(dir, "hf") });
});
beforeEach(async () => {
  hub = new Hub();
  await hub.open();
  process.env.HF_ENDPOINT = hub.url;
});
afterEach(() => hub.close());
afterAll(async () => {
  for (const name of ["HF_TOKEN", "HF_HOME", "HF_ENDPOINT"]) {
    if (saved[name] === undefined) delete process.env[name];
    else process.env[name] = saved[name];
  }
  await rm(dir, { recursive: true });
});

async function run(...words: string[]): Promise<{ code: number; text: string; results: string[] }> {
  const terminal = silentTerminal();
  const code = await main(words, terminal);
  return { code, text: terminal.written.join(""), results: terminal.results };
}

const weights = Buffer.from(Array.from({ length: 5000 }, (_, i) => i % 251));

async function model(name: string): Promise<string> {
  const folder = join(dir, name);
  await mkdir(join(folder, "checkpoint-4"), { recursive: true });
  const files = {
    "config.json": "{}",
    "model.safetensors": weights,
    "README.md": "mine",
    "run.json": "{}",
    "metrics.jsonl": "{}\n",
    ".secret": "x",
    "checkpoint-4/model.safetensors": weights,
  };
  for (const [file, content] of Object.entries(files)) await writeFile(join(folder, file), content);
  return folder;
}

describe("webrlhf push", () => {
  it.each([
    ["as a whole", null, 1],
    ["in parts", 1024, 5],
  ])("sends a model, its large files %s, and what the hub has not again", async (_, chunk, puts) => {
    hub.chunk = chunk;
    const folder = await model(`plain ${chunk}`);
    const { code, text } = await run("push", folder, "--hub_private_repo");
    expect([code, text]).toEqual([0, expect.stringContaining(`pushed 3 files: ${hub.url}/commit/1`)]);
    expect(hub.files()).toEqual({
      "README.md": Buffer.from("mine"),
      "config.json": Buffer.from("{}"),
      "model.safetensors": weights,
    });
    expect([...hub.stored.keys()]).toEqual([createHash("sha256").update(weights).digest("hex")]);
    expect([...hub.repos]).toEqual([`me/plain-${chunk}`]);
    const create = hub.requests.find(({ path }) => path === "/api/repos/create")!;
    expect(JSON.parse(create.body.toString())).toMatchObject({ type: "model", private: true });
    expect(hub.requests.filter(({ method }) => method === "PUT")).toHaveLength(puts);
    expect((await run("push", folder)).code).toBe(0); // the repository is there
    expect(hub.requests.filter(({ method }) => method === "PUT")).toHaveLength(puts);
    expect(text).not.toContain(TOKEN);
  });

  it("lists what it would send, and asks nobody", async () => {
    const { results, text } = await run("push", await model("dry"), "--dry_run");
    expect(results.join("")).toBe("4\tREADME.md\n2\tconfig.json\n5000\tmodel.safetensors\n");
    expect(text).toContain("3 files, 0.0 MB, would be pushed");
    expect(hub.requests).toEqual([]);
  });

  it("that breaks off claims nothing, and says how to go on", async () => {
    const folder = await model("broken");
    const fails = async (trouble: Hub["trouble"], claim = "nothing of it is on the hub") => {
      hub.trouble = trouble;
      const { code, text } = await run("push", folder);
      expect(code).toBe(1);
      expect(hub.commits).toEqual([]);
      expect(text).toContain(claim);
      expect(text).toContain(`try again with: webrlhf push ${folder} --hub_model_id me/broken`);
      expect(text).not.toContain(TOKEN);
      return text;
    };
    expect(await fails(({ method }) => (method === "PUT" ? 403 : null))).toMatch(/needs the right to write/);
    expect(await fails(({ path }) => (path.endsWith("/commit/main") ? 403 : null))).toMatch(/does not let the token/);
    const unsure = "the hub did not say whether it has it";
    expect(await fails(({ path }) => (path.endsWith("/commit/main") ? 500 : null), unsure)).toMatch(/HTTP status 500/);
    expect(await fails(({ path }) => (path === "/api/repos/create" ? 403 : null))).toMatch(/does not let the token/);
    let failures = 2;
    hub.trouble = ({ method }) => (method === "PUT" || failures-- <= 0 ? null : 503);
    expect((await run("push", folder)).code).toBe(0);
    expect(hub.commits).toHaveLength(1);
  });

  it("keeps its token to https and to this machine", async () => {
    const folder = await model("token");
    process.env.HF_ENDPOINT = "http://hub.example";
    expect((await run("push", folder)).text).toMatch(/http:\/\/hub\.example would get the token.*use https/);
    process.env.HF_ENDPOINT = hub.url;
    expect((await run("push", folder, "--hub_token", "wrong")).text).toMatch(
      /does not accept the token \(.*Invalid token/,
    );
    delete process.env.HF_TOKEN;
    expect((await run("push", folder)).text).toMatch(/no token for the hub: set the variable HF_TOKEN/);
    process.env.HF_TOKEN = TOKEN;
    await run("push", folder);
    const stored = hub.requests.filter(({ method }) => method === "PUT");
    expect(stored).toHaveLength(1);
    expect((await run("push", folder, "--hub_model_id", "a/b/c")).text).toMatch(
      /hub_model_id must be org\/name or name/,
    );
    const empty = join(dir, "empty");
    await mkdir(empty);
    expect((await run("push", empty, "--dry_run")).text).toMatch(/holds no model/);
  });
});

describe("a push by the library", () => {
  it("takes a folder from anywhere, and says what it does", async () => {
    const files = memoryFiles();
    await files.writeFiles("made/here", { "config.json": "{}", "model.safetensors": weights, "run.json": "{}" });
    const said: string[] = [];
    const around = { files, say: (line: string) => said.push(line), hub: { endpoint: hub.url, token: TOKEN } };
    const push = await openPush("made/here", { hubModelId: "org/there" }, around);
    expect([push.id, hub.commits]).toEqual(["org/there", []]);
    expect((await modelToPush("made/here", around)).map(({ path }) => path)).toEqual([
      "config.json",
      "model.safetensors",
    ]);
    expect(await push.push()).toBe(`${hub.url}/commit/1`);
    expect(hub.files()).toEqual({ "config.json": Buffer.from("{}"), "model.safetensors": weights });
    expect(said.at(-1)).toBe(`pushed 2 files: ${hub.url}/commit/1`);
    await expect((await openPush("nowhere", {}, around)).push()).rejects.toThrow(/holds no model/);
    await expect(openPush("made/here", { hubModelId: "a/b/c" }, around)).rejects.toThrow(/must be org\/name or name/);
  });
});

const shape = "--hidden_size 16 --num_hidden_layers 1 --num_attention_heads 2 --max_position_embeddings 64";
const rows = "--max_train_samples 16 --per_device_train_batch_size 4 --max_steps 2 --max_eval_samples 8 --eval_steps 2";

/** The card of a folder: its front matter, and the text. */
async function card(folder: string) {
  const text = await readFile(join(folder, "README.md"), "utf8");
  return { head: parse(/^---\n([\s\S]*?)\n---\n/.exec(text)![1]), text };
}

describe("a model card", () => {
  beforeAll(() => gpuReady());

  it("names no server or folder of this place, nor who has drawn", async () => {
    const files = memoryFiles();
    const settings = {
      model_name_or_path: "/home/me/base",
      reward_model_path: ["http://10.0.0.3:8080/score", "judge:/home/me/judge.yaml", "builtin:world"],
      dataset_name: "mine/a:0.5,/home/me/private.jsonl:0.2,https://me:key@example.com/b.jsonl:0.3,hf://org/data@v1",
      cluster: "nats://10.0.0.4:4222",
      creds: "/home/me/trainer.creds",
      num_generations: 3,
    };
    await files.writeFile("out/run.json", JSON.stringify({ verb: "grpo", settings }));
    const table = { ...methods.grpo.settings.table, ...askingSettings("draw") };
    await writeCard(files, "out", { verb: "grpo", table });
    const text = (await readText(files, "out/README.md")) ?? "";
    expect(text).toContain("| num_generations | 3 |");
    expect(text).toContain("| reward_model_path | a server,judge:judge.yaml,builtin:world |");
    expect(text).toContain(
      "| dataset_name | mine/a:0.5,private.jsonl:0.2,https://example.com/b.jsonl:0.3,hf://org/data@v1 |",
    );
    expect(text).not.toMatch(/10\.0\.0|home|trainer\.creds|cluster|key/);
    expect(parse(text.split("---")[1]).datasets).toEqual(["mine/a", "org/data"]);
  });

  it("says what a trained model is, and goes to the hub with it", async () => {
    const folder = join(dir, "trained");
    const words = ["sft", ...`${shape} ${rows}`.split(" "), "--eval_strategy", "steps", "--output_dir", folder];
    const { code, text } = await run(...words, "--push_to_hub", "--hub_model_id", "org/story");
    expect([code, text]).toEqual([0, expect.stringContaining("pushed")]);
    const { head, text: written } = await card(folder);
    expect(head).toMatchObject({ library_name: "transformers", tags: ["webrlhf", "sft"] });
    expect(head["model-index"][0].results[0].metrics).toContainEqual({
      type: "eval_loss",
      name: "eval_loss",
      value: expect.any(Number),
    });
    expect(written).toContain("| hidden_size | 16 |");
    expect(written).not.toContain("| seed |");
    expect(written).not.toContain("hub_model_id");
    expect(Object.keys(hub.files())).toEqual(expect.arrayContaining(["README.md", "config.json", "model.safetensors"]));
    expect(Object.keys(hub.files()).some((name) => /jsonl|run\.json|checkpoint/.test(name))).toBe(false);
    const record = await readFile(join(folder, "run.json"), "utf8");
    expect(record).not.toContain(TOKEN);
    expect(record).not.toMatch(/hub_|push_to/);

    const lora = join(dir, "lora");
    await run("sft", "--model_name_or_path", folder, "--use_peft", ...rows.split(" "), "--output_dir", lora);
    expect((await card(lora)).head).toMatchObject({ library_name: "peft", tags: ["webrlhf", "sft", "lora"] });
    const merged = join(dir, "merged");
    expect((await run("merge", "--adapter_path", lora, "--output_dir", merged)).code).toBe(0);
    const ours = await card(merged);
    expect(ours.text).toContain("AutoModelForCausalLM.from_pretrained");
    expect(ours.text).not.toContain(dir); // folders of this machine

    // Somebody's own card stays, and its licence is known.
    await writeFile(join(merged, "README.md"), "---\nlicense: mit\n---\nMy words.\n");
    await run("merge", "--adapter_path", lora, "--output_dir", merged, "--overwrite_output_dir");
    expect((await readFile(join(merged, "README.md"), "utf8")).endsWith("My words.\n")).toBe(true);
    const half = join(dir, "half");
    const converted = await run("convert", "--model_name_or_path", merged, "--output_dir", half, "--dtype", "float16");
    expect(converted.code).toBe(0);
    expect(await readFile(join(half, "README.md"), "utf8")).toMatch(/license: mit/);
  });

  it("needs a token before the training begins", async () => {
    hub.trouble = () => 401;
    const folder = join(dir, "never");
    const { code, text } = await run("sft", ...`${shape} ${rows}`.split(" "), "--output_dir", folder, "--push_to_hub");
    expect([code, text]).toEqual([1, expect.stringContaining("does not accept the token")]);
    await expect(readFile(join(folder, "config.json"))).rejects.toThrow();
  });
});
