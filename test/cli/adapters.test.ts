/** Adapters from the command line: trained, trained further, sampled from, merged; and what is refused. */

import { readdir, readFile, writeFile } from "node:fs/promises";
import { beforeAll, describe, expect, it } from "vitest";
import { diskFiles } from "webrlhf";
import { main } from "webrlhf/cli";
import { withBase } from "./base.ts";
import { silentTerminal } from "./terminal.ts";

const at = withBase();

beforeAll(async () => {
  const flags = ["--use_peft", "--lora_target_modules", "all-linear", "--lora_r", "4", "--use_rslora"];
  const sft = ["--model_name_or_path", at("base"), ...flags, "--max_steps", "2", "--output_dir", at("sft")];
  await succeed("sft", ...sft, ...small);
  const judge = ["--model_name_or_path", at("sft"), "--max_steps", "1", "--output_dir", at("judge")];
  await succeed("reward", ...judge, ...small);
});

async function run(...words: string[]): Promise<{ code: number; text: string; results: string }> {
  const terminal = silentTerminal();
  const code = await main(words, terminal);
  return { code, text: terminal.written.join(""), results: terminal.results.join("\n") };
}

async function succeed(...words: string[]): Promise<string> {
  const { code, text, results } = await run(...words);
  expect(code, text).toBe(0);
  return results;
}

/** A copy of the trained adapter that does not say what its base is. */
async function orphan(name: string): Promise<string> {
  const config = await json("sft", "adapter_config.json");
  await (await diskFiles()).writeFolder(at(name), {
    "adapter_config.json": JSON.stringify({ ...config, base_model_name_or_path: null }),
    "adapter_model.safetensors": new Uint8Array(await readFile(at("sft", "adapter_model.safetensors"))),
  });
  return at(name);
}

const small = ["--max_train_samples", "8", "--per_device_train_batch_size", "4", "--learning_rate", "1e-3"];
const rollout = ["--dataset_name", "builtin:world", "--response_length", "4", ...small];
const json = async (...names: string[]) => JSON.parse(await readFile(at(...names), "utf8"));

describe("adapters from the command line", () => {
  it("stand on one base from SFT over a reward model to PPO, and merge in the end", async () => {
    expect(await json("sft", "adapter_config.json")).toMatchObject({
      base_model_name_or_path: at("base"),
      task_type: "CAUSAL_LM",
      r: 4,
      lora_alpha: 32,
      lora_dropout: 0.05,
      use_rslora: true,
    });
    expect(await readdir(at("sft"))).not.toContain("model.safetensors");
    expect(await json("judge", "adapter_config.json")).toMatchObject({
      task_type: "SEQ_CLS",
      modules_to_save: ["score"],
    });
    const models = ["--model_name_or_path", at("sft"), "--reward_model_path", at("judge")];
    await succeed(
      "ppo",
      ...models,
      "--max_steps",
      "1",
      "--rollout_batch_size",
      "4",
      "--output_dir",
      at("ppo"),
      ...rollout,
    );
    expect((await readdir(at("ppo", "value"))).filter((f) => f.includes("model"))).toEqual([
      "adapter_model.safetensors",
    ]);

    await succeed("merge", "--adapter_path", at("ppo"), "--output_dir", at("merged"));
    const greedy = ["--prompt", "Once there was", "--max_new_tokens", "6", "--top_k", "1"];
    const adapted = await succeed("generate", "--model_name_or_path", at("ppo"), ...greedy);
    expect(await succeed("generate", "--model_name_or_path", at("merged"), ...greedy)).toBe(adapted);
  });

  it("train from a plain model with the reference and the critic on its weights", async () => {
    const words = ["--model_name_or_path", at("base"), "--reward_model_path", "builtin:world", "--use_peft"];
    await succeed(
      "ppo",
      ...words,
      "--max_steps",
      "1",
      "--rollout_batch_size",
      "4",
      "--output_dir",
      at("plain"),
      ...rollout,
    );
    expect(await json("plain", "value", "adapter_config.json")).toMatchObject({
      base_model_name_or_path: at("base"),
      target_modules: ["q_proj", "v_proj"],
    });
  });

  it("find their base where the options say, and say so where nobody does", async () => {
    const words = [
      "generate",
      "--model_name_or_path",
      await orphan("orphan"),
      "--prompt",
      "the cat",
      "--max_new_tokens",
      "2",
    ];
    expect((await run(...words)).text).toContain(
      "orphan/adapter_config.json does not say which model the adapter belongs to: pass --base_model_name_or_path",
    );
    await succeed(...words, "--base_model_name_or_path", at("base"));
  });

  it("refuse what makes no sense", async () => {
    const failing = async (...words: string[]) => {
      const { code, text } = await run(...words);
      expect(code, text).toBe(1);
      return text;
    };
    const out = ["--output_dir", at("out"), ...small];
    expect(await failing("sft", "--use_peft", ...out)).toContain("use_peft needs --model_name_or_path");
    expect(await failing("sft", "--use_peft", "--model_name_or_path", at("sft"), ...out)).toContain(
      "is an adapter already",
    );
    const base = ["--use_peft", "--model_name_or_path", at("base")];
    expect(await failing("sft", ...base, "--lora_target_modules", "q_pro", ...out)).toContain(
      'called "q_pro"; its layers are',
    );
    expect(await failing("sft", ...base, "--lora_modules_to_save", "wte", ...out)).toContain('called "wte"');
    expect(await failing("sft", ...base, "--lora_r", "0", ...out)).toContain(
      "lora_r must be a whole number of at least 1",
    );
    expect(await failing("merge", "--adapter_path", at("base"), "--output_dir", at("out"))).toContain(
      "is not an adapter",
    );
    const whole = ["--model_name_or_path", at("base"), "--base_model_name_or_path", at("base")];
    const unused = "--base_model_name_or_path names the base of an adapter, and none of the models here is";
    expect(await failing("generate", ...whole, "--prompt", "x")).toContain(unused);
    expect(await failing("sft", ...whole, "--dataset_name", "builtin:world", ...out)).toContain(unused);
    expect(await failing("generate", "--model_name_or_path", at("judge"), "--prompt", "x")).toContain(
      "a reward model's adapter",
    );
    const broken = [
      "--model_name_or_path",
      await orphan("broken"),
      "--base_model_name_or_path",
      at("base"),
      "--prompt",
      "x",
    ];
    await writeFile(at("broken", "adapter_model.safetensors"), "x");
    expect(await failing("generate", ...broken)).toMatch(/error: .*broken\/adapter_model\.safetensors/);
  });
});
