/** Models in fewer bits behind every verb that opens one, and the options that cannot apply. */

import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { caps, diskFiles } from "webrlhf";
import { main } from "webrlhf/cli";
import { CausalLM, modelFiles, ScoreModel } from "webrlhf/nn";
import { ModelOpener, type ModelOptions, openReward, tokenizerFiles, weightFormat } from "webrlhf/open";
import { gpuReady } from "../helpers.ts";
import { tinyConfig, tokenizer } from "../rlhf/tiny.ts";
import { silentTerminal } from "./terminal.ts";

let dir: string;
let policy: string;
let judge: string;
let out: string;

beforeAll(async () => {
  process.setMaxListeners(100);
  await gpuReady();
  dir = await mkdtemp(join(tmpdir(), "webrlhf-weights-"));
  policy = join(dir, "policy");
  judge = join(dir, "judge");
  const files = await diskFiles();
  const models = { [policy]: new CausalLM(tinyConfig()), [judge]: new ScoreModel(tinyConfig()) };
  for (const [folder, model] of Object.entries(models)) {
    model.initialize(3);
    await files.writeFolder(folder, { ...(await modelFiles(model)), ...tokenizerFiles(tokenizer) });
    model.destroy();
  }
});
afterAll(() => rm(dir, { recursive: true }));
beforeEach(async () => {
  out = join(await mkdtemp(join(dir, "out-")), "run");
});

async function run(...words: string[]) {
  const terminal = silentTerminal();
  const code = await main(words, terminal);
  return { code, text: terminal.written.join(""), results: terminal.results };
}

describe("weightFormat", () => {
  it("takes dtype and its short forms, and refuses a contradiction", () => {
    expect(weightFormat({})).toBe("float32");
    expect(weightFormat({ dtype: "bfloat16" })).toBe("bfloat16");
    expect(weightFormat({ dtype: "int8", loadIn8bit: true })).toBe("int8");
    expect(weightFormat({ loadIn4bit: true })).toBe("int4");
    expect(() => weightFormat({ dtype: "bfloat16", loadIn4bit: true })).toThrow(
      /dtype bfloat16 and loadIn4bit contradict/,
    );
    expect(() => weightFormat({ loadIn8bit: true, loadIn4bit: true })).toThrow(/contradict/);
  });
});

describe("ModelOpener", () => {
  const opener = async (options: ModelOptions) => new ModelOpener(options);
  const close = (o: ModelOpener) => {
    for (const model of o.opened) model.destroy();
  };

  it("keeps bases, references and reward models as asked, and trains adapters in f32", async () => {
    const o = await opener({ usePeft: true, loadIn4bit: true, rewardModelDtype: "int8" });
    const actor = await o.policy(policy, "actor");
    const reference = await o.frozenPolicy(policy);
    const reward = await o.frozenScorer(judge);
    const critic = await o.scorer(judge, "critic");
    expect([actor, reference, reward, critic].map((m) => m.store.format)).toEqual([
      "float32",
      "int4",
      "int8",
      "float32",
    ]);
    expect(o.opened).toHaveLength(4); // the reference is the actor's base, the reward model the critic's
    close(o);
  });

  it("keeps the reference of a policy that is trained whole as asked", async () => {
    const o = await opener({ refModelDtype: "bfloat16" });
    expect((await o.policy(policy)).store.format).toBe("float32");
    expect((await o.frozenPolicy(policy)).store.format).toBe("bfloat16");
    expect((await o.frozenScorer(judge)).store.format).toBe("float32");
    close(o);
  });

  it("refuses formats that cannot apply", async () => {
    const whole = await opener({ dtype: "int8" });
    await expect(whole.policy(policy)).rejects.toThrow(/kept as int8, which cannot be trained.*with usePeft/);
    await expect(whole.scorer(judge)).rejects.toThrow(/cannot be trained/);
    const shared = await opener({ usePeft: true, dtype: "int8", refModelDtype: "float32" });
    await shared.policy(policy);
    await expect(shared.frozenPolicy(policy)).rejects.toThrow(/serves several models here and is kept as int8/);
    await expect(openReward("builtin:world", { rewardModelDtype: "int4" })).rejects.toThrow(
      /builtin:world has no weights/,
    );
    close(shared);
  });
});

