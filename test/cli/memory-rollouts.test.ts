/** The memory estimates of the trainers that sample, against what the same runs really hold. */
import { describe, expect, it } from "vitest";
import type { MemoryPlan } from "../../src/open/estimate/plan.ts";
import { estimateOverHeld, lora, tinyPlan as plan, teacher } from "./tiny-runs.ts";

const distilled = (learned: Partial<NonNullable<MemoryPlan["teacher"]>["learned"]>): Partial<MemoryPlan> => ({
  stage: "distill",
  prompts: 6,
  samples: 1,
  teacher: { config: teacher, learned: { beta: 1, lmbda: 1, seqKd: false, ...learned } },
});

describe("the memory estimate of rollouts", () => {
  it.each<[string, Partial<MemoryPlan>]>([
    ["ppo", { stage: "ppo" }],
    ["ppo in f16", { stage: "ppo", half: true }],
    ["ppo with a cache in 8 bits", { stage: "ppo", kvCache: "int8" }],
    ["raft with a cache in 8 bits", { stage: "raft", kvCache: "int8" }],
    ["ppo with adapters on one base", { stage: "ppo", lora }],
    ["raft", { stage: "raft" }],
    ["grpo without a reference", { stage: "grpo", reference: null }],
    ["grpo with two rewards", { stage: "grpo", rewardModels: 2 }],
    ["rloo with an adapter", { stage: "rloo", lora }],
    ["reinforce", { stage: "reinforce", samples: 1 }],
    ["iterate", { stage: "iterate" }],
    ["grpo in f16", { stage: "grpo", half: true }],
    ["iterate in f16", { stage: "iterate", half: true }],
    ["ppo with all by turns", { stage: "ppo", offload: ["freeze_model", "optimizer", "train_model"] }],
    ["ppo with moments by turns", { stage: "ppo", offload: ["optimizer"], batchSize: 2 }],
    [
      "ppo with an average, supervised sequences and evaluations",
      { stage: "ppo", average: true, ptxLength: 20, evalExamples: 16 },
    ],
    ["distill", distilled({ lmbda: 1 })],
    ["distill with an adapter, in two passes", { ...distilled({ lmbda: 1 }), lora, accumulation: 2, batchSize: 3 }],
    ["distill from the teacher's responses", distilled({ lmbda: 0, seqKd: true })],
    ["distill from the data's answers", distilled({ lmbda: 0 })],
    ["distill with evaluations", { ...distilled({ lmbda: 1 }), evalExamples: 16 }],
  ])("is within 5 percent of what is held: %s", async (_, change) => {
    expect(Math.abs((await estimateOverHeld({ ...plan, ...change })) - 1)).toBeLessThan(0.05);
  });
});
