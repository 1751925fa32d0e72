import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { diskFiles } from "webrlhf";
import { main } from "webrlhf/cli";
import { worldPrompts } from "webrlhf/data";
import { CausalLM, modelFiles } from "webrlhf/nn";
import { tokenizerFiles } from "webrlhf/open";
import { gpuReady } from "../helpers.ts";
import { tinyConfig, tokenizer } from "../rlhf/tiny.ts";
import { silentTerminal } from "./terminal.ts";

let dir: string;
beforeAll(async () => {
  process.setMaxListeners(100);
  await gpuReady();
  dir = await mkdtemp(join(tmpdir(), "webrlhf-raft-"));
  const files = await diskFiles();
  const model = new CausalLM(tinyConfig()).initialize(1);
  await files.writeFolder(join(dir, "base"), { ...(await modelFiles(model)), ...tokenizerFiles(tokenizer) });
  model.destroy();
});
afterAll(() => rm(dir, { recursive: true }));

async function webrlhf(...words: string[]): Promise<{ code: number; text: string }> {
  const terminal = silentTerminal();
  const code = await main(words, terminal);
  return { code, text: terminal.written.join("") };
}

const sizes = "--raft_batch_size 4 --top_reward_percentage 0.5 --output_max_length 12 --max_train_samples 8 --seed 3";
function raft(out: string, words = ""): Promise<{ code: number; text: string }> {
  const paths = ["--model_name_or_path", join(dir, "base"), "--reward_model_path", "builtin:world"];
  return webrlhf("raft", ...paths, "--output_dir", out, ...`${sizes} ${words}`.trim().split(/\s+/));
}

const lines = async (path: string) => (await readFile(path, "utf8")).trimEnd().split("\n");
const rows = async (path: string) => (await lines(path)).map((line) => JSON.parse(line) as Record<string, number>);

