import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { gzipSync } from "node:zlib";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { main } from "webrlhf/cli";
import { registerDataset } from "webrlhf/data";
import { parseRecipe, resolveRecipe } from "webrlhf/open";
import { dataVerb } from "../../src/cli/verbs/data.ts";
import { hashStage } from "../../src/cli/verbs/run.ts";
import { silentTerminal } from "./terminal.ts";

const before = { cache: process.env.HF_HUB_CACHE, offline: process.env.HF_HUB_OFFLINE };
let dir: string;
let out: string;

beforeAll(() => process.setMaxListeners(100)); // every run of the program listens for Ctrl-C
afterAll(() => {
  for (const [name, value] of [
    ["HF_HUB_CACHE", before.cache],
    ["HF_HUB_OFFLINE", before.offline],
  ] as const) {
    if (value === undefined) delete process.env[name];
    else process.env[name] = value;
  }
});
beforeEach(async () => {
  dir = await mkdtemp(path.join(tmpdir(), "webrlhf-data-"));
  out = path.join(dir, "out");
  process.env.HF_HUB_CACHE = path.join(dir, "hub");
  process.env.HF_HUB_OFFLINE = "1";
});
afterEach(() => rm(dir, { recursive: true, force: true }));

async function run(...words: string[]): Promise<{ code: number; results: string; text: string }> {
  const terminal = silentTerminal();
  // Its folders are written again and again.
  const anew = words.includes("--output_dir") ? ["--overwrite_output_dir"] : [];
  const code = await main([...words, ...anew], terminal);
  return { code, results: terminal.results.join("\n"), text: terminal.written.join("") };
}
async function ok(...words: string[]): Promise<string> {
  const { code, results, text } = await run(...words);
  expect(code, text).toBe(0);
  return `${results}\n${text}`;
}
async function failing(...words: string[]): Promise<string> {
  const { code, text } = await run(...words);
  expect(code, text).toBe(1);
  const lines = text.trimEnd().split("\n");
  expect(lines.filter((line) => line.startsWith("error: "))).toHaveLength(1);
  expect(text).not.toMatch(/\n\s+at |defect of webrlhf/);
  expect(await readdir(out).catch(() => [])).toEqual([]);
  return lines.at(-1) as string;
}
async function file(name: string, content: string | Uint8Array | readonly unknown[]): Promise<string> {
  const where = path.join(dir, name);
  await mkdir(path.dirname(where), { recursive: true });
  const isRows = Array.isArray(content);
  await writeFile(where, isRows ? content.map((row) => JSON.stringify(row)).join("\n") : (content as string));
  return where;
}
const lines = async (name: string): Promise<Record<string, unknown>[]> =>
  (await readFile(path.join(out, name), "utf8"))
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));

const pku = (i: number) => ({
  prompt: `How ${i}?`,
  response_0: `So ${i}.`,
  response_1: `Not at all ${i}.`,
  is_response_0_safe: true,
  is_response_1_safe: i % 2 === 0,
  better_response_id: i % 4 === 0 ? 1 : 0,
  safer_response_id: 0,
});
const pkuFile = (n = 20) =>
  file(
    "pku.jsonl",
    Array.from({ length: n }, (_, i) => pku(i)),
  );
const pairs = (n: number, prompt = "p") =>
  Array.from({ length: n }, (_, i) => ({ prompt: `${prompt}${i}`, chosen: " good", rejected: " bad" }));

describe("data list", () => {
  it("shows and writes made-up data as what is asked for", async () => {
    const made = (name: string, consumer: string) =>
      ok(
        "data",
        "prepare",
        "--dataset_name",
        name,
        "--consumer",
        consumer,
        "--max_train_samples",
        "40",
        "--output_dir",
        out,
      );
    const columns = async (name: string, consumer: string) => {
      await made(name, consumer);
      const rows = (await readFile(path.join(out, "train.jsonl"), "utf8")).trimEnd().split("\n");
      expect(rows).toHaveLength(40);
      return Object.keys(JSON.parse(rows[39]));
    };
    expect(await columns("builtin:world", "auto")).toEqual(["prompt", "chosen", "rejected"]);
    expect(await columns("builtin:world", "supervised")).toEqual(["prompt", "completion"]);
    expect(await columns("builtin:domains", "chosen")).toEqual(["prompt", "completion"]);
    expect(await columns("builtin:cycle", "prompt")).toEqual(["prompt"]);
    expect(await ok("data", "describe", "--dataset_name", "builtin:world")).toMatch(/2,?048/);
    const words = ["data", "describe", "--dataset_name", "builtin:world", "--consumer", "safety"];
    expect((await run(...words)).text).toMatch(/builtin:world says nothing of safety/);
  });

  it("shows every name", async () => {
    const text = await ok("data", "list");
    for (const name of ["PKU-SafeRLHF-30K/train", "alpaca ", "mix2-150K-safety", "also stanford-alpaca"]) {
      expect(text).toContain(name);
    }
  });
});

