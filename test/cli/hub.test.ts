import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { type DataChoice, pairData, promptData, sftData, textData } from "../../src/cli/data/datasets.ts";
import { hubNameAt, labelAt, locate, locateModels } from "../../src/cli/models/hub.ts";
import { openTokenizer, tokenizerFiles } from "../../src/cli/models/models.ts";
import { sftOptions } from "../../src/cli/options/sft.ts";
import type { Terminal } from "../../src/cli/terminal.ts";
import { trainBpe } from "../../src/data/bpe.ts";
import { Tokenizer } from "../../src/data/tokenizer.ts";
import { diskFiles } from "../../src/runtime/files.ts";
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
const said: string[] = [];
const terminal: Terminal = {
  tty: false,
  columns: 80,
  write: () => {},
  line: (text) => void said.push(text),
  style: (_, text) => text,
  result: () => {},
};
const context = { terminal, signal: new AbortController().signal };

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
afterEach(() => {
  said.length = 0;
});

const choice: DataChoice = {
  dataset_name: "org/talks",
  dataset_test_split: "test",
  test_size: 0,
  template: "auto",
  long_prompts: "error",
  seed: 1,
};
const open = async () =>
  openTokenizer(await diskFiles(), join(folder, "hub", "models--org--tiny", "snapshots", commit));

describe("models by name", () => {
  it("become paths, an adapter's base too; paths stay", async () => {
    const values = {
      model_name_or_path: "org/adapter",
      tokenizer_name_or_path: "org/tiny",
      output_dir: "org/out",
      offline: false,
    };
    const found = await locateModels(sftOptions, values, context);
    const snapshot = (name: string) => join(folder, "hub", `models--org--${name}`, "snapshots", commit);
    expect(found).toEqual({
      ...values,
      model_name_or_path: snapshot("adapter"),
      tokenizer_name_or_path: snapshot("tiny"),
    });
    expect(locate("org/tiny")).toBe(snapshot("tiny"));
    expect(locate("some/path")).toBe("some/path");
    expect([labelAt(snapshot("tiny")), labelAt("out/sft/"), hubNameAt(snapshot("tiny"))]).toEqual([
      "tiny",
      "sft",
      "org/tiny",
    ]);
    const asked = hub.requests.length;
    const paths = { model_name_or_path: folder, tokenizer_name_or_path: "builtin:world" };
    expect(await locateModels(sftOptions, paths, context)).toEqual(paths);
    // In a folder that exists a name is a path, whether or not it is there.
    const missing = { model_name_or_path: "src/nothing" };
    expect(await locateModels(sftOptions, missing, context)).toEqual(missing);
    expect(hub.requests.length).toBe(asked);
    await expect(locateModels(sftOptions, { model_name_or_path: "org/none", offline: true }, context)).rejects.toThrow(
      /three ways/,
    );
    await expect(
      locateModels(sftOptions, { model_name_or_path: "org/tiny", model_revision: "../x" }, context),
    ).resolves.toEqual({ model_name_or_path: "org/tiny", model_revision: "../x" });
  });

  it("bring their chat template, which is saved beside a model", async () => {
    const tokenizer = await open();
    expect(tokenizer.chatTemplate?.source).toBe(TEMPLATE);
    expect(tokenizerFiles(tokenizer)["chat_template.jinja"]).toBe(TEMPLATE);
    const files = await diskFiles();
    const own = join(folder, "own");
    await mkdir(own, { recursive: true });
    await writeFile(join(own, "tokenizer.json"), tokenizerJson);
    await writeFile(
      join(own, "tokenizer_config.json"),
      JSON.stringify({ ...world.configJson, chat_template: "in config" }),
    );
    const inConfig = await openTokenizer(files, own);
    expect(inConfig.chatTemplate?.source).toBe("in config");
    expect(tokenizerFiles(inConfig)["chat_template.jinja"]).toBeUndefined();
    await writeFile(join(own, "other.jinja"), "{{ messages[0].content }}");
    const given = await openTokenizer(files, own, join(own, "other.jinja"));
    expect(given.chatTemplate?.render([{ role: "user", content: "x" }])).toBe("x");
    // One that is broken hurts nobody who does not use it.
    await writeFile(join(own, "chat_template.jinja"), "{% if %}");
    const broken = await openTokenizer(files, own);
    expect(() => broken.chatTemplate?.render([])).toThrow(/chat_template.jinja: not a chat template/);
    await expect(openTokenizer(files, own, join(own, "none.jinja"))).rejects.toThrow(/chat_template_path names a file/);
  });
});