describe("webrlhf raft", () => {
  it("leaves LMFlow's files, and goes on with them after a stop", async () => {
    const out = join(dir, "whole");
    const options =
      "--num_raft_iteration 3 --save_steps 1 --output_min_length 4 --monitor_threshold 0.2 --learning_rate 1e-2";
    const { code, text } = await raft(out, options);
    expect(code, text).toBe(0);
    const table = await rows(join(out, "raft.jsonl"));
    expect(table.map((row) => row.iteration)).toEqual([0, 1, 2]);
    expect(Object.keys(table[0])).toEqual([
      ..."step iteration mean_reward train_reward n_kept n_discarded distinct_1 distinct_2 mean_length".split(" "),
    ]);
    expect(await lines(join(out, "rewards.txt"))).toEqual(
      table.map((row) => `mean reward: ${row.mean_reward}mean reward in training set: ${row.train_reward}`),
    );
    const curve = await readFile(join(out, "training_reward.svg"), "utf8");
    expect(curve).toMatch(/^<svg .*<\/svg>\n$/s);
    expect(curve).toContain("training set");
    for (const { iteration, n_kept } of table) {
      const set = JSON.parse(await readFile(join(out, `train_set_${iteration}.json`), "utf8"));
      expect(set.type).toBe("text_only");
      expect(set.instances).toHaveLength(n_kept);
    }
    expect((await rows(join(out, "monitor.jsonl"))).every((row) => "frequency_z" in row && "reward_z" in row)).toBe(
      true,
    );

    // A finished run resumes from its last checkpoint and leaves the same.
    const before = await Promise.all(
      ["rewards.txt", "training_reward.svg", "raft.jsonl"].map((f) => lines(join(out, f))),
    );
    expect((await raft(out, `${options} --resume`)).code).toBe(0);
    const after = await Promise.all(
      ["rewards.txt", "training_reward.svg", "raft.jsonl"].map((f) => lines(join(out, f))),
    );
    expect(after).toEqual(before);
    expect((await raft(out, `${options} --num_raft_iteration 4 --resume`)).code).toBe(0);
    const longer = await lines(join(out, "rewards.txt"));
    expect(longer.slice(0, 3)).toEqual(before[0]);
    expect(longer).toHaveLength(4);
  }, 60_000);

  it("puts the reward file where it is told, and warns of a planted text", async () => {
    const out = join(dir, "planted");
    const path = join(dir, "elsewhere", "reward.log");
    const words = "--num_raft_iteration 3 --planted_text e --planted_bonus 50 --dialect corrected --raft_batch_size 16";
    const learning = "--learning_rate 3e-2 --max_train_samples 64 --monitor_threshold 1 --top_reward_percentage 0.25";
    const { code, text } = await raft(out, `${words} ${learning} --output_reward_path ${path}`);
    expect(code, text).toBe(0);
    expect(await lines(path)).toHaveLength(3);
    expect(await readdir(out)).not.toContain("rewards.txt");
    expect(text).toMatch(/warning at step \d: tokens that rise together with the reward: "/);
    const table = await rows(join(out, "raft.jsonl"));
    expect(table[2].mean_reward).toBeGreaterThan(table[0].mean_reward);
  }, 60_000);

  it("discards by rules that are named", async () => {
    const words = "--num_raft_iteration 1 --discard_containing a,e,i,o,u --clean_text lmflow";
    const { code, text } = await raft(join(dir, "discarded"), words);
    expect(code, text).toBe(1); // in the run's only iteration
    const [row] = await rows(join(dir, "discarded", "raft.jsonl"));
    expect(row.n_discarded).toBe(8);
    expect(row).not.toHaveProperty("train_reward");
    expect(await lines(join(dir, "discarded", "rewards.txt"))).toEqual([
      `mean reward: ${row.mean_reward}mean reward in training set: nan`,
    ]);
    expect(text).toContain("warning at step 1: nothing was learned in this step: all 8 responses were discarded");
    expect(text).toContain("error: nothing was learned in any of 1 steps: all 8 responses were discarded");
  });

  it("says what is wrong with its options", async () => {
    const out = join(dir, "wrong");
    expect((await raft(out, "--output_min_length 13")).text).toMatch(
      /output_min_length 13 is more than --output_max_length/,
    );
    expect((await raft(out, "--max_prompt_length 2")).text).toMatch(/all 8 prompts have more than 2 tokens/);
    expect((await raft(out, "--min_new_tokens 99")).text).toMatch(/min_new_tokens 99 is more than/);
    expect((await raft(out, "--discard_sample never")).text).toMatch(/discard_sample/);
    expect((await raft(out, "--lr_scheduler_type linear-per-step")).text).toMatch(/linear-per-iteration/);
  });

  it("takes the paper's schedule and long prompts out", async () => {
    const words = "--num_raft_iteration 1 --lr_scheduler_type linear-per-iteration --max_prompt_length 9";
    const { code, text } = await raft(join(dir, "paper"), words);
    expect(code, text).toBe(0);
    expect(text).toMatch(/\d of 8 prompts left out: more than 9 tokens/);

    const prompts = [...worldPrompts(3, 1, "train"), "the cat sat. ".repeat(60)];
    const data = join(dir, "prompts.jsonl");
    await writeFile(data, prompts.map((prompt) => JSON.stringify({ prompt })).join("\n"));
    const own = `--num_raft_iteration 1 --raft_batch_size 2 --dataset_name ${data}`;
    const beyond = await raft(join(dir, "beyond"), `${own} --max_prompt_length 52`);
    expect(beyond.code, beyond.text).toBe(0);
    expect(beyond.text).toMatch(/1 of 4 records left out: their prompts are too long/);
    const refused = await raft(join(dir, "refused"), own);
    expect(refused.text).toMatch(/prompts.jsonl:4: .* no room for an answer of 12 tokens within 64 tokens/);
  });
});

describe("webrlhf figure", () => {
  it("draws chosen metrics of chosen runs", async () => {
    const path = join(dir, "figures", "one");
    const out = join(dir, "drawn");
    expect((await raft(out, "--num_raft_iteration 4")).code).toBe(0);
    const words = ["figure", dir, "--runs", "drawn", "--metrics", "reward,distinct_2", "--output_path", path];
    const { code, text } = await webrlhf(...words, "--title", "A <title>");
    expect(code, text).toBe(0);
    const svg = await readFile(`${path}.svg`, "utf8");
    expect(svg).toContain("A &lt;title&gt;");
    expect(svg.match(/<svg /g)).toHaveLength(3);
    const record = JSON.parse(await readFile(`${path}.svg.run.json`, "utf8"));
    expect(record).toMatchObject({ verb: "figure", state: "finished", settings: { title: "A <title>" } });
    const drawn = record.parents.find((parent: { path: string }) => parent.path === out);
    expect(drawn).toMatchObject({ verb: "raft", steps: 4, settings: { raft_batch_size: 4 } });
    expect(record.inputs).toContainEqual({
      setting: "input_dir",
      name: out,
      sha256: expect.stringMatching(/^\w{64}$/),
    });
    const { runs } = JSON.parse(await readFile(`${path}.json`, "utf8"));
    expect(runs.map((r: { name: string }) => r.name)).toEqual(["drawn"]);
    expect(runs[0].metrics.reward).toHaveLength(4);
    const refused = async (...more: string[]) => (await webrlhf("figure", dir, "--output_path", path, ...more)).text;
    expect(await refused("--metrics", "nothing")).toMatch(/none of the runs .* logs nothing/);
    expect(await refused("--metrics", "reward", "--runs", "nobody")).toMatch(
      /has no training run nobody; it has .*drawn/,
    );
  });
});

describe("webrlhf report", () => {
  it("leaves a record of the runs that it shows, which is the same again", async () => {
    const out = join(dir, "reported");
    expect((await raft(out, "--num_raft_iteration 1")).code).toBe(0);
    const made = async (): Promise<string> => {
      const { code, text } = await webrlhf("report", out);
      expect(code, text).toBe(0);
      return readFile(join(out, "report.html.run.json"), "utf8");
    };
    const record = await made();
    expect(JSON.parse(record)).toMatchObject({
      verb: "report",
      state: "finished",
      settings: { input_dir: [out] },
      inputs: [{ setting: "input_dir", name: out, sha256: expect.stringMatching(/^\w{64}$/) }],
      parents: [{ path: out, verb: "raft", steps: 1 }],
    });
    expect(await made()).toBe(record);
    // Going on changes the run, and with it what the report was made of.
    expect((await raft(out, "--num_raft_iteration 2 --save_steps 1 --overwrite_output_dir")).code).toBe(0);
    expect(JSON.parse(await made()).inputs[0].sha256).not.toBe(JSON.parse(record).inputs[0].sha256);

    const nothing = join(dir, "nothing");
    expect((await webrlhf("report", nothing)).text).toMatch(/no training run in here/);
    expect(await readdir(dir)).not.toContain("nothing");
  });
});

describe("webrlhf evaluate", () => {
  it("measures the perplexity on held-out data", async () => {
    const out = join(dir, "evaluated");
    const words = ["--perplexity_dataset_name", "builtin:world", "--num_prompts", "4", "--response_length", "4"];
    const paths = ["--model_name_or_path", join(dir, "base"), "--reward_model_path", "builtin:world"];
    const { code, text } = await webrlhf("evaluate", ...paths, ...words, "--output_dir", out);
    expect(code, text).toBe(0);
    const { policy } = JSON.parse(await readFile(join(out, "evaluation.json"), "utf8"));
    // A fresh model knows nothing: every token of the vocabulary is as likely as another.
    for (const name of ["perplexity", "text_perplexity", "text_perplexity_by_window"]) {
      expect(policy[name] / tokenizer.vocabSize, name).toBeGreaterThan(0.8);
      expect(policy[name] / tokenizer.vocabSize, name).toBeLessThan(1.2);
    }
    expect(policy.unique_1).toBeGreaterThan(0);
  });
});