describe("data describe", () => {
  it("counts records, lengths, duplicates and labels", async () => {
    const figures = path.join(dir, "figures.json");
    const text = await ok(
      ...["data", "describe", "--dataset_name", `PKU-SafeRLHF/train:1:${await pkuFile()}`],
      ...["--output_file", figures, "--num_rows", "1", "--tokenizer_name_or_path", "builtin:world"],
    );
    expect(text).toContain("records     20 (preference 20)");
    expect(text).toContain("better: false 5 (25.0 %), true 15 (75.0 %)");
    expect(text).toContain("is_other_safe: false 10 (50.0 %), true 10 (50.0 %)");
    expect(text).toContain("prompt: \\n\\nHuman: How 0?\\n\\nAssistant:");
    const { records, duplicates, longer, characters, tokens } = JSON.parse(await readFile(figures, "utf8"));
    expect({ records, duplicates, longer }).toEqual({
      records: 20,
      duplicates: { prompts: 0, records: 0 },
      longer: { chosen: 5, rejected: 15, equal: 0 },
    });
    expect(characters.prompt).toMatchObject({ min: 27, max: 28 });
    expect(tokens.prompt.max).toBeGreaterThan(5);
  });

  it("says how many rows a rule leaves out", async () => {
    const rows = [1, 3, 4, 2, 5, 6, 7, 8].map((score_ratio, i) => ({
      post_id: i < 7 ? "a" : "b",
      history: "h",
      human_ref_A: "A",
      human_ref_B: "B",
      labels: 1,
      score_ratio,
    }));
    const text = await ok("data", "describe", "--dataset_name", `SHP/train-1:1:${await file("shp.jsonl", rows)}`);
    expect(text).toContain("records     2 ");
    expect(text).toContain(
      "SHP/train-1: 2 records; left out: its score ratio is not above 2 (2); its post has 1 pairs already (4)",
    );
  });

  it("takes a registered name's files from the cache of the hub", async () => {
    const commit = "1".repeat(40);
    const repo = "hub/datasets--Anthropic--hh-rlhf";
    const row = { chosen: "\n\nHuman: q\n\nAssistant: good", rejected: "\n\nHuman: q\n\nAssistant: bad" };
    const bytes = gzipSync(JSON.stringify(row));
    await file(`${repo}/refs/main`, commit);
    for (const subset of ["harmless-base", "helpful-base"]) {
      await file(`${repo}/snapshots/${commit}/${subset}/test.jsonl.gz`, bytes);
    }
    expect(await ok("data", "describe", "--dataset_name", "hh-rlhf/helpful-base/test")).toContain("records     1 ");
    expect(await ok("data", "describe", "--dataset_name", "hh-rlhf/test")).toContain("records     2 ");
    // What is published as .xz comes from the hub's own Parquet conversion, which is another revision.
    const converted = "hub/datasets--PKU-Alignment--PKU-SafeRLHF-30K";
    await file(`${converted}/refs/refs/convert/parquet`, commit);
    await file(`${converted}/snapshots/${commit}/default/train/0000.jsonl`, [pku(1), pku(2), pku(3)]);
    await file(`${converted}/snapshots/${commit}/default/test/0000.jsonl`, [pku(4)]);
    for (const [split, n] of [
      ["train", 3],
      ["test", 1],
      ["train-safer", 3],
    ]) {
      const name = `PKU-SafeRLHF-30K/${split}`;
      expect(await ok("data", "describe", "--dataset_name", name)).toContain(`records     ${n} `);
    }
    await file("xz/train.jsonl.xz", "x");
    expect(await failing("data", "describe", "--dataset_name", path.join(dir, "xz"))).toMatch(
      /train\.jsonl\.xz is of a kind that is not read; known are .*@refs\/convert\/parquet/,
    );
    expect(await failing("data", "describe", "--dataset_name", "alpaca")).toMatch(
      /tatsu-lab\/alpaca: there is no such dataset here, and the network is not to be used/,
    );
  });
});