describe("the verbs", { timeout: 60_000 }, () => {
  const world = ["--dataset_name", "builtin:world", "--max_train_samples", "16"];

  it("train an adapter on a base in int8, and sample from it with the base in int8 again", async () => {
    const sft = ["sft", "--model_name_or_path", policy, "--use_peft", "--load_in_8bit", ...world, "--max_steps", "2"];
    const { code, text } = await run(...sft, "--output_dir", out, "--max_eval_samples", "4");
    expect(code, text).toBe(0);
    const config = JSON.parse(await readFile(join(out, "adapter_config.json"), "utf8"));
    expect(config.base_model_name_or_path).toBe(policy);
    const words = ["--model_name_or_path", out, "--load_in_8bit", "--num_prompts", "2", "--max_new_tokens", "4"];
    const sampled = await run("generate", ...words);
    expect(sampled.code, sampled.text).toBe(0);
    expect(sampled.results).toHaveLength(2);
  });

  it("train in half precision, whole and by an adapter on an int8 base, and report the loss scale", async ({
    skip,
  }) => {
    if (!caps().f16) return skip("no shader-f16");
    for (const more of [[], ["--use_peft", "--load_in_8bit"]]) {
      const to = `${out}-${more.length}`;
      const { code, text } = await run(
        ...["reward", "--model_name_or_path", policy, "--fp16", ...more, ...world, "--max_steps", "2"],
        ...["--output_dir", to, "--max_eval_samples", "4"],
      );
      expect(code, text).toBe(0);
      const log = await readFile(join(to, "metrics.jsonl"), "utf8");
      const steps = log
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line));
      expect(steps.filter((step) => step.loss_scale === 65536)).toHaveLength(2);
    }
  });

  it("sample, chat and judge in half precision, and say that bfloat16 is none", async ({ skip }) => {
    if (!caps().f16) return skip("no shader-f16");
    const asked = ["--model_name_or_path", policy, "--prompt", "Once there was", "--max_new_tokens", "4"];
    const sampled = [[], ["--fp16"], ["--fp16", "--dtype", "float16"]].map(async (more) => {
      const { code, text, results } = await run("generate", ...asked, "--logprobs", "0", ...more);
      expect(code, text).toBe(0);
      return JSON.parse(results[0]).logprobs[0] as number;
    });
    const [exact, half, kept] = await Promise.all(sampled);
    for (const one of [half, kept]) {
      expect(one).not.toBe(exact);
      expect(one).toBeCloseTo(exact, 2);
    }
    const models = ["--model_name_or_path", policy, "--reward_model_path", judge];
    const { code, text } = await run(
      ...[
        "evaluate",
        ...models,
        "--fp16",
        "--bf16",
        "--num_prompts",
        "2",
        "--response_length",
        "4",
        "--output_dir",
        out,
      ],
    );
    expect(code, text).toBe(0);
    expect(text).toContain("no effect here: bf16");
    for (const verb of ["chat", "serve", "score", "annotate"]) {
      const { code, text } = await run(verb, "--fp16", "--bf16", "--model_name_or_pat", "x");
      expect(code).toBe(1);
      expect(text).not.toMatch(/[bf]f?16/);
    }
  });

  it("sample with a cache in 8 bits, and train from it, and leave it to servers how they keep theirs", async () => {
    const asked = ["--model_name_or_path", policy, "--prompt", "Once there was", "--max_new_tokens", "4"];
    const sampled = async (...more: string[]) => {
      const { code, text, results } = await run("generate", ...asked, "--temperature", "0", "--logprobs", "0", ...more);
      expect(code, text).toBe(0);
      return JSON.parse(results[0]).logprobs as number[];
    };
    const [exact, coded] = [await sampled(), await sampled("--kv_cache_dtype", "int8")];
    expect(coded[0]).toBe(exact[0]);
    expect(coded[1]).not.toBe(exact[1]);
    expect(coded[1]).toBeCloseTo(exact[1], 2);
    const elsewhere = await run(
      "generate",
      "--server",
      "http://127.0.0.1:1",
      "--prompt",
      "x",
      "--kv_cache_dtype",
      "int8",
    );
    expect(elsewhere.code).toBe(1);
    expect(elsewhere.text).toMatch(/--kv_cache_dtype has no effect together with --server/);
    const { code, text } = await run(
      ...["grpo", "--model_name_or_path", policy, "--reward_model_path", judge, "--kv_cache_dtype", "int8", ...world],
      ...["--max_steps", "1", "--num_generations", "2", "--per_device_train_batch_size", "4", "--response_length", "4"],
      ...["--output_dir", out],
    );
    expect(code, text).toBe(0);
    for (const verb of ["generate", "chat", "serve", "evaluate", "ppo", "raft", "iterate"]) {
      expect((await run(verb, "--help")).results.join("\n"), verb).toContain("--kv_cache_dtype");
    }
    for (const verb of ["sft", "dpo", "score"]) {
      expect((await run(verb, "--help")).results.join("\n"), verb).not.toContain("--kv_cache_dtype");
    }
  });

  it("train PPO in half precision, and report both loss scales", async ({ skip }) => {
    if (!caps().f16) return skip("no shader-f16");
    const { code, text } = await run(
      ...["ppo", "--model_name_or_path", policy, "--reward_model_path", judge, "--fp16", ...world],
      ...["--max_steps", "2", "--rollout_batch_size", "4", "--response_length", "4", "--output_dir", out],
    );
    expect(code, text).toBe(0);
    const lines = (await readFile(join(out, "metrics.jsonl"), "utf8")).trim().split("\n");
    const steps = lines.map((line) => JSON.parse(line)).filter((line) => line.loss_scale !== undefined);
    expect(steps.map((step) => [step.loss_scale, step.critic_loss_scale])).toEqual([
      [65536, 65536],
      [65536, 65536],
    ]);
  });

  it("evaluate a policy and a reward model in few bits", async () => {
    const models = ["--model_name_or_path", policy, "--reward_model_path", judge, "--ref_model_name_or_path", policy];
    const { code, text } = await run(
      ...["evaluate", ...models, "--dtype", "bfloat16", "--reward_model_dtype", "int8"],
      ...["--num_prompts", "2", "--response_length", "4", "--output_dir", out],
    );
    expect(code, text).toBe(0);
    const { policy: result } = JSON.parse(await readFile(join(out, "evaluation.json"), "utf8"));
    expect(result.kl).toBeCloseTo(0, 5); // policy and reference are the same weights
  });

  it("refuse to train what is kept in few bits", async () => {
    for (const words of [
      ["sft", "--model_name_or_path", policy, "--dtype", "int8"],
      ["sft", "--dtype", "bfloat16"],
      ["reward", "--model_name_or_path", policy, "--load_in_4bit"],
    ]) {
      const { code, text } = await run(...words, ...world, "--output_dir", out);
      expect(code).toBe(1);
      expect(text).toMatch(/cannot be trained: train an adapter on it with --use_peft/);
    }
  });
});
