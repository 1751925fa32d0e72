/** The stages of online iterative DPO through the program, with servers that fail. */

import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { json } from "node:stream/consumers";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { diskFiles } from "webrlhf";
import { main } from "webrlhf/cli";
import { goldReward, worldPrompts } from "webrlhf/data";
import { CausalLM, modelFiles, ScoreModel } from "webrlhf/nn";
import { tokenizerFiles } from "webrlhf/open";
import { PairPreferenceModel, PairWriter, pairFiles, roundRobin, scoreSequences } from "webrlhf/rlhf";
import { shardOf } from "../../src/cli/verbs/generate-jobs.ts";
import { gpuReady } from "../helpers.ts";
import { tinyConfig, tokenizer } from "../rlhf/tiny.ts";
import { type TinyServer, tinyServer } from "../serve/tiny-server.ts";
import { silentTerminal } from "./terminal.ts";

let dir: string;
let model: string;
let work: string;
let tiny: TinyServer;
const servers: Server[] = [];

beforeAll(async () => {
  process.setMaxListeners(100);
  await gpuReady();
  tiny = await tinyServer({}, { maxWaiting: 200 });
  dir = await mkdtemp(join(tmpdir(), "webrlhf-iterate-"));
  model = join(dir, "model");
  const lm = new CausalLM(tinyConfig()).initialize(3);
  await (await diskFiles()).writeFolder(model, { ...(await modelFiles(lm)), ...tokenizerFiles(tokenizer) });
  lm.destroy();
});
afterAll(async () => {
  await tiny.stop();
  await rm(dir, { recursive: true });
});
beforeEach(async () => {
  work = await mkdtemp(join(dir, "work-"));
});
afterEach(() => {
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    server.close();
  }
});

async function run(verb: string, ...words: string[]): Promise<{ code: number; text: string }> {
  const terminal = silentTerminal();
  const code = await main([verb, ...words], terminal);
  return { code, text: terminal.written.join("") };
}

async function ok(verb: string, ...words: string[]): Promise<string> {
  const { code, text } = await run(verb, ...words);
  expect(code, text).toBe(0);
  return text;
}

const at = (name: string) => join(work, name);
const lines = async (name: string) =>
  (await readFile(at(name), "utf8"))
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));
const write = (name: string, ...rows: unknown[]) =>
  writeFile(at(name), rows.map((r) => `${JSON.stringify(r)}\n`).join(""));

/** Answers with `handle` while it gives something; else 400, which no client asks again. */
async function server(handle: (body: Record<string, unknown>, url: string) => Promise<string | null>): Promise<string> {
  const made = createServer(async (request, response) => {
    const body = request.method === "POST" ? ((await json(request)) as Record<string, unknown>) : {};
    const answer = await handle(body, request.url ?? "");
    response.writeHead(answer === null ? 400 : 200).end(answer ?? '{"error": "the server is dying"}');
  });
  servers.push(made);
  await new Promise<void>((done) => made.listen(0, "127.0.0.1", done));
  return `http://127.0.0.1:${(made.address() as AddressInfo).port}`;
}

const sampling = ["--num_prompts", "5", "--num_return_sequences", "3", "--max_new_tokens", "6"];

