/** The modules of examples/ that are named on the command line do there what they do in a program. */
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import ts from "typescript";
import { afterAll, beforeAll, expect, it } from "vitest";
import { diskFiles, openDevice } from "webrlhf";
import { main } from "webrlhf/cli";
import type { Tokenizer } from "webrlhf/data";
import { modelFiles } from "webrlhf/nn";
import { openDataset, openRewards, tokenizerFiles } from "webrlhf/open";
import type { Response } from "webrlhf/rlhf";
import { imitate } from "../../examples/arithmetic.ts";
import { silentTerminal } from "../cli/terminal.ts";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "webrlhf-example-"));
});
afterAll(() => rm(folder, { recursive: true }));

/** An example without its types, as every Node can load it; gives its path. */
async function compiled(example: string): Promise<string> {
  const source = await readFile(path.resolve(import.meta.dirname, "../../examples", example), "utf8");
  const { outputText } = ts.transpileModule(source, {
    compilerOptions: { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2023 },
  });
  const file = path.join(folder, example.replaceAll("/", "-").replace(/\.ts$/, ".mjs"));
  await writeFile(file, outputText);
  return file;
}

it("rewards/arithmetic.ts gives two rewards, of which the answer's counts four times as much", async () => {
  const rewards = await openRewards(await compiled("rewards/arithmetic.ts"));
  expect(rewards.map(({ name, weight }) => [name, weight])).toEqual([
    ["answer", undefined],
    ["working", 0.25],
  ]);
  const row = { answer: 9, working: ["7 + 5 = 12", "12 - 3 = 9"] };
  const responses = ["7 + 5 = 12. 12 - 3 = 9. #### 9", "7 + 5 = 12. 12 + 3 = 15. #### 15", "none"].map((text) => ({
    text,
    row,
  })) as unknown as Response[];
  expect(await rewards[0](responses)).toEqual([1, 0, 0]);
  expect(await rewards[1](responses)).toEqual([1, 0.5, 0]);
});

it("arithmetic/problems.ts is a dataset of conversations with their answers, and has other rows for tests", async () => {
  const file = await compiled("arithmetic/problems.ts");
  const tokenizer = {
    encode: (text: string) => [...text].map((c) => c.charCodeAt(0)),
    prefixIds: [],
    chatTemplate: null,
  };
  const rows = async (datasetTrainSplit: string) => {
    const data = openDataset(file, { datasetTrainSplit });
    const { train } = await data.prompts(tokenizer as never, { context: 200, response: 20 });
    return train.map(({ row }) => row as { working: string[]; answer: number });
  };
  const [train, test] = [await rows("train"), await rows("test")];
  expect(train.length).toBeGreaterThan(1000);
  expect(train[0].working[1]).toMatch(new RegExp(`= ${train[0].answer}$`));
  const known = new Set(train.map(({ working }) => working.join()));
  expect(test.length).toBeGreaterThan(300);
  expect(test.filter(({ working }) => known.has(working.join()))).toEqual([]);
});

it("the reward and the dataset work from the command line, on a model that arithmetic.ts has kept", async () => {
  await openDevice();
  const pupil = path.join(folder, "pupil");
  const imitation = { answers: 64, steps: 2, batch: 8, rate: 1e-3 };
  const practice = { steps: 0, problems: 0, rate: 0 };
  const lesson = { seed: 1, withTool: false, most: 6, width: 16, imitation, practice, tests: 0 };
  const policy = await imitate(lesson, () => {});
  const files = { ...(await modelFiles(policy)), ...tokenizerFiles(policy.tokenizer as Tokenizer) };
  await (await diskFiles()).writeFolder(pupil, files);
  policy.destroy();
  const terminal = silentTerminal();
  const out = path.join(folder, "grpo");
  const code = await main(
    [
      ...["grpo", "--model_name_or_path", pupil, "--dataset_name", await compiled("arithmetic/problems.ts")],
      ...["--reward", await compiled("rewards/arithmetic.ts"), "--output_dir", out, "--max_train_samples", "8"],
      ...["--reward_funcs", "builtin:regex?pattern=[A-Z]"], // what an untrained model can earn, too
      ..."--generation_batch_size 16 --max_completion_length 20 --max_steps 1".split(" "),
    ],
    terminal,
  );
  expect(code, terminal.written.join("")).toBe(0);
  const metrics = JSON.parse(await readFile(path.join(out, "metrics.jsonl"), "utf8"));
  const parts = Object.fromEntries(Object.entries(metrics).filter(([name]) => /^rewards\/[^/]+$/.test(name)));
  const { "rewards/answer": answer, "rewards/working": working, ...capitals } = parts as Record<string, number>;
  expect(metrics.reward).toBeCloseTo(answer + 0.25 * working + Object.values(capitals)[0], 10);
}, 60_000);
