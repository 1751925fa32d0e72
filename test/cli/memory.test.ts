/** The estimate of `webrlhf doctor` against what the same runs really hold. */

import { beforeAll, describe, expect, it } from "vitest";
import { openDevice } from "webrlhf";
import { offloadLevels, onCommandLine } from "webrlhf/rlhf";
import { looseOptions } from "../../src/cli/verbs/doctor/loose-options.ts";
import { whatWouldFit } from "../../src/open/estimate/fit.ts";
import { estimateMemory } from "../../src/open/estimate/memory.ts";
import { type MemoryPlan, planOf as planFor, type Stage } from "../../src/open/estimate/plan.ts";
import { estimateOverHeld, lora, tinyPlan as plan, teacher } from "./tiny-runs.ts";

const { config } = plan;
const planOf = (
  stage: Stage,
  given: Record<string, string>,
  ...rest: [typeof config, { promptLength: number; adapter: null }]
) => planFor(stage, onCommandLine(given), ...rest);

beforeAll(() => openDevice());

describe("the memory estimate", () => {
  it.each<[string, Partial<MemoryPlan>]>([
    ["sft", {}],
    ["sft with an adapter", { lora }],
    ["sft with gradient checkpointing", { checkpointing: true }],
    ["sft in f16", { half: true }],
    ["reward", { stage: "reward" }],
    ["sft in two passes", { accumulation: 2, batchSize: 3 }],
    ["cost", { stage: "cost" }],
    ["pairwise", { stage: "pairwise" }],
    ["dpo", { stage: "dpo" }],
    [
      "dpo that predicts prompts, too, in two passes",
      { stage: "dpo", dpo: { rpoAlpha: 1 }, batchSize: 3, accumulation: 2 },
    ],
    ["dpo with an adapter", { stage: "dpo", lora }],
    ["dpo of an adapter's folder", { stage: "dpo", lora, adapted: true }],
    ["dpo on numbers of the policy itself", { stage: "dpo", precompute: true, reference: null }],
    ["dpo on numbers of another model", { stage: "dpo", precompute: true }],
    ["kto", { stage: "kto" }],
    ["orpo", { stage: "orpo" }],
    ["cpo", { stage: "cpo" }],
  ])("is within 5 percent of what is held: %s", async (_, change) => {
    expect(Math.abs((await estimateOverHeld({ ...plan, ...change })) - 1)).toBeLessThan(0.05);
  });

  it("adds up, and knows what adapters and checkpointing save", async () => {
    const whole = await estimateMemory({ ...plan, stage: "ppo", batchSize: 16 });
    expect(Object.values(whole.byKind).reduce((a, b) => a + b, 0)).toBe(whole.total);
    const adapters = await estimateMemory({ ...plan, stage: "ppo", batchSize: 16, lora });
    expect(adapters.byKind.weights).toBeLessThan(0.5 * whole.byKind.weights);
    expect(adapters.byKind.moments).toBeLessThan(0.5 * whole.byKind.moments);
    const less = await estimateMemory({ ...plan, stage: "ppo", batchSize: 16, checkpointing: true });
    expect(less.byKind.activations).toBeLessThan(whole.byKind.activations);
  });

  it("says what cannot be bound here", async () => {
    const { refused } = await estimateMemory({ ...plan, config: { ...config, vocabSize: 2 ** 28 } });
    expect(refused).toMatch(/decoder\.embed\.weight.*needs .* but one (buffer|binding) of this adapter holds at most/);
  });
});