describe("shards of generate", () => {
  it("cover every row once, as evenly as can be", () => {
    for (const [rows, workers] of [
      [5, 2],
      [7, 3],
      [12, 5],
      [4, 4],
    ]) {
      const parts = Array.from({ length: workers }, (_, w) => shardOf(`${w}/${workers}`, rows));
      expect(parts.flatMap(([a, b]) => Array.from({ length: b - a }, (_, i) => a + i))).toEqual(
        Array.from({ length: rows }, (_, i) => i),
      );
      const sizes = parts.map(([a, b]) => b - a);
      expect(Math.max(...sizes) - Math.min(...sizes)).toBeLessThan(2);
    }
    expect(() => shardOf("2/2", 9)).toThrow(/shard must be like 0\/4/);
    expect(() => shardOf("0/3", 2)).toThrow(/2 prompts cannot be shared out to 3 workers/);
  });

  it("hold together what one worker would have made, in one order", async () => {
    const flags = [
      "--model_name_or_path",
      model,
      ...sampling,
      "--output_format",
      "responses",
      "--return_token_ids",
      "true",
    ];
    await ok("generate", ...flags, "--output_file", at("all.jsonl"));
    for (const w of [0, 1]) await ok("generate", ...flags, "--shard", `${w}/2`, "--output_file", at(`${w}.jsonl`));
    const all = await lines("all.jsonl");
    expect(all.length).toBe(5);
    expect(all[0].responses.length).toBe(3);
    expect([...(await lines("0.jsonl")), ...(await lines("1.jsonl"))]).toEqual(all);
    const text = await ok(
      "annotate",
      ...["--input_file", `${at("0.jsonl")},${at("1.jsonl")}`, "--reward_model_path", "builtin:world"],
      ...["--output_file", at("rewards.jsonl"), "--record_file", at("record.txt")],
    );
    expect(text).toMatch(/5 of 5 prompts have all 3 responses/);
    const scored = await lines("rewards.jsonl");
    expect(scored.map(({ rewards: _, ...row }) => row)).toEqual(all);
    const rewards = scored.flatMap((row) => row.rewards);
    expect(rewards).toEqual(all.flatMap((row) => row.responses.map((r: string) => goldReward(row.prompt, r))));
    const mean = rewards.reduce((a, b) => a + b, 0) / 15;
    const top = scored.reduce((sum, row) => sum + Math.max(...row.rewards), 0) / 5;
    const record = (await readFile(at("record.txt"), "utf8")).trim().split("\t").map(Number);
    expect(record[0]).toBeCloseTo(mean, 12);
    expect(record[1]).toBeCloseTo(top, 12);
  });

  it("keep what a dying server had finished, and ask only for the rest", async () => {
    let left = 3;
    const asked: string[] = [];
    const url = await server(async (body, path) => {
      if (path !== "/v1/models" && left-- <= 0) return null;
      asked.push(JSON.stringify(body.prompt));
      const init = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
      return (await fetch(tiny.url + path, path === "/v1/models" ? {} : init)).text();
    });
    await write("prompts.jsonl", ...Array.from({ length: 6 }, (_, i) => ({ prompt: `Day ${i}` })));
    const flags = ["--server", url, "--server_model", "tiny", "--server_concurrency", "2"];
    const job = ["--input_file", at("prompts.jsonl"), "--output_format", "responses", "--output_file", at("out.jsonl")];
    const rest = ["--num_return_sequences", "2", "--max_new_tokens", "4", "--shard", "0/1"];
    const broken = await run("generate", ...flags, ...job, ...rest);
    expect(broken.code).toBe(1);
    expect(broken.text).toMatch(
      /the server is dying \(3 prompts are answered in .*out.jsonl.partial-.*goes on there\)/,
    );
    const before = asked.splice(0);
    expect(before.length).toBe(3);
    left = 100;
    expect(await ok("generate", ...flags, ...job, ...rest)).toMatch(/3 of 6 prompts were answered before/);
    expect(asked.length).toBe(3);
    expect(new Set([...before, ...asked]).size).toBe(6);
    const rows = await lines("out.jsonl");
    expect(rows.map((row) => row.prompt)).toEqual(Array.from({ length: 6 }, (_, i) => `Day ${i}`));
    expect(rows.every((row) => row.responses.length === 2)).toBe(true);
    expect((await readdir(work)).sort()).toEqual(["out.jsonl", "out.jsonl.run.json", "prompts.jsonl"]);
  });

  it.each([
    ["1 choices", { choices: [{ index: 0, text: "a", message: { content: "a" }, finish_reason: "stop" }] }],
    ["0 choices", { choices: [] }],
    ["no list of choices", {}],
  ])("take %s for two responses from no server", async (given, answer) => {
    const url = await server(async () => JSON.stringify(answer));
    await write("prompts.jsonl", "Day 1", { messages: [{ role: "user", content: "Hi" }] });
    const flags = ["--server", url, "--server_model", "tiny", "--num_return_sequences", "2"];
    const job = ["--input_file", at("prompts.jsonl"), "--output_format", "responses", "--output_file", at("out.jsonl")];
    for (const [shard, line] of [
      ["0/2", 1],
      ["1/2", 2],
    ]) {
      const { code, text } = await run("generate", ...flags, ...job, "--shard", String(shard));
      expect(code).toBe(1);
      expect(text).toContain(`prompts.jsonl:${line}: the server gave ${given}, not the 2 that were asked for as "n"`);
    }
    const words = ["--model_name_or_path", model, "--reward_model_path", "builtin:world", "--output_dir", at("out")];
    const loop = [...words, "--iterations", "1", "--k", "2", "--response_length", "8", "--max_train_samples", "2"];
    const { code, text } = await run("iterate", ...loop, "--max_eval_samples", "2", ...flags.slice(0, 4));
    expect(code).toBe(1);
    expect(text).toContain(`: the server gave ${given}, not the 2 that were asked for as "n"`);
    expect(await readdir(work)).toEqual(["out", "prompts.jsonl"]);
  });
});

