/** Records of runs: what they say, where they lie, and what leaves none. */
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { diskFiles, memoryFiles, VERSION } from "webrlhf";
import { main } from "webrlhf/cli";
import { methods, openRun } from "webrlhf/open";
import { type RunFacts, type RunRecord, readRecord, recordBeside, recordOf } from "webrlhf/rlhf";
import { silentTerminal } from "../cli/terminal.ts";
import { gpuReady } from "../helpers.ts";

let dir: string;
let start: RunRecord | null;
const at = (name: string) => join(dir, name);
const tiny = { hiddenSize: 16, numHiddenLayers: 1, numAttentionHeads: 2, maxPositionEmbeddings: 64 };
const little = { maxTrainSamples: 16, maxEvalSamples: 4, maxSteps: 2 };

beforeAll(async () => {
  await gpuReady();
  dir = await mkdtemp(join(tmpdir(), "webrlhf-record-"));
  start = await train("sft", { ...tiny, ...little, learningRate: 1e-3 }, at("sft"));
});
afterAll(() => rm(dir, { recursive: true }));

/** Trains by names, into a folder of the disk. */
async function train(name: "sft" | "reward" | "grpo", values: object, folder: string): Promise<RunRecord | null> {
  const files = await diskFiles();
  const run = await openRun(methods[name], values);
  try {
    for await (const _ of run.train({ folder: { files, path: folder, besides: run.besides } }));
  } finally {
    run.close();
  }
  return readRecord(files, recordOf(folder));
}

async function verb(...words: string[]): Promise<{ code: number; text: string }> {
  const terminal = silentTerminal();
  const code = await main(words, terminal);
  return { code, text: terminal.written.join("") };
}

