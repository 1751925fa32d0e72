/** Policies that act in environments, from the command line: what they write, and what is refused. */
import { readFile, writeFile } from "node:fs/promises";
import { describe, expect, it } from "vitest";
import { main } from "webrlhf/cli";
import { openEnvironment } from "webrlhf/open";
import { withBase } from "./base.ts";
import { silentTerminal } from "./terminal.ts";

const at = withBase();

async function run(verb: string, ...words: string[]): Promise<{ code: number; text: string }> {
  const terminal = silentTerminal();
  const code = await main([verb, "--model_name_or_path", at("base"), "--max_train_samples", "8", ...words], terminal);
  return { code, text: terminal.written.join("") };
}

const lines = async (name: string, file: string): Promise<Record<string, unknown>[]> =>
  (await readFile(at(name, file), "utf8"))
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));

const small = "--generation_batch_size 8 --max_completion_length 16 --max_steps 2 --learning_rate 1e-3".split(" ");

/** Asks for more twice; a turn is worth the columns of its row. */
const asking = `
export const environment = {
  rows: (n, seed, split) => Array.from({ length: n }, (_, i) => ({ worth: i % 2, split })),
  reset({ prompt: { row } }) {
    return {
      observation: "Once",
      step: ({ turn }) => turn < 2 ? { observation: " and", reward: 0.25 } : { reward: row.worth, done: true },
    };
  },
};`;

describe("an environment of one's own", { timeout: 60_000 }, () => {
  it("gives prompts, answers and rewards", async () => {
    const path = at("asking.mjs");
    await writeFile(path, asking);
    const shown = ["--show_rollouts", "2", "--num_generations", "4", "--eval_steps", "2", "--max_eval_samples", "2"];
    const words = [...small, "--environment", path, "--output_dir", at("own"), ...shown];
    const { code, text } = await run("grpo", ...words);
    expect(code, text).toBe(0);
    const [first] = await lines("own", "metrics.jsonl");
    expect(first["rewards/environment"]).toBe(first.reward);
    const rows = (await lines("own", "rollouts.jsonl")) as unknown as {
      ids: number[];
      texts: string[];
      logProbs: number[];
    }[];
    expect(rows.length).toBeGreaterThan(0);
    for (const { ids, texts, logProbs } of rows)
      expect([texts.length, logProbs.length]).toEqual([ids.length, ids.length]);
    expect(await readFile(at("own", "model.safetensors"))).toBeDefined();
  });

  it("stands beside other rewards, and before PPO's critic", async () => {
    const path = at("asking-2.mjs");
    await writeFile(path, asking);
    const other = at("length.mjs");
    await writeFile(other, "export default (all) => all.map(({ turns }) => turns.length);");
    const rewards = ["--reward_model_path", other, "--reward_weights", "2,0.5"];
    const both = await run(
      "rloo",
      ...small,
      "--environment",
      path,
      ...rewards,
      "--beta",
      "0",
      "--output_dir",
      at("both"),
    );
    expect(both.code, both.text).toBe(0);
    const [first] = (await lines("both", "metrics.jsonl")) as Record<string, number>[];
    expect(first.reward).toBeCloseTo(2 * first["rewards/environment"] + 0.5 * first["rewards/length"], 10);
    const ppo = "--rollout_batch_size 4 --response_length 16 --max_steps 1 --per_device_train_batch_size 4".split(" ");
    const { code, text } = await run("ppo", ...ppo, "--environment", path, "--output_dir", at("ppo"));
    expect(code, text).toBe(0);
  });

  it("is blamed by its path, the prompt and the turn", async () => {
    const path = at("broken.mjs");
    await writeFile(path, asking.replace('{ observation: " and", reward: 0.25 }', "nothing"));
    const stopped = await run("grpo", ...small, "--environment", path, "--output_dir", at("stopped"));
    expect(stopped.code).toBe(1);
    expect(stopped.text).toMatch(/broken\.mjs, prompt \d+, sample 0, turn 1: ReferenceError: nothing is not defined/);
    await writeFile(at("none.mjs"), "export const other = 1;");
    await expect(openEnvironment(at("none.mjs"))).rejects.toThrow(
      /an object with a reset function.*this one has other/,
    );
    await writeFile(at("function.mjs"), "export default () => ({ step: () => ({ done: true }) });");
    expect((await openEnvironment(at("function.mjs"))).name).toBe("function.mjs");
  });
});

describe("the story world", { timeout: 60_000 }, () => {
  it("is written in two turns, on the world's prompts", async () => {
    const words = [...small, "--environment", "builtin:story", "--num_generations", "2", "--output_dir", at("story")];
    const { code, text } = await run("grpo", ...words);
    expect(code, text).toBe(0);
    const samples = await lines("story", "samples.jsonl");
    expect(samples.length).toBeGreaterThan(0);
  });
});

describe("refused are", () => {
  it.each([
    [["--environment", "builtin:chess"], /there is no environment builtin:chess; there is builtin:guess/],
    [["--environment", "builtin:guess?numbers=1"], /numbers at least 2/],
    [["--environment", "builtin:guess?size=1"], /size .*its parameters: numbers/],
    [
      ["--environment", "builtin:guess", "--test_size", "0.1"],
      /test_size has no effect: builtin:guess makes its own rows/,
    ],
    [["--max_turns", "3"], /max_turns has no effect without --environment/],
    [[], /reward_model_path is not set/],
    [["--environment", "builtin:guess", "--max_staleness", "2"], /cannot draw ahead/],
  ])("%j", async (words, message) => {
    const { code, text } = await run("grpo", ...small, ...words, "--output_dir", at("refused"));
    expect(code).toBe(1);
    expect(text).toMatch(message);
  });
});

