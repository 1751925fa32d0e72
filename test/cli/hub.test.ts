import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Tokenizer, trainBpe } from "webrlhf/data";
import { labelOf, locateModel, openDataset, openTokenizer, tokenizerFiles } from "webrlhf/open";
import { savedName } from "../../src/open/hub.ts";
import { type FakeHub, fakeHub } from "../io/fake-hub.ts";

const TEMPLATE =
  "{% for m in messages %}{{ '\n' + m.role + ':' }}{% if m.role == 'assistant' %}{% generation %}{{ ' ' + m.content + eos_token }}{% endgeneration %}{% else %}{{ ' ' + m.content }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '\nassistant:' }}{% endif %}";
const world = Tokenizer.fromTrained(
  trainBpe(["user: assistant: a boy had a cat and a girl had a bird"], { vocabSize: 300 }),
);
const tokenizerJson = JSON.stringify(world.json);
const config = JSON.stringify(world.configJson);
const commit = "2".repeat(40);
const talk = (a: string, b: string) => [
  { role: "user", content: a },
  { role: "assistant", content: b },
];
const rows = [
  { messages: [...talk("a boy", "had a cat"), ...talk("and", "a dog")] },
  { messages: talk("a girl", "had a bird") },
];
const lines = (list: unknown[]) => list.map((row) => `${JSON.stringify(row)}\n`).join("");

let hub: FakeHub;
let folder: string;
const saved: Record<string, string | undefined> = {};

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "webrlhf-cli-hub-"));
  hub = await fakeHub({
    "org/tiny": {
      commit,
      files: {
        "config.json": "{}",
        "tokenizer.json": tokenizerJson,
        "tokenizer_config.json": config,
        "chat_template.jinja": TEMPLATE,
        "model.safetensors": "weights",
      },
    },
    "org/adapter": {
      commit,
      files: {
        "adapter_config.json": JSON.stringify({ peft_type: "LORA", base_model_name_or_path: "org/tiny" }),
        "adapter_model.safetensors": "weights",
      },
    },
    "datasets/org/talks": { commit, files: { "train.jsonl": lines(rows), "test.jsonl": lines(rows.slice(1)) } },
  });
  for (const [key, value] of Object.entries({
    HF_HUB_CACHE: join(folder, "hub"),
    HF_ENDPOINT: hub.endpoint,
    HF_TOKEN: "",
  })) {
    saved[key] = process.env[key];
    process.env[key] = value;
  }
});
afterAll(async () => {
  for (const [key, value] of Object.entries(saved)) {
    if (value === undefined) delete process.env[key];
    else process.env[key] = value;
  }
  await hub.close();
  await rm(folder, { recursive: true });
});
const talks = (options: object = {}) => openDataset("org/talks", { datasetTestSplit: "test", seed: 1, ...options });
const open = async () => openTokenizer(join(folder, "hub", "models--org--tiny", "snapshots", commit));

describe("models by name", () => {
  it("become paths, an adapter's base too; paths stay", async () => {
    const snapshot = (name: string) => join(folder, "hub", `models--org--${name}`, "snapshots", commit);
    const [adapter, tiny] = [
      await locateModel("org/adapter", "model", {}),
      await locateModel("org/tiny", "tokenizer", {}),
    ];
    expect([adapter.path, tiny.path]).toEqual([snapshot("adapter"), snapshot("tiny")]);
    const own = await locateModel("out/sft/", "model", {});
    expect([labelOf(tiny), labelOf(own), savedName(tiny)]).toEqual(["tiny", "sft", "org/tiny"]);
    const asked = hub.requests.length;
    expect((await locateModel(folder, "model", {})).path).toBe(folder);
    // In a folder that exists a name is a path, whether or not it is there.
    expect((await locateModel("src/nothing", "model", {})).path).toBe("src/nothing");
    expect(hub.requests.length).toBe(asked);
    await expect(locateModel("org/none", "model", { offline: true })).rejects.toThrow(/three ways/);
    // What is no revision makes the text no name of the hub: it is a path.
    expect((await locateModel("org/tiny", "model", { modelRevision: "../x" })).path).toBe("org/tiny");
  });

  it("bring their chat template, which is saved beside a model", async () => {
    const tokenizer = await open();
    expect(tokenizer.chatTemplate?.source).toBe(TEMPLATE);
    expect(tokenizerFiles(tokenizer)["chat_template.jinja"]).toBe(TEMPLATE);
    const own = join(folder, "own");
    await mkdir(own, { recursive: true });
    await writeFile(join(own, "tokenizer.json"), tokenizerJson);
    await writeFile(
      join(own, "tokenizer_config.json"),
      JSON.stringify({ ...world.configJson, chat_template: "in config" }),
    );
    const inConfig = await openTokenizer(own);
    expect(inConfig.chatTemplate?.source).toBe("in config");
    expect(tokenizerFiles(inConfig)["chat_template.jinja"]).toBeUndefined();
    await writeFile(join(own, "other.jinja"), "{{ messages[0].content }}");
    const given = await openTokenizer(own, { chatTemplatePath: join(own, "other.jinja") });
    expect(given.chatTemplate?.render([{ role: "user", content: "x" }])).toBe("x");
    // One that is broken hurts nobody who does not use it.
    await writeFile(join(own, "chat_template.jinja"), "{% if %}");
    const broken = await openTokenizer(own);
    expect(() => broken.chatTemplate?.render([])).toThrow(/chat_template.jinja: not a chat template/);
    await expect(openTokenizer(own, { chatTemplatePath: join(own, "none.jinja") })).rejects.toThrow(
      /chat_template_path names a file/,
    );
  });
});

