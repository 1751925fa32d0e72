/** grpo, rloo and reinforce from the command line: what they write, and what they refuse before anything is opened. */

import { readFile } from "node:fs/promises";
import { describe, expect, it } from "vitest";
import { main } from "webrlhf/cli";
import { withBase } from "./base.ts";
import { silentTerminal } from "./terminal.ts";

const at = withBase();

async function run(verb: string, ...words: string[]): Promise<{ code: number; text: string }> {
  const terminal = silentTerminal();
  const models = ["--model_name_or_path", at("base"), "--reward_model_path", "builtin:world"];
  const code = await main([verb, ...models, "--max_train_samples", "8", ...words], terminal);
  return { code, text: terminal.written.join("") };
}

const metrics = async (name: string): Promise<Record<string, number>[]> =>
  (await readFile(at(name, "metrics.jsonl"), "utf8"))
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));

const small = "--generation_batch_size 8 --max_completion_length 6 --max_steps 2 --learning_rate 1e-3".split(" ");

describe("verbs without a critic", { timeout: 60_000 }, () => {
  it("train by several weighted rewards", async () => {
    const { code, text } = await run(
      "grpo",
      ...small,
      ...["--num_generations", "4", "--reward_funcs", "builtin:world", "--reward_weights", "1,0.5"],
      ...["--overlong_buffer_len", "4", "--output_dir", at("grpo")],
    );
    expect(code, text).toBe(0);
    const [first, second] = await metrics("grpo");
    expect(first.n_dropped).toBe(0);
    expect(first).not.toHaveProperty("kl"); // beta is 0: no reference is opened
    const [one, two, overlong] = ["builtin:world", "builtin:world-2", "overlong"].map((n) => first[`rewards/${n}`]);
    expect(two).toBe(one);
    expect(overlong).toBeLessThan(0);
    expect(first.reward).toBeCloseTo(1.5 * one + overlong, 10);
    expect(second.step).toBe(2);
    expect(await readFile(at("grpo", "model.safetensors"))).toBeDefined();
  });

  it.each(["rloo", "reinforce"])("%s measures the KL to where it began", async (verb) => {
    const { code, text } = await run(verb, ...small, "--use_peft", "--output_dir", at(verb));
    expect(code, text).toBe(0);
    const [first, second] = await metrics(verb);
    expect(first.kl).toBe(0);
    expect(Math.abs(second.kl)).toBeGreaterThan(0);
    expect(await readFile(at(verb, "adapter_config.json"), "utf8")).toContain("LORA");
  });

  it.each([
    [["--num_generations", "3", "--generation_batch_size", "8"], /generation_batch_size is 8, which is no multiple of/],
    [["--num_generations", "3"], /per_device_train_batch_size times --steps_per_generation is 8, which is no multiple/],
    [["--generation_batch_size", "8", "--steps_per_generation", "2"], /give one of them/],
    [["--reward_weights", "1,2", "--response_length", "4"], /there are 2 reward weights for 1 reward/],
    [["--reward_weights", "much"], /reward_weights must be a list of numbers, or none, not "much"/],
    [["--loss_type", "ppo"], /loss_type must be one of grpo, bnpo, dapo, dr_grpo, cispo/],
  ])("refuse %j", async (words, message) => {
    const { code, text } = await run("grpo", ...words, "--output_dir", at("refused"));
    expect(code).toBe(1);
    expect(text).toMatch(message);
  });

  it("refuse what the method cannot do", async () => {
    const refused = async (verb: string, ...words: string[]) =>
      (await run(verb, ...small, ...words, "--output_dir", at("refused"))).text;
    expect(await refused("grpo", "--num_generations", "1")).toMatch(/num_generations must be at least 2/);
    expect(await refused("grpo", "--loss_type", "cispo")).toMatch(/needs --epsilon_high/);
    expect(await refused("rloo", "--num_generations", "1")).toMatch(/num_generations must be at least 2/);
    expect(await refused("grpo", "--reward_funcs", at("no-such-folder"))).toMatch(/no-such-folder/);
  });
});
