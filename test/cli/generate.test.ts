import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { diskFiles } from "webrlhf";
import { main } from "webrlhf/cli";
import { CausalLM, modelFiles } from "webrlhf/nn";
import { tokenizerFiles } from "webrlhf/open";
import { biasMap, stopStrings } from "../../src/cli/sampling.ts";
import { gpuReady } from "../helpers.ts";
import { tinyConfig, tokenizer } from "../rlhf/tiny.ts";
import { tinyServer } from "../serve/tiny-server.ts";
import { silentTerminal } from "./terminal.ts";

let dir: string;
let model: string;
let out: string;

beforeAll(async () => {
  process.setMaxListeners(100);
  await gpuReady();
  dir = await mkdtemp(join(tmpdir(), "webrlhf-generate-"));
  model = join(dir, "model");
  const lm = new CausalLM(tinyConfig()).initialize(3);
  await (await diskFiles()).writeFolder(model, { ...(await modelFiles(lm)), ...tokenizerFiles(tokenizer) });
  lm.destroy();
});
afterAll(() => rm(dir, { recursive: true }));
beforeEach(async () => {
  out = join(await mkdtemp(join(dir, "out-")), "answers.jsonl");
});

async function run(...words: string[]): Promise<{ code: number; text: string; results: string[] }> {
  const terminal = silentTerminal();
  const code = await main(["generate", ...words], terminal);
  return { code, text: terminal.written.join(""), results: terminal.results };
}

async function input(...lines: unknown[]): Promise<string> {
  const file = join(await mkdtemp(join(dir, "in-")), "input.jsonl");
  await writeFile(file, lines.map((line) => (typeof line === "string" ? line : JSON.stringify(line))).join("\n"));
  return file;
}

const lines = async (file: string) =>
  (await readFile(file, "utf8"))
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as Record<string, unknown>);

const common = ["--max_new_tokens", "6", "--ignore_eos", "true"];

