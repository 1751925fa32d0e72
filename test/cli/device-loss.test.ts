/** Verbs that run models and train none, whose GPU device is lost: they write what they would have written. */
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { diskFiles } from "webrlhf";
import { main } from "webrlhf/cli";
import { CausalLM, modelFiles, ScoreModel } from "webrlhf/nn";
import { tokenizerFiles } from "webrlhf/open";
import { gpuReady } from "../helpers.ts";
import { losingAt } from "../losing.ts";
import { tinyConfig, tokenizer } from "../rlhf/tiny.ts";
import { silentTerminal } from "./terminal.ts";

let dir: string;
let model: string;
let judge: string;
let rows: string;

beforeAll(async () => {
  process.setMaxListeners(200); // every run of the program listens for Ctrl-C
  await gpuReady();
  dir = await mkdtemp(join(tmpdir(), "webrlhf-lost-"));
  model = join(dir, "model");
  judge = join(dir, "judge");
  rows = join(dir, "rows.jsonl");
  const files = await diskFiles();
  for (const [path, one] of [
    [model, new CausalLM(tinyConfig()).initialize(3)],
    [judge, new ScoreModel(tinyConfig()).initialize(4)],
  ] as const) {
    await files.writeFolder(path, { ...(await modelFiles(one)), ...tokenizerFiles(tokenizer) });
    one.destroy();
  }
  const row = (i: number) => ({
    id: i,
    prompt: `Tom had ${i} cats.`,
    responses: [" The cat ran.", ` Sam saw ${i} dogs.`],
  });
  await writeFile(rows, Array.from({ length: 200 }, (_, i) => `${JSON.stringify(row(i))}\n`).join(""));
});
afterAll(() => rm(dir, { recursive: true }));
beforeEach(gpuReady); // a test may leave a device that is lost

const sampling = () => [
  "--model_name_or_path",
  model,
  "--num_prompts",
  "6",
  "--max_new_tokens",
  "20",
  "--max_num_seqs",
  "2",
];
const scoring = () => ["--input_file", rows, "--reward_model_path", judge];

/** Words of each verb, and what names its output in a folder. */
const verbs: Record<string, [words: () => string[], output: (folder: string) => string[]]> = {
  generate: [() => ["generate", ...sampling()], (folder) => ["--output_file", join(folder, "out.jsonl")]],
  annotate: [
    () => ["annotate", ...scoring(), "--rows_at_once", "40"],
    (folder) => ["--output_file", join(folder, "out.jsonl")],
  ],
  "annotate anew": [
    () => ["annotate", ...scoring(), "--rows_at_once", "40", "--resume", "false"],
    (folder) => ["--output_file", join(folder, "out.jsonl")],
  ],
  score: [() => ["score", ...scoring()], (folder) => ["--output_file", join(folder, "out.jsonl")]],
  "evaluate a policy": [
    () => [
      "evaluate",
      "--model_name_or_path",
      model,
      "--reward_model_path",
      judge,
      "--num_prompts",
      "8",
      "--response_length",
      "8",
    ],
    (folder) => ["--output_dir", folder],
  ],
  "evaluate a reward model": [
    () => ["evaluate", "reward", "--reward_model_path", judge, "--num_prompts", "32"],
    (folder) => ["--output_dir", folder],
  ],
};

async function run(words: readonly string[]): Promise<{ code: number; text: string; results: string[] }> {
  const terminal = silentTerminal();
  const code = await main(words, terminal);
  return { code, text: terminal.written.join(""), results: terminal.results };
}

/** What a verb leaves in a folder of its own, without its record. */
async function left(folder: string): Promise<Record<string, string>> {
  const names = (await readdir(folder)).filter((name) => !name.endsWith("run.json"));
  return Object.fromEntries(
    await Promise.all(names.map(async (name) => [name, await readFile(join(folder, name), "utf8")] as const)),
  );
}

const newFolder = () => mkdtemp(join(dir, "out-"));
const LOST = /the GPU device was lost \([^)]+\); going on on a new device/;

describe("a verb whose device is lost", () => {
  it.each(Object.keys(verbs))("leaves the same bytes: %s", async (name) => {
    const [words, output] = verbs[name];
    const kept = await newFolder();
    const submits = await losingAt(
      () => false,
      async () => expect((await run([...words(), ...output(kept)])).code).toBe(0),
    );
    const expected = await left(kept);
    expect(Object.keys(expected).length).toBeGreaterThan(0);
    const lost = await newFolder();
    const moments = [1, submits >> 1, submits + 1];
    await losingAt(
      (submit) => moments.includes(submit),
      async () => {
        const { code, text } = await run([...words(), ...output(lost)]);
        expect(code, text).toBe(0);
        expect(text).toMatch(LOST);
      },
    );
    expect(await left(lost)).toEqual(expected);
  });

  it("prints each answer once", async () => {
    const words = ["generate", ...sampling()];
    let expected: string[] = [];
    const submits = await losingAt(
      () => false,
      async () => {
        expected = (await run(words)).results;
      },
    );
    expect(expected).toHaveLength(6);
    await losingAt(
      (submit) => submit === Math.floor(submits * 0.8),
      async () => {
        const { text, results } = await run(words);
        expect(text).toMatch(LOST);
        expect(results).toEqual(expected);
      },
    );
  });

  it("ends with one line where no device lasts", async () => {
    const folder = await newFolder();
    await losingAt(
      () => true,
      async () => {
        const { code, text } = await run(["score", ...scoring(), "--output_file", join(folder, "out.jsonl")]);
        expect(code).toBe(1);
        expect(text).toMatch(/lost .+, 4 times .+: check the GPU and its driver, then run the same command again\n$/);
      },
    );
    expect(await readdir(folder)).toEqual([]);
  });
});