describe("evaluate", { timeout: 60_000 }, () => {
  it("plays held-out episodes and writes their means, with intervals and samples", async () => {
    const path = at("asking-3.mjs");
    await writeFile(path, asking.replace("environment = {", "environment = { best: 1.5,"));
    const words = ["--environment", path, "--num_prompts", "6", "--response_length", "16", "--seed", "4"];
    const terminal = silentTerminal();
    const base = ["--model_name_or_path", at("base"), "--output_dir", at("evaluated")];
    expect(await main(["evaluate", ...base, ...words], terminal), terminal.written.join("")).toBe(0);
    const { policy } = JSON.parse(await readFile(at("evaluated", "evaluation.json"), "utf8"));
    expect(policy.n).toBe(6);
    expect(policy.reward_low).toBeLessThanOrEqual(policy.reward);
    expect(policy.reward_high).toBeGreaterThanOrEqual(policy.reward);
    expect(policy.success_low).toBeLessThanOrEqual(policy.success_rate);
    expect(policy.mean_turns).toBeGreaterThanOrEqual(1);
    expect(policy.samples).toHaveLength(6);
    expect(policy.samples[0].prompt).toBe("Once");
    expect(terminal.written.join("")).toMatch(/evaluate: reward .*success_rate /);
  });

  it.each([
    [
      ["--environment", "builtin:guess", "--reward_model_path", "builtin:world"],
      /reward_model_path has no effect together with --environment/,
    ],
    [["--max_turns", "3", "--reward_model_path", "builtin:world"], /max_turns has no effect without --environment/],
    [
      ["--environment", "builtin:guess", "--test_size", "0.5"],
      /test_size has no effect: builtin:guess makes its own rows/,
    ],
    [[], /reward_model_path is not set/],
  ])("refuses %j", async (words, message) => {
    const terminal = silentTerminal();
    const base = ["--model_name_or_path", at("base"), "--output_dir", at("refused")];
    expect(await main(["evaluate", ...base, ...words], terminal)).toBe(1);
    expect(terminal.written.join("")).toMatch(message);
  });
});

describe("iterate", { timeout: 60_000 }, () => {
  const sizes = "--iterations 1 --k 4 --response_length 16 --max_steps 1 --prompts_per_iteration 4".split(" ");
  const noting = asking.replace("reward: row.worth", "reward: row.worth + Math.random()");

  it("learns from pairs of episodes, and keeps them", async () => {
    const path = at("asking-5.mjs");
    await writeFile(path, noting);
    const { code, text } = await run("iterate", ...sizes, "--environment", path, "--output_dir", at("iterate"));
    expect(code, text).toBe(0);
    const [row] = (await lines("iterate", "iteration_1/rewards.jsonl")) as unknown as {
      rewards: number[];
      episodes: { prompt: string; turns: { reward: number }[] }[];
    }[];
    expect(row.episodes.map(({ turns }) => turns.reduce((sum, { reward }) => sum + reward, 0))).toEqual(row.rewards);
    expect(row.episodes[0].prompt).toBe("Once");
    const { metrics } = JSON.parse(await readFile(at("iterate", "iteration_1/metrics.json"), "utf8"));
    expect(metrics.heldout_mean_turns).toBeGreaterThanOrEqual(1);
  });

  it.each([
    [["--preference_ranking", "tournament"], /preference_ranking has no effect together with --environment/],
    [["--max_staleness", "1"], /cannot draw ahead/],
  ])("refuses %j", async (words, message) => {
    const path = at("asking-5.mjs");
    const { code, text } = await run(
      "iterate",
      ...sizes,
      "--environment",
      path,
      ...words,
      "--output_dir",
      at("refused"),
    );
    expect(code).toBe(1);
    expect(text).toMatch(message);
  });
});

describe("raft", { timeout: 60_000 }, () => {
  const sizes = "--raft_batch_size 2 --top_reward_percentage 0.5 --output_max_length 16 --num_raft_iteration 1".split(
    " ",
  );

  it("learns from episodes, and evaluates on held-out ones", async () => {
    const path = at("asking-4.mjs");
    await writeFile(path, asking);
    const words = ["--environment", path, "--eval_steps", "1", "--max_eval_samples", "2", "--output_dir", at("raft")];
    const { code, text } = await run("raft", ...sizes, ...words);
    expect(code, text).toBe(0);
    const [first] = await lines("raft", "raft.jsonl");
    expect(first.train_reward).toBeGreaterThanOrEqual(first.mean_reward as number);
    expect(await readFile(at("raft", "eval_out-step1.jsonl"), "utf8")).toContain('"prompt":"Once"');
  });

  it.each([
    [["--clean_text", "lmflow"], /clean_text has no effect together with --environment/],
    [["--output_min_length", "4"], /output_min_length has no effect together with --environment/],
    [["--mask_prompt"], /mask_prompt has no effect together with --environment/],
  ])("refuses %j", async (words, message) => {
    const path = at("asking-4.mjs");
    const { code, text } = await run("raft", ...sizes, "--environment", path, ...words, "--output_dir", at("refused"));
    expect(code).toBe(1);
    expect(text).toMatch(message);
  });
});