describe("datasets by name", () => {
  const text = (ids: Uint32Array) => world.decode(ids, { skipSpecialTokens: false });

  it("are written by the model's chat template", async () => {
    const tokenizer = await open();
    const { train, eval: test } = await sftData(choice, tokenizer, { maxLength: 100, all: false }, terminal);
    expect(train.map(({ ids }) => text(ids))).toEqual([
      "\nuser: a boy\nassistant: had a cat<|endoftext|>\nuser: and\nassistant: a dog<|endoftext|>",
      "\nuser: a girl\nassistant: had a bird<|endoftext|>",
    ]);
    expect(text(train[0].ids.slice(train[0].promptLength))).toBe(" a dog<|endoftext|>");
    expect(test).toHaveLength(1);
  });

  it("are learned wherever the assistant speaks", async () => {
    const tokenizer = await open();
    const { train } = await sftData(choice, tokenizer, { maxLength: 100, all: false, allAnswers: true }, terminal);
    const learned = ({ ids, learned }: (typeof train)[number]) => text(ids.filter((_, i) => learned?.[i] === 1));
    expect(train.map(learned)).toEqual([" had a cat<|endoftext|> a dog<|endoftext|>", " had a bird<|endoftext|>"]);
    const { train: plain } = await sftData(
      { ...choice, template: "plain" },
      tokenizer,
      { maxLength: 100, all: false, allAnswers: true },
      terminal,
    );
    expect(learned(plain[0])).toBe(" had a cat a dog<|endoftext|>");
    await expect(sftData(choice, tokenizer, { maxLength: 4, all: false, allAnswers: true }, terminal)).rejects.toThrow(
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
    const { train } = await pairData(
      { ...choice, dataset_name: file, dataset_test_split: null },
      tokenizer,
      { maxLength: 50 },
      terminal,
    );
    expect([text(train[0].chosen), text(train[0].rejected)]).toEqual([
      "\nuser: a boy\nassistant: had<|endoftext|>",
      "\nuser: a boy\nassistant: ran<|endoftext|>",
    ]);
    await writeFile(file, lines(pairs.slice(1)));
    const given = { ...choice, dataset_name: file, dataset_test_split: null };
    const room = { context: 50, response: 10 };
    expect((await promptData(given, "train", tokenizer, room, terminal)).map((prompt) => prompt.text)).toEqual([
      "\nuser: a girl\nassistant:",
    ]);
    await writeFile(file, lines([{ prompt: "a boy" }]));
    expect((await promptData({ ...given, template: "chat" }, "train", tokenizer, room, terminal))[0].text).toBe(
      "\nuser: a boy\nassistant:",
    );
    await expect(promptData({ ...given, template: "chat" }, "train", world, room, terminal)).rejects.toThrow(
      /needs a model with a chat template; give one with chat_template_path/,
    );
    expect((await promptData(given, "train", tokenizer, room, terminal))[0].text).toBe("a boy");
    expect(
      await textData({ dataset_name: "org/talks", test_size: 0, template: "auto", max_train_samples: 1 }, terminal),
    ).toEqual(["\n\nHuman: a boy\n\nAssistant: had a cat\n\nHuman: and\n\nAssistant: a dog"]);
  });

  it("take tools, and say which row a template refuses", async () => {
    const tokenizer = await open();
    const file = join(folder, "tools.jsonl");
    const template = join(folder, "tools.jinja");
    await writeFile(
      template,
      "{% if tools %}{{ tools[0].name }}{% endif %}{% for m in messages %}{% if m.role == 'tool' %}{{ raise_exception('no tools') }}{% endif %}{{ m.content }}{% endfor %}",
    );
    const withTools = await openTokenizer(
      await diskFiles(),
      join(folder, "hub", "models--org--tiny", "snapshots", commit),
      template,
    );
    const given = { ...choice, dataset_name: file, dataset_test_split: null };
    await writeFile(file, lines([{ prompt: talk("a", "b"), tools: JSON.stringify([{ name: "look" }]) }]));
    const room = { context: 50, response: 10 };
    expect((await promptData(given, "train", withTools, room, terminal))[0].text).toBe("lookab");
    await writeFile(file, lines([{ prompt: [{ role: "tool", content: "x", name: null }] }]));
    await expect(promptData(given, "train", withTools, room, terminal)).rejects.toThrow(
      /tools.jsonl:1: .*tools.jinja: the chat template fails at message 1 \("tool"\): no tools/,
    );
    await expect(promptData({ ...given, template: "plain" }, "train", tokenizer, room, terminal)).rejects.toThrow(
      /message 1 has role "tool"; without a chat template/,
    );
    expect(await readFile(file, "utf8")).toContain("null");
  });
});