describe("datasets by name", () => {
  const text = (ids: Uint32Array) => world.decode(ids, { skipSpecialTokens: false });

  it("are written by the model's chat template", async () => {
    const tokenizer = await open();
    const { train, eval: test } = await talks().sequences(tokenizer, { maxLength: 100 });
    expect(train.map(({ promptLength, learned }) => [promptLength, learned])).toEqual([
      [0, undefined],
      [0, undefined],
    ]);
    expect(train.map(({ ids }) => text(ids))).toEqual([
      "\nuser: a boy\nassistant: had a cat<|endoftext|>\nuser: and\nassistant: a dog<|endoftext|>",
      "\nuser: a girl\nassistant: had a bird<|endoftext|>",
    ]);
    expect(test).toHaveLength(1);
  });

  it("are learned wherever the assistant speaks", async () => {
    const tokenizer = await open();
    const { train } = await talks().sequences(tokenizer, { maxLength: 100, assistantOnlyLoss: true });
    const learned = ({ ids, learned }: (typeof train)[number]) => text(ids.filter((_, i) => learned?.[i] === 1));
    expect(train.map(learned)).toEqual([" had a cat<|endoftext|> a dog<|endoftext|>", " had a bird<|endoftext|>"]);
    const { train: plain } = await talks({ template: "plain" }).sequences(tokenizer, {
      maxLength: 100,
      assistantOnlyLoss: true,
    });
    expect(learned(plain[0])).toBe(" had a cat a dog<|endoftext|>");
    const short = talks().sequences(tokenizer, { maxLength: 4, assistantOnlyLoss: true });
    await expect(short.then(({ train }) => train)).rejects.toThrow(
      /the assistant says nothing within the first 4 tokens/,
    );
  });

  it("give prompts, pairs and texts, of strings too", async () => {
    const tokenizer = await open();
    const file = join(folder, "pairs.jsonl");
    const pairs = [
      { prompt: talk("a boy", "x").slice(0, 1), chosen: talk("", "had").slice(1), rejected: talk("", "ran").slice(1) },
      { chosen: talk("a girl", "had"), rejected: talk("a girl", "ran"), prompt: null },
    ];
    await writeFile(file, lines(pairs.slice(0, 1)));
    const { train } = await openDataset(file).pairs(tokenizer, { maxLength: 50 });
    expect([text(train[0].chosen), text(train[0].rejected)]).toEqual([
      "\nuser: a boy\nassistant: had<|endoftext|>",
      "\nuser: a boy\nassistant: ran<|endoftext|>",
    ]);
    await writeFile(file, lines(pairs.slice(1)));
    const prompts = async (options: object, own = tokenizer) =>
      (await openDataset(file, options).prompts(own, room)).train;
    const room = { context: 50, response: 10 };
    expect((await prompts({})).map((prompt) => prompt.text)).toEqual(["\nuser: a girl\nassistant:"]);
    await writeFile(file, lines([{ prompt: "a boy" }]));
    expect((await prompts({ template: "chat" }))[0].text).toBe("\nuser: a boy\nassistant:");
    await expect(prompts({ template: "chat" }, world)).rejects.toThrow(
      /needs a model with a chat template; give one with chat_template_path/,
    );
    expect((await prompts({}))[0].text).toBe("a boy");
    expect(await openDataset("org/talks", { maxTrainSamples: 1 }).texts()).toEqual([
      "\n\nHuman: a boy\n\nAssistant: had a cat\n\nHuman: and\n\nAssistant: a dog",
    ]);
  });

  it("take tools, and say which row a template refuses", async () => {
    const tokenizer = await open();
    const file = join(folder, "tools.jsonl");
    const template = join(folder, "tools.jinja");
    await writeFile(
      template,
      "{% if tools %}{{ tools[0].name }}{% endif %}{% for m in messages %}{% if m.role == 'tool' %}{{ raise_exception('no tools') }}{% endif %}{{ m.content }}{% endfor %}",
    );
    const withTools = await openTokenizer(join(folder, "hub", "models--org--tiny", "snapshots", commit), {
      chatTemplatePath: template,
    });
    await writeFile(file, lines([{ prompt: talk("a", "b"), tools: JSON.stringify([{ name: "look" }]) }]));
    const room = { context: 50, response: 10 };
    const prompts = async (own: typeof tokenizer, options = {}) =>
      (await openDataset(file, options).prompts(own, room)).train;
    expect((await prompts(withTools))[0].text).toBe("lookab");
    await writeFile(file, lines([{ prompt: [{ role: "tool", content: "x", name: null }] }]));
    await expect(prompts(withTools)).rejects.toThrow(
      /tools.jsonl:1: .*tools.jinja: the chat template fails at message 1 \("tool"\): no tools/,
    );
    await expect(prompts(tokenizer, { template: "plain" })).rejects.toThrow(
      /message 1 has role "tool"; without a chat template/,
    );
    expect(await readFile(file, "utf8")).toContain("null");
  });
});