describe("webrlhf generate", () => {
  it("answers JSON lines in their order, each with its own options", async () => {
    const file = await input(
      { id: "first", prompt: "Once there was", temperature: 0 },
      '"One day"',
      "",
      { id: 7, messages: [{ role: "user", content: "Hello" }], max_new_tokens: 3 },
      { prompt: tokenizer.encode("One day"), n: 2, logprobs: 2, logit_bias: { 300: 100 }, stop: ["never"] },
    );
    const flags = ["--model_name_or_path", model, "--input_file", file, "--return_token_ids", "true", ...common];
    const { code, text } = await run(...flags, "--output_file", out);
    expect(code, text).toBe(0);
    expect(text).toMatch(/5 responses in/);
    const found = await lines(out);
    expect(found.map(({ id, sample }) => [id, sample])).toEqual([
      ["first", undefined],
      [undefined, undefined],
      [7, undefined],
      [undefined, 0],
      [undefined, 1],
    ]);
    expect(found.map((l) => (l.token_ids as number[]).length)).toEqual([6, 6, 3, 6, 6]);
    expect(found[1]).toMatchObject({ prompt: "One day", ended: false });
    expect(found[2].messages).toEqual([{ role: "user", content: "Hello" }]);
    expect(found[3].token_ids).toEqual([300, 300, 300, 300, 300, 300]);
    expect((found[4].logprobs as number[]).length).toBe(6);
    expect((found[4].top_logprobs as number[][][])[0].length).toBe(2);
    expect(await readdir(join(out, ".."))).toEqual(["answers.jsonl", "answers.jsonl.run.json"]);
    // The same command gives the same file, with any number of slots.
    const again = `${out}.2`;
    await run(...flags, "--output_file", again, "--max_num_seqs", "2");
    expect(await lines(again)).toEqual(found);
    // Without a file the lines go to stdout.
    const { results } = await run(...flags);
    expect(results.map((line) => JSON.parse(line))).toEqual(found);
  });

  it("goes on where it was cut, only with the same command", async () => {
    const file = await input(...Array.from({ length: 6 }, (_, i) => ({ id: i, prompt: `Day ${i}`, n: 2 })));
    const flags = ["--model_name_or_path", model, "--input_file", file, ...common, "--output_file", out];
    expect((await run(...flags)).code).toBe(0);
    const whole = await readFile(out, "utf8");
    // What a killed run leaves: whole answers, in whatever order they came, and one that is not.
    const name = await partialName(flags);
    const log = (await readFile(name, "utf8")).trimEnd().split("\n");
    expect(log.length).toBe(6);
    const half = `${log[4]}\n${log[1]}\n${log[2].slice(0, -9)}`;
    await writeFile(name, half);
    const resumed = await run(...flags);
    expect(resumed.text).toMatch(/2 of 6 prompts were answered before/);
    expect(await readFile(out, "utf8")).toBe(whole);
    await writeFile(name, half);
    expect((await run(...flags, "--temperature", "0.5")).text).not.toMatch(/answered before/);
    expect((await run(...flags, "--resume", "false")).text).not.toMatch(/answered before/);
  });

  /** The name of the unfinished file of a command: that of one that fails on its way. */
  async function partialName(flags: string[]): Promise<string> {
    const { mkdir, rm: remove } = await import("node:fs/promises");
    await remove(out, { force: true });
    await mkdir(out); // the finished file cannot take its place
    const { code, text } = await run(...flags);
    expect(code).toBe(1);
    expect(text).toMatch(/cannot write .*it is a folder/);
    const [name] = (await readdir(join(out, ".."))).filter((n) => n.includes(".partial-"));
    await remove(out, { recursive: true });
    return join(out, "..", name);
  }

  it("answers every row of a dataset, repeated ones too, unless told how many", async () => {
    const file = await input(...Array.from({ length: 11 }, (_, i) => ({ question: `Once ${i % 10}` })));
    const flags = ["--model_name_or_path", model, "--dataset_name", file, "--column", "prompt=question", ...common];
    const { code, text } = await run(...flags, "--output_file", out);
    expect(code, text).toBe(0);
    expect((await lines(out)).map(({ prompt }) => prompt)).toEqual(
      Array.from({ length: 11 }, (_, i) => `Once ${i % 10}`),
    );
    await run(...flags, "--num_prompts", "3", "--output_file", `${out}.3`);
    expect(await lines(`${out}.3`)).toHaveLength(3);
  });

  it("needs no model to ask a server for a dataset", async () => {
    const server = await tinyServer();
    try {
      const user = { role: "user", content: "Hi" };
      const rows = [
        { messages: [user, { role: "assistant", content: "Yo" }] },
        { messages: [{ role: "system", content: "Be kind" }, user, { role: "assistant", content: "Yo" }] },
      ];
      const flags = ["--server", server.url, "--output_file", out, ...common];
      expect((await run(...flags, "--dataset_name", await input(...rows))).code).toBe(0);
      expect((await lines(out)).map(({ messages }) => messages)).toEqual(rows.map((r) => r.messages.slice(0, -1)));
      const said = await input({
        conversations: [
          { from: "human", value: "Hi" },
          { from: "gpt", value: "Yo" },
        ],
      });
      await run("--server", server.url, "--output_file", `${out}.2`, ...common, "--dataset_name", said);
      expect((await lines(`${out}.2`))[0]).toMatchObject({ messages: [user] });
      const texts = await input({ prompt: "Once" });
      await run("--server", server.url, "--output_file", `${out}.3`, ...common, "--dataset_name", texts);
      expect((await lines(`${out}.3`))[0]).toMatchObject({ prompt: "Once" });
      expect(server.logged.filter((line) => line.includes("/chat/completions"))).toHaveLength(3);
    } finally {
      await server.stop();
    }
  });

  it("lets a server sample", async () => {
    const server = await tinyServer({ apiKey: "k" });
    try {
      const file = await input({ prompt: "Once" }, { id: 1, messages: [{ role: "user", content: "Hi" }], n: 2 });
      const flags = ["--server", server.url, "--input_file", file, "--output_file", out, ...common];
      const { code, text } = await run(...flags, "--api_key", "k", "--return_token_ids", "true");
      expect(code, text).toBe(0);
      const found = await lines(out);
      expect(found.map(({ id, sample }) => [id, sample])).toEqual([
        [undefined, undefined],
        [1, 0],
        [1, 1],
      ]);
      expect(found.every((l) => (l.token_ids as number[]).length === 6)).toBe(true);
      expect((await run(...flags, "--api_key", "wrong")).text).toMatch(/401 Incorrect API key/);
    } finally {
      await server.stop();
    }
  });

  it.each<[string, unknown[], RegExp]>([
    ["no JSON", ["{"], /input.jsonl:1: not JSON/],
    ["a number", ["3"], /input.jsonl:1: a line is a prompt/],
    ["no prompt", [{ id: 1 }], /either "prompt" or "messages"/],
    ["both", [{ prompt: "x", messages: [] }], /either "prompt" or "messages"/],
    ["an unknown key", [{ prompt: "x", temperture: 1 }], /unknown key "temperture" \(did you mean "temperature"\?\)/],
    ["a wrong option", ['"fine"', { prompt: "x", top_p: 2 }], /top_p in .*input.jsonl:2 must be/],
    ["a wrong role", [{ messages: [{ role: "cat", content: "x" }] }], /"messages" must be a list/],
    ["a foreign token", [{ prompt: [99999] }], /input.jsonl:1: there is no token 99999/],
    ["an empty prompt", [{ prompt: "" }], /input.jsonl:1: the prompt is empty/],
    ["too long a prompt", [{ prompt: "a b c ".repeat(30) }], /input.jsonl:1 has \d+ tokens.*exceeds the context of 64/],
    ["nothing", [""], /no lines to answer/],
  ])("says what is wrong with an input: %s", async (_, given, message) => {
    const { code, text } = await run("--model_name_or_path", model, "--input_file", await input(...given), ...common);
    expect([code, text]).toEqual([1, expect.stringMatching(message)]);
    expect(text).not.toMatch(/defect/);
  });

  it("needs a model or a server", async () => {
    expect((await run("--prompt", "x")).text).toMatch(/pass --model_name_or_path, or --server/);
    expect((await run("--server", "nonsense", "--prompt", "x")).text).toMatch(/is no URL/);
  });
});

describe("options for sampling", () => {
  it("are read from JSON", () => {
    expect(stopStrings('["a", "\\n"]')).toEqual(["a", "\n"]);
    expect(stopStrings("[User]")).toEqual(["[User]"]);
    expect(() => stopStrings(["", 3])).toThrow(/must be a text or a list of texts/);
    expect([...biasMap('{"5": -1.5}', "logit_bias")]).toEqual([[5, -1.5]]);
    expect(() => biasMap("5", "logit_bias")).toThrow(/must be JSON like/);
    expect(() => biasMap('{"x": 1}', "logit_bias")).toThrow(/no token id/);
  });
});
