/** Pair-preference and multi-objective models from the command line: trained, evaluated, used as rewards; what is refused. */

import { readdir, readFile, writeFile } from "node:fs/promises";
import { describe, expect, it } from "vitest";
import { caps } from "webrlhf";
import { main } from "webrlhf/cli";
import { ModelOpener, openDataset, withModels } from "webrlhf/open";
import { openPairScorer } from "../../src/open/scorers.ts";
import { withBase } from "./base.ts";
import { silentTerminal } from "./terminal.ts";

const at = withBase();

async function run(command: string, ...more: string[]): Promise<{ code: number; text: string }> {
  const terminal = silentTerminal();
  const code = await main([...command.split(" "), ...more], terminal);
  return { code, text: terminal.written.join("") };
}

async function succeed(command: string, ...more: string[]): Promise<string> {
  const { code, text } = await run(command, ...more);
  expect(code, text).toBe(0);
  return text;
}

const from = () => ["--model_name_or_path", at("base")];
const small = ["--max_train_samples", "8", "--max_eval_samples", "4", "--per_device_train_batch_size", "4"];
const json = async (...names: string[]) => JSON.parse(await readFile(at(...names), "utf8"));

describe("pairwise", () => {
  it("trains a model that evaluate knows again", async () => {
    const out = ["--output_dir", at("pairs")];
    await succeed(
      "pairwise --dataset_name builtin:cycle --max_steps 2 --rrm_augmentation",
      ...from(),
      ...small,
      ...out,
    );
    expect(await json("pairs", "pair_preference.json")).toEqual({ template: "letters", bos: false });
    const test = ["--reward_model_path", at("pairs"), "--output_dir", at("test")];
    const text = await succeed("evaluate --dataset_name builtin:cycle --num_prompts 6", ...test);
    expect(text).toMatch(/accuracy .* on 6 pairs .*noise ceiling .*best score there can be 0\.7/);
    const files = [at("x.jsonl"), "--reward_model_path", at("pairs"), "--output_file", at("y.jsonl")];
    expect((await run("score", ...files)).text).toMatch(/compares answers and cannot score one.*webrlhf annotate/);
    expect((await json("test", "evaluation.json")).reward_model).toMatchObject({ pairs: 6, label: "pairs" });
  });

  it("refuses a template that the model cannot do, and pairs that are too long", async () => {
    const plain = await run("pairwise --pair_template plain", ...from(), "--output_dir", at("no"));
    expect(plain.text).toMatch(/cannot write.*use pair_template letters/);
    const chat = await run("pairwise --pair_template chat", ...from(), "--output_dir", at("no"));
    expect(chat.text).toMatch(/no chat template.*chat_template_path/);
    const out = ["--output_dir", at("no")];
    const long = await run("pairwise --dataset_name builtin:cycle --max_length 20", ...from(), ...small, ...out);
    expect(long.text).toMatch(
      /cycle\/train:\d+: the question with both answers has \d+ tokens, more than 20.*--long_prompts skip/,
    );
    expect([plain.code, chat.code, long.code]).toEqual([1, 1, 1]);
    expect(await readdir(at())).not.toContain("no");
  });
});

const gate = "--gating_hidden_dim 4 --gating_n_hidden 1 --max_steps 2 --per_device_train_batch_size 4";