describe("the record of a training", () => {
  it("names the adapter of what computes only, whatever ran in the process before", async () => {
    const sft = ["--model_name_or_path", at("sft")];
    const done = async (...words: string[]) => expect(await verb(...words)).toMatchObject({ code: 0 });
    const adapterOf = async (place: string) => (await readRecord(await diskFiles(), place))?.adapter;
    await done("convert", ...sft, "--dtype", "bfloat16", "--output_dir", at("half"));
    await done("generate", ...sft, "--prompt", "Tim", "--max_new_tokens", "2", "--output_file", at("said.jsonl"));
    expect(await adapterOf(recordOf(at("half")))).toBeNull();
    expect(await adapterOf(recordBeside(at("said.jsonl")))).toBe(start?.adapter);
  });

  it("says what was run, on what, and from which runs it comes", async () => {
    expect(start).toMatchObject({ verb: "sft", state: "finished", steps: 2, webrlhf: VERSION, parents: [] });
    expect(start?.adapter).toBeTruthy();
    expect(start?.settings).toMatchObject({ learning_rate: 1e-3, seed: 42, dataset_name: "builtin:world" });

    const judge = await train("reward", { modelNameOrPath: at("sft"), ...little }, at("reward"));
    const names = judge?.inputs.map(({ setting, name }) => [setting, name]);
    expect(names).toEqual([
      ["model_name_or_path", at("sft")],
      ["dataset_name", "builtin:world"],
    ]);
    expect(judge?.inputs[0].sha256).toMatch(/^[0-9a-f]{64}$/);
    expect(judge?.parents).toMatchObject([{ path: at("sft"), verb: "sft", steps: 2, parents: [] }]);
  });

  it("holds no secret and not where it lies", async () => {
    const server = { rewardModelPath: "http://127.0.0.1:1/score", rewardServerApiKey: "sesame" };
    const settings = { modelNameOrPath: at("sft"), ...server, responseLength: 4, rewardServerRetries: 0 };
    await (await diskFiles()).writeFile(join(at("grpo"), "notes.txt"), "mine");
    await expect(train("grpo", { ...settings, maxTrainSamples: 8 }, at("grpo"))).rejects.toThrow(/127\.0\.0\.1/);
    const text = await readFile(recordOf(at("grpo")), "utf8");
    expect(JSON.parse(text)).toMatchObject({ verb: "grpo", state: "failed" });
    expect(text).not.toMatch(/sesame|output_dir|"resume/);
  });

  it("names the base of an adapter, and its run", async () => {
    await train("sft", { modelNameOrPath: at("sft"), usePeft: true, loraR: 2, ...little }, at("lora"));
    const record = await train("sft", { modelNameOrPath: at("lora"), ...little }, at("more"));
    expect(record?.inputs).toMatchObject([
      { setting: "model_name_or_path", name: at("lora") },
      { setting: "dataset_name" },
      { setting: "base_model_name_or_path", name: at("sft") },
    ]);
    expect(record?.parents.map(({ path }) => path)).toEqual([at("lora"), at("sft")]);
  });

  it("follows the bytes of data and models, and not logs beside them", async () => {
    const rows = (word: string) => `{"prompt": "Once", "completion": " a ${word}."}\n`.repeat(4);
    const hashes = async (): Promise<(string | null)[]> => {
      const values = { modelNameOrPath: at("sft"), datasetName: at("rows.jsonl"), maxSteps: 1 };
      await rm(at("again"), { recursive: true, force: true });
      return (await train("sft", values, at("again")))?.inputs.map(({ sha256 }) => sha256) ?? [];
    };
    await writeFile(at("rows.jsonl"), rows("cat"));
    const first = await hashes();
    await writeFile(join(at("sft"), "metrics.jsonl"), "{}\n");
    expect(await hashes()).toEqual(first);
    await writeFile(at("rows.jsonl"), rows("dog"));
    const second = await hashes();
    expect(second[0]).toBe(first[0]);
    expect(second[1]).not.toBe(first[1]);
  });

  it("is kept by trainers that are called from code, with what they know", async () => {
    const files = memoryFiles();
    const record: RunFacts = { verb: "mine", webrlhf: "1", adapter: null, settings: {}, inputs: [], parents: [] };
    const run = await openRun(methods.sft, { ...tiny, ...little });
    for await (const _ of run.train({ folder: { files, path: "out" }, record }));
    run.close();
    expect(await readRecord(files, recordOf("out"))).toEqual({ ...record, state: "finished", steps: 2 });
  });
});

describe("the record of other work", () => {
  it("lies in the folder that is written", async () => {
    await writeFile(at("text.txt"), "Tim had a dog. The dog ran to the big tree.\n".repeat(40));
    const words = ["--dataset_name", at("text.txt"), "--vocab_size", "260", "--output_dir", at("tok")];
    expect(await verb("tokenizer", "train", ...words)).toMatchObject({ code: 0 });
    expect(await readRecord(await diskFiles(), recordOf(at("tok")))).toMatchObject({
      verb: "tokenizer",
      state: "finished",
      settings: { vocab_size: 260 },
      inputs: [{ setting: "dataset_name", name: at("text.txt") }],
    });
    const convert = ["convert", "--model_name_or_path", at("sft"), "--output_dir", at("half"), "--dtype", "bfloat16"];
    expect(await verb(...convert)).toMatchObject({ code: 0 });
    expect(await readRecord(await diskFiles(), recordOf(at("half")))).toMatchObject({ parents: [{ path: at("sft") }] });
  });

  it("lies beside a single file", async () => {
    const words = ["--prompt", "Tim", "--max_new_tokens", "4", "--output_file", at("answers.jsonl")];
    expect(await verb("generate", "--model_name_or_path", at("sft"), ...words)).toMatchObject({ code: 0 });
    const record = await readRecord(await diskFiles(), recordBeside(at("answers.jsonl")));
    expect(record).toMatchObject({ verb: "generate", state: "finished", settings: { max_new_tokens: 4 } });
  });

  it("is not left by work that failed at once", async () => {
    const before = await readdir(dir);
    const judged = ["--reward_model_path", "builtin:world", "--model_name_or_path", at("nowhere")];
    expect(await verb("evaluate", ...judged, "--output_dir", at("evaluated"))).toMatchObject({ code: 1 });
    expect(await verb("pairs", "--input_file", at("nothing.jsonl"), "--output_file", at("pairs.jsonl"))).toMatchObject({
      code: 1,
    });
    expect(await readdir(dir)).toEqual(before);
  });
});

it("the version is the package's", async () => {
  const text = await readFile(new URL("../../package.json", import.meta.url), "utf8");
  expect(VERSION).toBe(JSON.parse(text).version);
});