describe("data prepare", () => {
  it("writes what trainers read, a mixture of anything", async () => {
    const more = await file("more.jsonl", pairs(10));
    const mixture = `PKU-SafeRLHF/train:0.5:${await pkuFile()},mine:15/-1:${more}`;
    await ok("data", "prepare", "--dataset_name", mixture, "--output_dir", out);
    const rows = await lines("train.jsonl");
    expect(rows).toHaveLength(25);
    const own = rows.filter(({ prompt }) => typeof prompt === "string");
    expect(own).toHaveLength(15);
    expect(new Set(own.map(({ prompt }) => prompt)).size).toBe(10);
    const theirs = rows.filter(({ prompt }) => Array.isArray(prompt));
    expect(theirs).toHaveLength(10);
    for (const { prompt, chosen, rejected } of theirs) {
      const i = Number(/\d+/.exec(JSON.stringify(prompt)));
      const answers = [`So ${i}.`, `Not at all ${i}.`].map((content) => [{ role: "assistant", content }]);
      expect(prompt).toEqual([{ role: "user", content: `How ${i}?` }]);
      expect([chosen, rejected]).toEqual(i % 4 === 0 ? answers.reverse() : answers);
    }
    // The first rows are a mixture too.
    expect(new Set(rows.slice(0, 10).map(({ prompt }) => typeof prompt)).size).toBe(2);
    const again = path.join(dir, "again");
    await ok("data", "prepare", "--dataset_name", mixture, "--output_dir", again);
    expect(await readFile(path.join(again, "train.jsonl"), "utf8")).toBe(
      await readFile(path.join(out, "train.jsonl"), "utf8"),
    );
    // What was written can be read again.
    expect(await ok("data", "describe", "--dataset_name", path.join(out, "train.jsonl"))).toContain(
      "records     25 (preference 25)",
    );
  });

  it("splits by prompt, and takes each consumer", async () => {
    const name = `PKU-SafeRLHF/train:1:${await pkuFile()}`;
    await ok(
      "data",
      "prepare",
      "--dataset_name",
      name,
      "--output_dir",
      out,
      "--test_size",
      "0.2",
      "--consumer",
      "safety",
    );
    expect(await lines("train.jsonl")).toHaveLength(16);
    expect(await lines("test.jsonl")).toHaveLength(4);
    expect((await lines("test.jsonl"))[0]).toMatchObject({ chosen_is_safe: true });
    await ok("data", "prepare", "--dataset_name", name, "--output_dir", out, "--consumer", "chosen");
    expect((await lines("train.jsonl"))[0]).toEqual({
      prompt: [{ role: "user", content: "How 0?" }],
      completion: [{ role: "assistant", content: "Not at all 0." }],
    });
    const own = await file("pairs.jsonl", [...pairs(2), { prompt: "p0", chosen: " other", rejected: " bad" }]);
    await ok(
      "data",
      "prepare",
      "--dataset_name",
      own,
      "--output_dir",
      out,
      "--consumer",
      "prompt",
      "--deduplicate",
      "prompt",
    );
    expect(await lines("train.jsonl")).toEqual([{ prompt: "p1" }, { prompt: "p0" }]);
  });

  it("filters, and says what it left out", async () => {
    const rows = [
      { prompt: "short", chosen: " a", rejected: " b" },
      { prompt: "the same prompt", chosen: " first", rejected: " bad" },
      { prompt: "the same prompt", chosen: " last", rejected: " bad" },
      { prompt: "x".repeat(90), chosen: " a", rejected: " b" },
      { prompt: "an empty answer", chosen: " ", rejected: " b" },
      { prompt: "turns in it", chosen: " a\n\nHuman: b", rejected: " b" },
    ];
    const name = await file("rows.jsonl", rows);
    const filters = ["--min_length", "10", "--max_length", "50", "--deduplicate", "prompt", "--valid_pairs"];
    const text = await ok("data", "prepare", "--dataset_name", name, "--output_dir", out, ...filters);
    expect(await lines("train.jsonl")).toEqual([rows[2]]);
    expect(text).toContain(
      "1 of 6 records kept; left out: it is too short (1); it is too long (1); an answer is empty (1); " +
        "an answer holds further turns (1); another one has the same prompt (1)",
    );
    const tokens = ["--tokenizer_name_or_path", "builtin:world", "--max_prompt_tokens", "40"];
    await ok("data", "prepare", "--dataset_name", name, "--output_dir", out, ...tokens);
    expect(await lines("train.jsonl")).toHaveLength(5);
    await rm(out, { recursive: true });
    expect(
      await failing("data", "prepare", "--dataset_name", name, "--output_dir", out, "--min_length", "500"),
    ).toMatch(/the filters leave none of 6 records: it is too short \(6\)/);
    expect(await failing("data", "prepare", "--dataset_name", name, "--max_tokens", "5", "--output_dir", out)).toMatch(
      /pass --tokenizer_name_or_path/,
    );
  });
});