describe("multi-objective", () => {
  it("gives a reward of several qualities to evaluate and to RAFT", async () => {
    const sets = "--preference_dataset_name builtin:domains --max_preference_samples 10 --max_train_samples 40";
    const out = ["--output_dir", at("gated")];
    const text = await succeed(`multi-objective --verbosity_attribute long ${sets} ${gate}`, ...from(), ...out);
    expect(text).toMatch(/merry: \d+ ratings {2}alpha .* verbosity: penalty .*, correlation .* to /);
    if (caps().f16) {
      const halved = ["--fp16", "--output_dir", at("gated-half")];
      await succeed(`multi-objective --verbosity_attribute long ${sets} ${gate}`, ...from(), ...halved);
      const [first] = (await readFile(at("gated-half", "metrics.jsonl"), "utf8")).split("\n");
      expect(JSON.parse(first).loss_scale).toBe(65536);
    }
    const config = await json("gated", "multi_objective_config.json");
    expect(config).toMatchObject({
      base_model_name_or_path: at("base"),
      attributes: ["merry", "kind", "long"],
      gating: { hidden_size: 4, n_hidden: 1, temperature: 10 },
    });
    const judge = ["--reward_model_path", at("gated")];
    await succeed(
      "evaluate --dataset_name builtin:domains --num_prompts 6",
      ...judge,
      "--output_dir",
      at("gated-test"),
    );
    await writeFile(at("answers.jsonl"), '{"prompt":"Today Tim the cat wanted a hat.","completion":" Tim ran."}\n');
    await succeed("score", at("answers.jsonl"), ...judge, "--output_file", at("scored.jsonl"));
    const scored = JSON.parse(await readFile(at("scored.jsonl"), "utf8"));
    expect(Object.values(scored).some((value) => typeof value === "number" && Number.isFinite(value))).toBe(true);
    // Cut at the left, answers of unequal length leave prompts of unequal length.
    const cut = ["--truncation_side", "left", "--max_length", "16"];
    const pair = { prompt: "Today Tim the cat wanted a hat.", chosen: " Tim ran.", rejected: " Tim ran far away." };
    await writeFile(at("pair.jsonl"), JSON.stringify(pair));
    await succeed("score", at("pair.jsonl"), ...judge, ...cut, "--output_file", at("scored.jsonl"));
    const { chosen_score, rejected_score } = JSON.parse(await readFile(at("scored.jsonl"), "utf8"));
    const opener = new ModelOpener();
    const pairScorer = await openPairScorer(opener, at("gated"), { maxLength: 16 }, { truncationSide: "left" });
    const held = openDataset(at("pair.jsonl")).heldOut(null);
    const [judged] = await withModels(opener.opened, () => pairScorer(held));
    expect(judged.chosen).toBeCloseTo(chosen_score, 5);
    expect(judged.rejected).toBeCloseTo(rejected_score, 5);
    const raft = "raft --num_raft_iteration 1 --raft_batch_size 2 --top_reward_percentage 0.5 --response_length 4";
    await succeed(raft, ...from(), ...judge, "--output_dir", at("raft"));
    const [line] = (await readFile(at("raft", "metrics.jsonl"), "utf8")).split("\n");
    expect(Number.isFinite(JSON.parse(line).reward)).toBe(true);

    // Such a model is no critic: that starts from the policy.
    const ppo = "ppo --max_steps 1 --rollout_batch_size 2 --response_length 4 --max_train_samples 8";
    await succeed(ppo, ...from(), ...judge, "--output_dir", at("ppo"));
    expect(await json("ppo", "value", "config.json")).toMatchObject({
      architectures: ["LlamaForSequenceClassification"],
    });
  });

  it("weighs by fixed numbers without pairs", async () => {
    const fixed = "multi-objective --attributes kind,merry --attribute_weights 2,-1 --max_train_samples 40";
    await succeed(fixed, ...from(), "--output_dir", at("fixed"));
    expect(await json("fixed", "multi_objective_config.json")).toMatchObject({
      attributes: ["kind", "merry"],
      attribute_weights: [2, -1],
      gating: null,
    });
  });

  it("refuses what does not fit together, and writes nothing", async () => {
    await writeFile(at("rated.jsonl"), '{"prompt":"Today Tim the cat wanted a hat.","completion":" Tim ran.","x":1}\n');
    const cases: [string, RegExp][] = [
      ["--attribute_weights 1", /attribute_weights has 1 numbers for 3 attributes: merry, kind, long/],
      ["--attribute_weights 1,2,x", /--attribute_weights must be a list of numbers/],
      ["--attribute_weights 1,1,1 --preference_dataset_name builtin:domains", /without a gate/],
      ["--verbosity_attribute words --max_train_samples 20", /verbosity_attribute words is not one of the attributes/],
      ["--attributes merry,good", /no attribute "good"; there are merry, kind, long/],
    ];
    for (const [flags, message] of cases) {
      const { code, text } = await run(`multi-objective ${flags}`, ...from(), "--output_dir", at("never"));
      expect(text).toMatch(message);
      expect(code).toBe(1);
    }
    const one = await run(
      "multi-objective",
      ...from(),
      "--dataset_name",
      at("rated.jsonl"),
      "--output_dir",
      at("never"),
    );
    expect(one.text).toMatch(/the attribute x has 1 labels, but at least 2 are needed/);
    expect(await readdir(at())).not.toContain("never");
  });
});