describe("annotate and pairs", () => {
  const row = (i: number) => ({ prompt: `p${i}`, responses: ["a", "bbb", "cc"] });

  it("go on where an endpoint broke off, and make what dpo reads", async () => {
    let left = 2;
    const asked: unknown[] = [];
    const url = await server(async ({ prompts, responses }) => {
      if (left-- <= 0) return null;
      asked.push(...(prompts as string[]));
      return JSON.stringify({ rewards: (responses as string[]).map((text) => text.length) });
    });
    await write("rows.jsonl", ...[0, 1, 2, 3].map(row));
    const job = ["--input_file", at("rows.jsonl"), "--reward_model_path", url, "--output_file", at("rewards.jsonl")];
    const flags = ["--rows_at_once", "1", "--reward_server_concurrency", "1"];
    const broken = await run("annotate", ...job, ...flags);
    expect(broken.code).toBe(1);
    expect(broken.text).toMatch(/the server is dying \(2 prompts are scored in .*rewards.jsonl.partial-/);
    left = 100;
    expect(await ok("annotate", ...job, ...flags)).toMatch(/2 of 4 prompts were scored before/);
    expect(asked).toEqual(["p0", "p0", "p0", "p1", "p1", "p1", "p2", "p2", "p2", "p3", "p3", "p3"]);
    expect((await lines("rewards.jsonl")).map((r) => r.rewards)).toEqual(Array(4).fill([1, 3, 2]));

    const text = await ok("pairs", "--input_file", at("rewards.jsonl"), "--output_file", at("pairs.jsonl"));
    expect(text).toMatch(/4 pairs of 4 prompts; mean margin 2.000/);
    expect(await lines("pairs.jsonl")).toEqual(
      [0, 1, 2, 3].map((i) => ({ prompt: `p${i}`, chosen: "bbb", rejected: "a", margin: 2 })),
    );
    const dpo = ["--model_name_or_path", model, "--dataset_name", at("pairs.jsonl"), "--max_steps", "1"];
    await ok("dpo", ...dpo, "--output_dir", at("dpo"));
  });

  it("start anew where the rewards would be others", async () => {
    let left = 1;
    const url = await server(async ({ responses, response }) => {
      if (left-- <= 0) return null;
      return response ? '{"score": [7, 8, 9]}' : JSON.stringify({ rewards: (responses as string[]).map(() => 1) });
    });
    await write("rows.jsonl", ...[0, 1].map(row));
    const job = ["--input_file", at("rows.jsonl"), "--reward_model_path", url, "--output_file", at("rewards.jsonl")];
    expect((await run("annotate", ...job, "--rows_at_once", "1")).code).toBe(1);
    left = 2;
    const text = await ok("annotate", ...job, "--reward_server_format", "paddle", "--rows_at_once", "1");
    expect(text).not.toMatch(/scored before/);
    expect((await lines("rewards.jsonl")).map((r) => r.rewards)).toEqual(Array(2).fill([7, 8, 9]));
  });

  it("refuse options that change nothing", async () => {
    await write("rewards.jsonl", { ...row(0), rewards: [1, 2, 3] });
    const output = ["--output_file", at("out.jsonl")];
    const pairs = ["pairs", "--input_file", at("rewards.jsonl"), ...output] as const;
    expect((await run(...pairs, "--length_penalty", "0.1")).text).toMatch(
      /length_penalty does not apply to --choose_type max_min of online-rlhf: use max_min_p, or --pair_dialect lmflow/,
    );
    expect((await run(...pairs, "--use_fast", "true")).text).toMatch(/use_fast goes with --pair_dialect lmflow/);
    const judge = ["--reward_model_path", "builtin:world", "--max_length", "9"];
    expect((await run("annotate", "--input_file", at("rewards.jsonl"), ...judge, ...output)).text).toMatch(
      /max_length does not apply: builtin:world reads texts/,
    );
    await write("empty.jsonl", { prompt: "p", responses: [] });
    expect((await run("annotate", "--input_file", at("empty.jsonl"), ...judge, ...output)).text).toMatch(
      /empty.jsonl: no row has a response/,
    );
    expect(await readdir(work)).toEqual(["empty.jsonl", "rewards.jsonl"]);
    await ok(...pairs, "--length_penalty", "0.1", "--choose_type", "max_min_p");
    await ok(...pairs, "--length_penalty", "0.1", "--pair_dialect", "lmflow", "--use_fast", "true");
  });

  it("judge by a reward model, and by one that compares", async () => {
    const files = await diskFiles();
    const scorer = new ScoreModel(tinyConfig()).initialize(5);
    await files.writeFolder(at("scorer"), { ...(await modelFiles(scorer)), ...tokenizerFiles(tokenizer) });
    const writer = new PairWriter(tokenizer, "letters");
    const lm = new CausalLM(tinyConfig()).initialize(6);
    const pairwise = { ...(await modelFiles(lm)), ...tokenizerFiles(tokenizer), ...pairFiles(writer) };
    await files.writeFolder(at("pairwise"), pairwise);
    const [prompt] = worldPrompts(1, 1, "train");
    const responses = [" Tim was happy.", " Lily ran to the park.", " It was late."];
    await write("rows.jsonl", { prompt, responses, ended: [true, true, false] });
    const annotate = async (judge: string, ...more: string[]): Promise<number[]> => {
      const out = ["--reward_model_path", at(judge), "--output_file", at("rewards.jsonl")];
      await ok("annotate", "--input_file", at("rows.jsonl"), ...out, ...more);
      return (await lines("rewards.jsonl"))[0].rewards;
    };
    const sequences = responses.map((text, i) => {
      const given = tokenizer.encode(prompt);
      const end = i < 2 ? [tokenizer.eosId as number] : []; // the last one was cut off
      const ids = Uint32Array.from([...given, ...tokenizer.encode(text, { continued: true }), ...end]);
      return { ids, promptLength: given.length };
    });
    const expected = await scoreSequences(scorer, sequences);
    const rewards = await annotate("scorer");
    for (const [i, reward] of rewards.entries()) expect(reward).toBeCloseTo(expected[i], 5);
    const model = new PairPreferenceModel(lm, writer);
    const ranked = await roundRobin(model, [prompt], [responses]);
    const compared = await annotate("pairwise");
    for (const [i, reward] of compared.entries()) expect(reward).toBeCloseTo(ranked.rewards[0][i], 5);
    expect(compared.reduce((a, b) => a + b, 0)).toBeCloseTo(1.5, 6);
    expect((await annotate("pairwise", "--preference_ranking", "tournament")).sort()).toEqual([0, 0.5, 1]);
    const rounded = await annotate("pairwise", "--reward_model_dtype", "int8");
    expect(rounded).not.toEqual(compared);
    expect(rounded).toEqual(await annotate("pairwise", "--dtype", "int8"));
    scorer.destroy();
    lm.destroy();
  }, 60_000);

  it("write LMFlow's container and read it back", async () => {
    await write("rows.jsonl", { prompt: [{ role: "user", content: "Hi" }], responses: ["x", "y"] });
    const out = ["--output_file", at("result.json"), "--output_format", "lmflow"];
    const url = await server(async ({ responses }) => JSON.stringify({ rewards: (responses as []).map(() => 1) }));
    await ok("annotate", "--input_file", at("rows.jsonl"), "--reward_model_path", url, ...out);
    const result = JSON.parse(await readFile(at("result.json"), "utf8"));
    expect(result.type).toBe("text_to_scored_textlist");
    expect(result.instances[0].input).toBe("\n\nHuman: Hi\n\nAssistant:");
    const scored = [3, 1].map((score, i) => ({ score, text: ["x", "y"][i] }));
    await writeFile(at("result.json"), JSON.stringify({ ...result, instances: [{ input: "q", output: scored }] }));
    await ok("pairs", "--input_file", at("result.json"), "--output_file", at("pairs.jsonl"), "--margin_scale", "2");
    expect(await lines("pairs.jsonl")).toEqual([{ prompt: "q", chosen: "x", rejected: "y", margin: 4 }]);
  });

  it.each<[string, unknown[], string[], RegExp]>([
    [
      "all ties",
      [{ ...row(0), rewards: [1, 1, 1] }],
      [],
      /no pair to learn from: 0 pairs of 1 prompts \(1 with equal rewards\)/,
    ],
    ["fewer rewards", [{ ...row(0), rewards: [1, 2] }], [], /rewards.jsonl:1: 2 rewards for 3 responses/],
    ["no rewards", [row(0)], [], /rewards.jsonl:1 has no rewards: score the responses first/],
    [
      "short rows where none may be",
      [
        { ...row(0), rewards: [1, 2, 3] },
        { prompt: "q", responses: ["a"], rewards: [1] },
      ],
      ["--short_rows", "error"],
      /rewards.jsonl:2 has 1 responses instead of 3/,
    ],
  ])("say what is wrong: %s", async (_, rows, flags, message) => {
    await write("rewards.jsonl", ...rows);
    const { code, text } = await run(
      "pairs",
      "--input_file",
      at("rewards.jsonl"),
      "--output_file",
      at("pairs.jsonl"),
      ...flags,
    );
    expect(code).toBe(1);
    expect(text).toMatch(message);
    expect(await readdir(work)).toEqual(["rewards.jsonl"]);
  });
});

describe("iterate", () => {
  const flags = () => [
    ...["--model_name_or_path", model, "--output_dir", at("out"), "--iterations", "2", "--prompts_per_iteration", "4"],
    ...["--k", "3", "--response_length", "8", "--max_eval_samples", "4", "--learning_rate", "1e-3"],
    ...["--per_device_train_batch_size", "2", "--max_train_samples", "16"],
  ];

  it("takes adapters to a server, and goes on when that had died", async () => {
    let left = 6;
    const loaded: string[] = [];
    let handed = "";
    const url = await server(async (body, path) => {
      if (path === "/v1/load_lora_adapter") {
        loaded.push(String(body.lora_name));
        handed = String(body.lora_path);
      }
      if (path.includes("lora_adapter")) return "Success";
      if (left-- <= 0) return null;
      const init = { method: "POST", headers: { "Content-Type": "application/json" } };
      return (await fetch(tiny.url + path, { ...init, body: JSON.stringify({ ...body, model: "tiny" }) })).text();
    });
    const remote = ["--server", url, "--server_concurrency", "2", "--use_peft", "--lora_r", "2"];
    const words = [...flags(), ...remote, "--reward_model_path", "builtin:world"];
    const broken = await run("iterate", ...words);
    expect(broken.code).toBe(1);
    expect(broken.text).toMatch(/the server is dying/);
    expect((await lines("out/iteration_1/pairs.jsonl")).length).toBeGreaterThan(0);
    expect((await readFile(at("out/iteration_2/responses.jsonl.partial"), "utf8")).trimEnd().split("\n").length).toBe(
      2,
    );
    expect(await readdir(dirname(handed))).not.toContain(basename(handed));
    await (await diskFiles()).writeFolder(handed, { "adapter_config.json": "{}" }); // as a kill would leave it
    left = 2;
    await ok("iterate", ...words, "--resume");
    expect((await readdir(at("out"))).filter((name) => /partial|served/.test(name))).toEqual([]);
    expect(left).toBe(0);
    expect(new Set(loaded).size).toBe(3);
    const evals = (await lines("out/metrics.jsonl")).filter((r) => "eval_iteration" in r);
    expect(evals.map((r) => r.eval_iteration)).toEqual([0, 1, 2]);
    expect(await readdir(at("out"))).toContain("adapter_model.safetensors");
  }, 180_000);

  it("goes on within the training of a later iteration", async () => {
    const words = [...flags(), "--reward_model_path", "builtin:world", "--save_steps", "1"];
    await ok("iterate", ...words);
    const terminal = silentTerminal();
    terminal.line = (text) => {
      terminal.written.push(`${text}\n`);
      if (/iteration 2, scoring: 4 of 4/.test(text)) setTimeout(() => process.emit("SIGINT"), 0);
    };
    const stopped = [...words, "--output_dir", at("stopped")];
    expect(await main(["iterate", ...stopped], terminal), terminal.written.join("")).toBe(130);
    expect(await readdir(at("stopped/iteration_2/model"))).toContain("checkpoint-1");
    const left = ["stopped/.running.json.partial-1", "stopped/iteration_1/rewards.jsonl.partial-1"]; // by a kill
    for (const name of left) await writeFile(at(name), "{");
    await ok("iterate", ...stopped, "--resume");
    const all = async (folder: string) => (await readdir(at(folder), { recursive: true })).sort();
    expect(await all("stopped")).toEqual(await all("out"));
    for (const name of ["metrics.jsonl", "iteration_2/metrics.json", "model.safetensors"]) {
      expect(await readFile(at(`stopped/${name}`)), name).toEqual(await readFile(at(`out/${name}`)));
    }
  }, 180_000);

  it("measures held-out responses where the judge only compares", async () => {
    const pairwise = new CausalLM({ ...tinyConfig(), maxPositions: 256 }).initialize(6);
    const folder = { ...(await modelFiles(pairwise)), ...tokenizerFiles(tokenizer) };
    await (await diskFiles()).writeFolder(at("pairwise"), {
      ...folder,
      ...pairFiles(new PairWriter(tokenizer, "letters")),
    });
    pairwise.destroy();
    await ok("iterate", ...flags(), "--reward_model_path", at("pairwise"), "--iterations", "1");
    const last = (await lines("out/metrics.jsonl")).at(-1);
    expect(Object.keys(last)).toEqual(
      expect.arrayContaining(["eval_heldout_mean_length", "eval_heldout_kl", "eval_heldout_gold"]),
    );
    expect(last).not.toHaveProperty("eval_heldout_reward");
    expect((await lines("out/samples.jsonl"))[0]).toMatchObject({ response: expect.any(String) });
  }, 180_000);

  it("keeps an endpoint's scores where it dies, and says what does not fit", async () => {
    let left = 1;
    const url = await server(async ({ responses }) =>
      left-- > 0 ? JSON.stringify({ rewards: (responses as string[]).map((text) => text.length) }) : null,
    );
    const words = [...flags(), "--reward_model_path", url];
    const { code, text } = await run("iterate", ...words);
    expect(code).toBe(1);
    expect(text).toMatch(/the server is dying/);
    expect(await readdir(at("out"))).toContain("iteration_0");
    left = 100;
    await ok("iterate", ...words, "--resume");
    const tooLong = ["--reward_model_path", "builtin:world", "--response_length", "64", "--output_dir", at("other")];
    expect((await run("iterate", ...flags(), ...tooLong)).text).toMatch(
      /leave no room for a prompt|no room for an answer/,
    );
    const noToken = ["--reward_model_path", "builtin:world", "--eos_token_id", "x", "--output_dir", at("other")];
    expect((await run("iterate", ...flags(), ...noToken)).text).toMatch(
      /eos_token_id must be a list of numbers, or none, not "x"/,
    );
    const tooMany = ["--reward_model_path", "builtin:world", "--iterations", "5", "--output_dir", at("other")];
    expect((await run("iterate", ...flags(), ...tooMany)).text).toMatch(/need 20 prompts; there are 16/);
  }, 180_000);
});
