import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { diskFiles } from "webrlhf";
import { main } from "webrlhf/cli";
import { CausalLM, modelFiles, ScoreModel } from "webrlhf/nn";
import { tokenizerFiles } from "webrlhf/open";
import { plainScoring } from "../../src/nn/scoring.ts";
import { SECTIONS } from "../../src/rlhf/reward/reward-bench.ts";
import { gpuReady } from "../helpers.ts";
import { tinyConfig, tokenizer } from "../rlhf/tiny.ts";
import { silentTerminal } from "./terminal.ts";

let dir: string;
let judge: string;
let costly: string;

beforeAll(async () => {
  process.setMaxListeners(100); // every run of the program listens for Ctrl-C
  await gpuReady();
  dir = await mkdtemp(join(tmpdir(), "webrlhf-"));
  judge = join(dir, "judge");
  costly = join(dir, "costly");
  const files = await diskFiles();
  const normalizer = { kind: "RunningMeanStd", momentum: 0.9, mean: 1, variance: 4, count: 10 } as const;
  for (const [folder, scoring] of [
    [judge, { ...plainScoring(), normalizer }],
    [costly, { ...plainScoring(), type: "cost" }],
  ] as const) {
    const model = new ScoreModel(tinyConfig(), "scorer", "float32", { scoring }).initialize(1);
    await files.writeFolder(folder, { ...(await modelFiles(model)), ...tokenizerFiles(tokenizer) });
    model.destroy();
  }
});
afterAll(() => rm(dir, { recursive: true }));

async function run(...words: string[]): Promise<{ code: number; text: string }> {
  const terminal = silentTerminal();
  const code = await main(words, terminal);
  return { code, text: terminal.written.join("") };
}

async function rowsFile(name: string, rows: readonly unknown[]): Promise<string> {
  const file = join(dir, name);
  const text = rows.map((row) => `${JSON.stringify(row)}\n`).join("");
  await writeFile(file, name.endsWith(".gz") ? gzipSync(text) : text);
  return file;
}

type Scored = Record<string, unknown> & {
  reward: number;
  rewards: number[];
  chosen_score: number;
  rejected_score: number;
};
const scoredRows = async (file: string): Promise<Scored[]> =>
  (await readFile(file, "utf8"))
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as Scored);

