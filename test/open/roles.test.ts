import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { diskFiles } from "webrlhf";
import { main } from "webrlhf/cli";
import { CausalLM, modelFiles, ScoreModel } from "webrlhf/nn";
import { openModel, tokenizerFiles } from "webrlhf/open";
import { silentTerminal } from "../cli/terminal.ts";
import { gpuReady } from "../helpers.ts";
import { tinyConfig, tokenizer } from "../rlhf/tiny.ts";

let dir: string;
const at = (name: string) => join(dir, name);

beforeAll(async () => {
  await gpuReady();
  dir = await mkdtemp(join(tmpdir(), "roles-"));
  const files = await diskFiles();
  const [lm, scorer] = [new CausalLM(tinyConfig()).initialize(1), new ScoreModel(tinyConfig()).initialize(1)];
  await files.writeFolder(at("lm"), { ...(await modelFiles(lm)), ...tokenizerFiles(tokenizer) });
  await files.writeFolder(at("rm"), { ...(await modelFiles(scorer)), ...tokenizerFiles(tokenizer) });
  const pair = { "pair_preference.json": '{"template": "letters", "bos": false}' };
  await files.writeFolder(at("pairwise"), { ...(await modelFiles(lm)), ...tokenizerFiles(tokenizer), ...pair });
  lm.destroy();
  scorer.destroy();
});
afterAll(() => rm(dir, { recursive: true }));

async function fails(...words: string[]): Promise<string> {
  const terminal = silentTerminal();
  expect(await main([...words], terminal)).toBe(1);
  return terminal.written.join("");
}

const reward = () => ["--reward_model_path", at("rm")];
const teacher = () => ["--teacher_model_name_or_path", at("lm")];
const policies: readonly [verb: string, more: () => string[]][] = [
  ["sft", () => []],
  ["dpo", () => []],
  ["kto", () => []],
  ["orpo", () => []],
  ["cpo", () => []],
  ["distill", teacher],
  ["ppo", reward],
  ["grpo", reward],
  ["rloo", reward],
  ["reinforce", reward],
  ["raft", reward],
  ["iterate", reward],
  ["generate", () => ["--prompt", "x"]],
  ["chat", () => []],
  ["serve", () => ["--port", "0"]],
  ["evaluate", reward],
];
const output = (verb: string) => (["generate", "chat", "serve"].includes(verb) ? [] : ["--output_dir", at("out")]);

describe("a model's role", () => {
  it.each(policies)("%s refuses a reward model and a pair-preference model as its policy", async (verb, more) => {
    const words = (name: string) => [verb, "--model_name_or_path", at(name), ...more(), ...output(verb)];
    expect(await fails(...words("rm"))).toContain(`${at("rm")} is a reward model: it has a score head`);
    expect(await fails(...words("pairwise"))).toContain(`${at("pairwise")} is a pair-preference model, which judges`);
  });

  it.each(["ppo", "grpo", "raft", "iterate", "evaluate"])("%s refuses a language model as its reward", async (verb) => {
    const words = ["--model_name_or_path", at("lm"), "--reward_model_path", at("lm")];
    expect(await fails(verb, ...words, ...output(verb))).toMatch(
      /language model without a score head|cannot be the reward model, too/,
    );
  });

  it("is refused by the library, too", async () => {
    await expect(openModel(at("rm"))).rejects.toThrow("is a reward model: it has a score head");
    await expect(openModel(at("rm"), { lora: true })).rejects.toThrow("is a reward model");
  });
});