describe("what would fit", () => {
  const given = { per_device_train_batch_size: "12", max_length: "32", max_eval_samples: "1" };
  const about = { promptLength: 8, adapter: null };

  it("reads a trainer's options as the trainer does", () => {
    expect(looseOptions(["--a", "1", "--use_peft", "--b=2", "--c"])).toEqual({
      a: "1",
      use_peft: "true",
      b: "2",
      c: "true",
    });
    expect(() => looseOptions(["x"])).toThrow('"x" is not an option');
    expect(() => planOf("sft", { learning_rat: "1" }, config, about)).toThrow("learning_rat");
    expect(planOf("sft", given, config, about)).toMatchObject({ batchSize: 12, length: 32, lora: null, prompts: 0 });
    expect(planOf("ppo", { use_peft: "true", response_length: "16" }, config, about)).toMatchObject({
      lora: { rank: 16, alpha: 32 },
      length: 24,
      responseLength: 16,
      prompts: 64,
      rewardModels: 1,
      reference: "start",
    });
    expect(planOf("ppo", { max_length: "20" }, config, about)).toMatchObject({ length: 28, responseLength: 20 });
    expect(planOf("ppo", { dialect: "safe", max_length: "20" }, config, about)).toMatchObject({ length: 20 });
    expect(planOf("raft", { reward_model_path: "builtin:world" }, config, about)).toMatchObject({
      samples: 5,
      rewardModels: 0,
    });
  });

  it("knows what each trainer has beside the policy", () => {
    const planned = (stage: Stage, options: Record<string, string> = {}) => planOf(stage, options, config, about);
    expect(planned("orpo").reference).toBeNull();
    expect(planned("dpo")).toMatchObject({ reference: "start", precompute: false, batchSize: 8, length: 64 });
    const measured = { precompute_ref_log_probs: "true" };
    expect(planned("dpo", measured)).toMatchObject({ reference: null, precompute: true });
    expect(planned("dpo", { ...measured, ref_model: "other" })).toMatchObject({ reference: "other", precompute: true });
    expect(planned("grpo").reference).toBeNull();
    const group = { beta: "0.1", reward_funcs: "more,builtin:world,http://x", per_device_train_batch_size: "16" };
    expect(planned("grpo", group)).toMatchObject({ reference: "start", rewardModels: 2, prompts: 2, samples: 8 });
    expect(() => planned("rloo", { generation_batch_size: "9" })).toThrow(/no multiple of --num_generations/);
    expect(planned("iterate", { prompts_per_iteration: "20", k: "4" })).toMatchObject({ prompts: 20, samples: 4 });
    const turns = {
      offload_level: "freeze_model optimizer",
      ema_beta: "0.99",
      ptx_dataset_name: "x",
      max_ptx_length: "9",
    };
    expect(planned("ppo", { ...turns, reward_server: "http://x" })).toMatchObject({
      offload: ["freeze_model", "optimizer"],
      average: true,
      ptxLength: 9,
      rewardModels: 0,
    });
    expect(() => planned("ppo", { offload_level: "all" })).toThrow(/offload_level knows freeze_model/);
  });

  it("quantizes a teacher before it takes adapters", async () => {
    const taught = { promptLength: 8, adapter: null, teacher };
    const given = { teacher_model: "large", response_length: "8" };
    const chosen = planFor("distill", onCommandLine(given), config, taught);
    expect(chosen).toMatchObject({ prompts: 8, length: 16, responseLength: 8, evalExamples: 0, reference: null });
    expect(() => planOf("distill", { response_length: "8" }, config, about)).toThrow("teacher_model_name_or_path");
    const { total } = await estimateMemory({ ...chosen, batchSize: 1, accumulation: 8, checkpointing: true });
    expect((await whatWouldFit(chosen, total - 1))?.flags).toMatch(/ --ref_model_dtype int8$/);
  });

  it("names turns before adapters for PPO, and two answers at least for KTO", async () => {
    const ppo = { ...plan, stage: "ppo" as const, batchSize: 1, checkpointing: true };
    const { total } = await estimateMemory({ ...ppo, offload: offloadLevels });
    expect((await whatWouldFit(ppo, total))?.flags).toBe(`--offload_level ${offloadLevels.join(",")}`);
    const kto = { ...plan, stage: "kto" as const, checkpointing: true };
    const two = await estimateMemory({ ...kto, batchSize: 2, accumulation: 3 });
    const flags = "--per_device_train_batch_size 2 --gradient_accumulation_steps 3";
    expect((await whatWouldFit(kto, two.total))?.flags).toBe(flags);
  });

  it("names the cheapest change that is enough", async () => {
    const chosen = planOf("sft", given, config, about);
    const { total } = await estimateMemory(chosen);
    const remedy = await whatWouldFit(chosen, total * 0.9);
    expect(remedy?.flags).toBe("--per_device_train_batch_size 4 --gradient_accumulation_steps 3");
    expect(remedy?.estimate.total).toBeLessThan(total * 0.9);
    expect(await whatWouldFit(chosen, 1000)).toBeNull();
  });
});