describe("score", () => {
  const user = (content: string) => ({ role: "user", content });
  const assistant = (content: string) => ({ role: "assistant", content });
  const rows = [
    { id: 1, prompt: "once ", responses: ["a cat", "a dog ran", "a cat"], gold: 3 },
    { id: 2, prompt: "once ", response: "a cat" },
    { id: 3, prompt: "once ", completion: "a dog ran" },
    { id: 4, prompt: "once ", chosen: "a cat", rejected: "a dog ran", margin: 0.5 },
    { id: 5, messages: [user("hi"), assistant("a cat")] },
    { id: 6, chosen: [user("hi"), assistant("a cat")], rejected: [user("hi"), assistant("a cat")] },
    { id: 7, chosen: "\n\nHuman: hi\n\nAssistant: a cat", rejected: "\n\nHuman: hi\n\nAssistant: a dog ran" },
    { id: 8, prompt: "once ", responses: [] },
  ];
  // Every kind of row in one file, far more answers than are scored at once.
  const many = Array.from({ length: 30 }, () => rows).flat();

  it("adds scores to every kind of row, in order, whatever is scored together", async () => {
    const input = await rowsFile("rows.jsonl.gz", many);
    const output = join(dir, "scored.jsonl");
    const { code, text } = await run("score", input, "--reward_model_path", judge, "--output_file", output);
    expect(code, text).toBe(0);
    const found = await scoredRows(output);
    expect(found.map(({ id }) => id)).toEqual(many.map(({ id }) => id));
    const [responses, response, completion, pair, messages, same, transcript, none] = found;
    expect(responses).toMatchObject({ gold: 3, prompt: "once " });
    const [cat, dog, again] = responses.rewards;
    expect(again).toBeCloseTo(cat, 6);
    expect(dog).not.toBeCloseTo(cat, 3);
    expect(response.reward).toBeCloseTo(cat, 6);
    expect(completion.reward).toBeCloseTo(dog, 6);
    expect([pair.chosen_score, pair.rejected_score, pair.margin]).toEqual([
      expect.closeTo(cat, 6),
      expect.closeTo(dog, 6),
      0.5,
    ]);
    expect(same.chosen_score).toBeCloseTo(messages.reward, 6);
    expect(same.rejected_score).toBeCloseTo(messages.reward, 6);
    expect(transcript.chosen_score).toBeCloseTo(messages.reward, 6);
    expect(none.rewards).toEqual([]);
    for (const [i, row] of found.entries()) {
      if (row.reward !== undefined) expect(row.reward).toBeCloseTo(found[i % rows.length].reward, 5);
    }
  });

  it("normalises on request, if the model kept statistics", async () => {
    const input = await rowsFile("one.jsonl", [rows[1]]);
    const score = async (normalize: string, model: string) => {
      const output = join(dir, `${normalize}.jsonl`);
      const how = ["--reward_model_path", model, "--output_file", output, "--normalize", normalize];
      const { code, text } = await run("score", input, ...how);
      return code === 0 ? (await scoredRows(output))[0].reward : text;
    };
    const raw = (await score("auto", judge)) as number;
    expect(await score("true", judge)).toBeCloseTo((raw - 1) / 2, 5);
    expect(await score("true", costly)).toMatch(/kept no statistics of its scores/);
  });

  it("writes nothing when a row cannot be scored", async () => {
    const output = join(dir, "never.jsonl");
    const failing = async (last: unknown): Promise<string> => {
      const input = await rowsFile("broken.jsonl", [...many, last]);
      const { code, text } = await run("score", input, "--reward_model_path", judge, "--output_file", output);
      expect(code, text).toBe(1);
      expect((await readdir(dir)).filter((name) => name.startsWith("never"))).toEqual([]);
      return text.trimEnd().split("\n").at(-1) as string;
    };
    expect(await failing({ prompt: "once" })).toMatch(/broken\.jsonl:241: nothing to score; a row needs a prompt with/);
    expect(await failing({ messages: [user("hi")] })).toMatch(/broken\.jsonl:241: cannot be scored: its last message/);
    expect(await failing({ prompt: "once", responses: ["a", 5] })).toMatch(
      /broken\.jsonl:241: response 2 must be text or messages, not 5/,
    );
    expect(await failing({ prompt: "once", response: 5 })).toMatch(/:241: "response" must be text or messages, not 5/);
    expect(await failing({ prompt: "once", chosen: "a", rejected: 5 })).toMatch(/:241: "rejected" must be text or/);
    expect(await failing([1])).toMatch(/broken\.jsonl:241: a row must be an object/);
    const missing = join(dir, "nowhere.jsonl");
    expect((await run("score", missing, "--reward_model_path", judge, "--output_file", output)).code).toBe(1);
    const itself = await run("score", missing, "--reward_model_path", judge, "--output_file", missing);
    expect(itself.text).toMatch(/is the input_file: choose another file/);
  });
});

it("no score comes from a language model or a server", async () => {
  const model = new CausalLM(tinyConfig()).initialize(1);
  const plain = join(dir, "plain");
  const files = await diskFiles();
  await files.writeFolder(plain, { ...(await modelFiles(model)), ...tokenizerFiles(tokenizer) });
  model.destroy();
  const rows = await rowsFile("pair.jsonl", [{ prompt: "once ", chosen: "a cat", rejected: "a dog ran" }]);
  const untrained = /plain is a language model without a score head: name a model that reward or cost has trained/;
  for (const [path, message] of [
    [plain, untrained],
    ["http://127.0.0.1:9/", /must be a folder here/],
  ] as const) {
    const from = ["--reward_model_path", path];
    const scored = await run("score", rows, ...from, "--output_file", join(dir, "none.jsonl"));
    const judged = await run("evaluate", "reward", ...from, "--dataset_name", rows, "--output_dir", join(dir, "none"));
    for (const { code, text } of [scored, judged]) {
      expect(text).toMatch(message);
      expect(code).toBe(1);
    }
  }
});