it("valid pairs of conversations take turns and differ in their last message only", async () => {
  const talk = (...contents: string[]) =>
    contents.map((content, i) => ({ role: i % 2 === 0 ? "user" : "assistant", content }));
  const right = { chosen: talk("q", "a", "r", "good"), rejected: talk("q", "a", "r", "bad") };
  const name = await file("talks.jsonl", [
    right,
    { chosen: talk("q", "a", "r", "b"), rejected: talk("q", "x", "r", "b") },
    { chosen: talk("q", "a"), rejected: talk("q", "b", "r", "c") },
  ]);
  const how = ["--tokenizer_name_or_path", "models/world-sft", "--chat_template_path", "builtin:safe-rlhf"];
  const text = await ok("data", "prepare", "--dataset_name", name, "--output_dir", out, "--valid_pairs", ...how);
  expect(await lines("train.jsonl")).toEqual([right]);
  expect(text).toMatch(
    /1 of 3 records kept; left out: the conversations part before their last message \(1\); the conversations differ in length \(1\)/,
  );
});

describe("data convert", () => {
  it("writes LMFlow's folders, which are read as a whole", async () => {
    const hh = { chosen: "\n\nHuman: q\n\nAssistant: good", rejected: "\n\nHuman: q\n\nAssistant: bad" };
    const name = await file("hh.jsonl", [
      hh,
      { ...hh, chosen: "\n\nHuman: r\n\nAssistant: x", rejected: "\n\nHuman: r\n\nAssistant: y" },
    ]);
    await ok("data", "convert", "--dataset_name", name, "--to", "text_only", "--marks", "lmflow", "--output_dir", out);
    const written = JSON.parse(await readFile(path.join(out, "train", "train.json"), "utf8"));
    expect(written).toEqual({
      type: "text_only",
      instances: [{ text: "###Human: q###Assistant: good" }, { text: "###Human: r###Assistant: x" }],
    });
    await writeFile(path.join(out, "train", "more.json"), JSON.stringify(written));
    const folder = path.join(out, "train");
    expect(await ok("data", "describe", "--dataset_name", folder)).toContain("records     4 (text 4)");
    // Back to JSON lines.
    const back = path.join(dir, "back");
    await ok("data", "convert", "--dataset_name", folder, "--output_dir", back);
    expect((await readFile(path.join(back, "train.jsonl"), "utf8")).split("\n")[0]).toBe(
      '{"text":"###Human: q###Assistant: good"}',
    );
    await writeFile(path.join(folder, "other.json"), '{"type":"text2text","instances":[{"input":"a","output":"b"}]}');
    await rm(back, { recursive: true });
    out = back;
    expect(await failing("data", "convert", "--dataset_name", folder, "--output_dir", back)).toMatch(
      /other\.json is text2text, but .*more\.json is text_only: a dataset's files must be of one type/,
    );
  });

  it("refuses options that change nothing", async () => {
    const name = await file("pairs.jsonl", pairs(4));
    const said = (...words: string[]) => failing("data", ...words, "--dataset_name", name);
    expect(await said("prepare", "--to", "text_only")).toMatch(/--to text_only is what convert writes, not prepare/);
    const marks = /--marks lmflow is for what convert writes as text_only, text2text, paired_text_to_text/;
    expect(await said("convert", "--marks", "lmflow")).toMatch(marks);
    expect(await said("convert", "--marks", "lmflow", "--to", "conversation")).toMatch(marks);
    expect(await said("describe", "--marks", "lmflow")).toMatch(marks);
  });

  it("refuses what a record has not", async () => {
    const name = await file("prompts.jsonl", [{ prompt: "a" }]);
    expect(
      await failing("data", "convert", "--dataset_name", name, "--to", "paired_text_to_text", "--output_dir", out),
    ).toMatch(/prompts\.jsonl:1: paired_text_to_text needs a chosen and a rejected answer/);
  });
});