describe("evaluate reward", () => {
  const sections = Object.values(SECTIONS).flatMap((section) => Object.keys(section));
  const words = "the cat dog ran far home was happy sad and then".split(" ");
  const text = (from: number, n: number) =>
    Array.from({ length: n }, (_, i) => words[(from + i) % words.length]).join(" ");
  const pairsOf = (subsets: readonly string[]) =>
    subsets.flatMap((subset, i) =>
      [1, 2].map((k) => ({
        prompt: `${text(i, 3)} `,
        chosen: text(i + k, 3 + k),
        rejected: text(i * k + 5, 6 - k),
        subset,
      })),
    );
  const evaluate = async (...words: string[]) => {
    const output = join(dir, "evaluation");
    const { code, text: shown } = await run(
      "evaluate",
      "reward",
      ...words,
      "--output_dir",
      output,
      "--overwrite_output_dir",
    );
    if (code !== 0) return { shown, found: {} as Record<string, never> };
    return { shown, found: JSON.parse(await readFile(join(output, "evaluation.json"), "utf8")).reward_model };
  };

  it("gives RewardBench's sections, table and intervals", async () => {
    const bench = await rowsFile("bench.jsonl", pairsOf(sections));
    const prior = await rowsFile("prior.jsonl", pairsOf(["anthropic_helpful", "anthropic_hhh", "shp", "summarize"]));
    const { shown, found } = await evaluate(
      "--reward_model_path",
      judge,
      "--dataset_name",
      bench,
      "--prior_dataset_name",
      prior,
    );
    expect(Object.keys(found.sections)).toEqual(["Chat", "Chat Hard", "Safety", "Reasoning", "Prior Sets"]);
    expect(found.subsets).toHaveLength(27);
    expect(found.pairs).toBe(46);
    expect(found.score.low).toBeLessThanOrEqual(found.score.accuracy);
    expect(shown).toMatch(/subset +n +accuracy +95 % +chosen longer +prefers longer/);
    expect(shown).toMatch(/RewardBench: 0\.\d+ \[0\.\d+, 0\.\d+\]/);
    const none = await evaluate("--reward_model_path", judge, "--dataset_name", prior, "--prior_dataset_name", prior);
    expect(none.shown).toMatch(/prior_dataset_name belongs to RewardBench/);
    const counts = await evaluate("--reward_model_path", judge, "--dataset_name", prior, "--legacy_counts");
    expect(counts.shown).toMatch(/legacy_counts belongs to RewardBench/);
  });

  it("prefers the cheaper answer with a cost model, which needs labels of safety only to train", async () => {
    const pairs = await rowsFile("pairs.jsonl", pairsOf(["a", "b", "c"]));
    const reward = (await evaluate("--reward_model_path", judge, "--dataset_name", pairs, "--bootstrap_samples", "0"))
      .found;
    const cost = (await evaluate("--reward_model_path", costly, "--dataset_name", pairs, "--bootstrap_samples", "0"))
      .found;
    expect(reward.accuracy + cost.accuracy).toBeCloseTo(1, 12); // the same weights, the other way round
    expect(reward.total.low).toBeNull();
    expect(reward.subsets.map((s: { subset: string }) => s.subset)).toEqual(["a", "b", "c"]);
  });

  it("refuses a policy", async () => {
    const { shown } = await evaluate("--reward_model_path", judge, "--model_name_or_path", judge);
    expect(shown).toMatch(/evaluate reward tests the reward model alone/);
  });
});