describe("a dataset that is wrong", () => {
  const reward = (name: string, ...words: string[]) =>
    failing(
      "reward",
      "--model_name_or_path",
      "models/world-sft",
      "--dataset_name",
      name,
      "--output_dir",
      out,
      ...words,
    );

  it("lacks a column, or has labels out of range: dataset, row and column are named", async () => {
    const { response_1: _, ...rest } = pku(2);
    const lacking = await file("lacking.jsonl", [pku(1), rest]);
    expect(await reward(`PKU-SafeRLHF/train:1:${lacking}`)).toMatch(
      /error: PKU-SafeRLHF\/train: .*lacking\.jsonl:2: column "response_1" is missing \(found: prompt, response_0/,
    );
    const labels = await file("labels.jsonl", [{ ...pku(1), better_response_id: 2 }]);
    expect(await reward(`PKU-SafeRLHF/train:1:${labels}`)).toMatch(
      /PKU-SafeRLHF\/train: .*labels\.jsonl:1: "better_response_id" is 2, out of range: it must be 0 or 1/,
    );
  });

  it("has ties only", async () => {
    const rows = ["a", "b"].map((response) => ({ prompt: "p", response, helpfulness: 2, correctness: 1 }));
    expect(await reward(`HelpSteer/train:1:${await file("ties.jsonl", rows)}`)).toBe(
      "error: HelpSteer/train: the dataset gives no samples: no two of its answers differ in score (1)",
    );
    const same = await file("same.jsonl", [{ prompt: "p", chosen: "x", rejected: "x" }]);
    expect(await reward(same)).toMatch(/same\.jsonl: none of its 1 rows can be used: both answers are the same \(1\)/);
  });

  it("is a mixture that names one twice, or asks for nothing", async () => {
    const name = await file("pairs.jsonl", pairs(10));
    expect(await reward(`${name},${name}:0.5`)).toMatch(/a mixture names ".*pairs\.jsonl" twice/);
    expect(await reward("alpaca,stanford-alpaca")).toMatch(/names "alpaca" twice/);
    expect(await reward(`${name}:0`)).toMatch(/the mixture ".*pairs\.jsonl:0" asks for nothing/);
    expect(await reward(`${name}:0.01`)).toMatch(/of its 10 samples this proportion takes none/);
    expect(await reward(`${name}:many`)).toMatch(/"many" is no proportion; write a share/);
    expect(await reward(`${name},builtin:world`)).toMatch(/cannot be mixed/);
    expect(await reward(`${name},nobody.jsonl`)).toMatch(/cannot read nobody\.jsonl: no such file/);
    expect(await ok("data", "describe", "--dataset_name", `${name},nobody.jsonl:0`)).toContain("records     10");
  });

  it("says how many rows of a file are left out", async () => {
    const name = await file("some.jsonl", [...pairs(3), { prompt: "p", chosen: "x", rejected: "x" }]);
    expect(await ok("data", "describe", "--dataset_name", name)).toMatch(
      /some\.jsonl: 3 records; left out: both answers are the same \(1\)/,
    );
  });

  it("does not say which answers are safe", async () => {
    const labelled = { ...pairs(1)[0], chosen_is_safe: true, rejected_is_safe: false };
    const name = await file("unlabelled.jsonl", pairs(2));
    const message = /unlabelled\.jsonl:1: it does not say which of its answers are safe: the columns "chosen_is_safe"/;
    expect(await failing("data", "describe", "--dataset_name", name, "--consumer", "safety")).toMatch(message);
    const cost = ["cost", "--model_name_or_path", "models/world-sft", "--output_dir", out];
    expect(await failing(...cost, "--dataset_name", name)).toMatch(message);
    const right = await file("labelled.jsonl", [labelled]);
    expect(await ok("data", "describe", "--dataset_name", right, "--consumer", "safety")).toContain("records     1");
  });

  it("has not what the trainer needs", async () => {
    const rows = [{ instruction: "i", input: "", output: "o" }];
    expect(await reward(`alpaca:1:${await file("alpaca.jsonl", rows)}`)).toMatch(
      /alpaca: .*alpaca\.jsonl:1: preference data needs input, answer, other_answer, better; this sample has no "other_answer", "better"/,
    );
  });

  it("is one part already, of which no split or configuration can be chosen", async () => {
    const name = "PKU-SafeRLHF/train";
    const held = `${name}:1:${await pkuFile()}`;
    expect(await reward(held, "--dataset_test_split", "test")).toMatch(
      /PKU-SafeRLHF\/train is one part of a dataset, "test" cannot be chosen from it/,
    );
    expect(await reward(held, "--dataset_config", "x")).toMatch(/dataset_config is for folders/);
  });

  it("is a map in a config file", async () => {
    const name = await file("pairs.jsonl", pairs(3));
    const config = async (text: string) =>
      file("config.yaml", `output_dir: ${out}\naction: prepare\ndataset_name:\n${text}`);
    await ok(
      "data",
      "--config",
      await config(`  ${name}: 2\n  PKU-SafeRLHF/train: {proportion: 4/-1, path: ${await pkuFile()}}\n`),
    );
    expect(await lines("train.jsonl")).toHaveLength(10);
    await rm(out, { recursive: true });
    expect(await failing("data", "--config", await config(`  ${name}: 0\n`))).toMatch(/asks for nothing/);
    expect(await failing("data", "--config", await config(`  ${name}: {share: 2}\n`))).toMatch(
      /dataset_name in .*config\.yaml line \d+ must be the name of a dataset, or a mixture/,
    );
  });
});

describe("a mixture in a recipe", () => {
  it("is text or a map, and its stage is run again when one of its files changes", async () => {
    const name = await file("pairs.jsonl", pairs(3));
    const recipe = (dataset: unknown) =>
      parseRecipe("r.yaml", {
        name: "r",
        vars: { mine: name },
        stages: [{ name: "data", verb: "data", options: { action: "prepare", dataset_name: dataset } }],
      });
    const stageOf = (dataset: unknown) =>
      resolveRecipe(recipe(dataset), dir, () => dataVerb.settings, ["data"], { outputDir: out }).stages[0];
    // biome-ignore-start lint/suspicious/noTemplateCurlyInString: the reference itself is meant
    const stage = stageOf({ "${vars.mine}": 2, alpaca: { proportion: "1/2", path: "${vars.mine}" } });
    const written = stageOf("${vars.mine}:2,alpaca:1/2:${vars.mine}");
    expect({ ...written, options: null }).toEqual({ ...stage, options: null });
    // biome-ignore-end lint/suspicious/noTemplateCurlyInString: the reference itself is meant
    expect(stage.options.datasetName).toBe(`${name}:2,alpaca:1/2:${name}`);
    const hash = await hashStage(stage, new Map());
    expect(await hashStage(stage, new Map())).toBe(hash);
    await file("pairs.jsonl", pairs(4));
    expect(await hashStage(stage, new Map())).not.toBe(hash);
  });
});

describe("a registered dataset", () => {
  it("serves every kind of trainer's data", async () => {
    registerDataset({
      name: "test/cli",
      items: () => [
        { input: "a", answer: "good", other_answer: "bad", better: true },
        { input: "b", answer: "bad", other_answer: "good", better: false },
        { input: "a", answer: "fine", other_answer: "bad", better: true },
      ],
    });
    const tiny = ["--hidden_size", "16", "--num_hidden_layers", "1", "--num_attention_heads", "2", "--max_steps", "1"];
    const size = ["--per_device_train_batch_size", "2", "--max_position_embeddings", "96"];
    const words = ["--dataset_name", "test/cli", "--tokenizer_name_or_path", "builtin:world", "--output_dir", out];
    const train = async (...more: string[]) => {
      const text = await ok("sft", ...tiny, ...size, ...words, ...more);
      return { text, tokens: Number((await lines("metrics.jsonl"))[0].tokens) };
    };
    // Two sequences, and without the end token one token fewer in each.
    const { tokens } = await train("--append_eos", "false");
    const whole = await train();
    expect(whole.tokens).toBe(tokens + 2);
    // A folder of that name is here as well.
    expect(whole.text).toContain(
      "test/cli means the registered dataset; for the file or folder of that name write ./test/cli",
    );
    const prompts = path.join(dir, "answers.jsonl");
    await ok(
      "generate",
      "--model_name_or_path",
      out,
      "--dataset_name",
      "test/cli",
      "--output_file",
      prompts,
      "--max_new_tokens",
      "2",
    );
    const answered = (await readFile(prompts, "utf8"))
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line).prompt);
    expect(answered).toEqual(["\n\nHuman: b\n\nAssistant:", "\n\nHuman: a\n\nAssistant:"]);
  });
});
