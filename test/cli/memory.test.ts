/** The estimate of `webrlhf doctor` against what the same runs really hold. */
import { beforeAll, describe, expect, it } from "vitest";
import { looseOptions, planOf, whatWouldFit } from "../../src/cli/verbs/doctor/fit.ts";
import { estimateMemory, type MemoryPlan } from "../../src/cli/verbs/doctor/memory.ts";
import { caps, closeDevice, openDevice } from "../../src/gpu/device.ts";
import { stats } from "../../src/gpu/stream.ts";
import { decoderConfig } from "../../src/nn/config.ts";
import { CausalLM, ScoreModel } from "../../src/nn/models.ts";
import type { TrainEvent } from "../../src/rlhf/events.ts";
import { ppoDefaults } from "../../src/rlhf/ppo/options.ts";
import { trainPpo } from "../../src/rlhf/ppo/ppo.ts";
import { raftDefaults } from "../../src/rlhf/raft/options.ts";
import { trainRaft } from "../../src/rlhf/raft/raft.ts";
import { trainReward } from "../../src/rlhf/reward/reward.ts";
import { modelReward } from "../../src/rlhf/rollout.ts";
import { trainSft } from "../../src/rlhf/sft.ts";
import { trainingDefaults } from "../../src/rlhf/training.ts";
import { tokenizer } from "../rlhf/tiny.ts";

const config = decoderConfig({
  family: "llama",
  vocabSize: tokenizer.vocabSize,
  hiddenSize: 32,
  layers: 3,
  heads: 4,
  kvHeads: 2,
  maxPositions: 64,
  tieEmbeddings: false,
  eosId: null,
});
const lora = { rank: 4, alpha: 8, targets: "all-linear" as const, dropout: 0.1 };
const plan: MemoryPlan = {
  stage: "sft",
  config,
  lora: null,
  format: "float32",
  rewardModel: true,
  checkpointing: false,
  half: false,
  batchSize: 6,
  length: 40,
  responseLength: 10,
  prompts: 8,
  samples: 2,
  evalExamples: 0,
};

const random = (n: number, i: number) => Uint32Array.from({ length: n }, (_, k) => 3 + ((k * 7 + i * 13) % 300));
const example = (i: number) => ({ ids: random(plan.length, i), promptLength: plan.length - plan.responseLength });
const many = <R>(n: number, make: (i: number) => R): R[] => Array.from({ length: n }, (_, i) => make(i));
const prompts = many(8, (i) => ({ text: "", ids: random(plan.length - plan.responseLength, i) }));

/** The most that a trainer held after any of its steps, in bytes; in the end it frees its optimizer. */
async function mostHeld(events: AsyncGenerator<TrainEvent>): Promise<number> {
  let most = 0;
  for await (const _ of events) most = Math.max(most, stats().poolBytes);
  return most;
}

/** The plan's run with the real trainer, two steps of it. */
async function reallyRun(p: MemoryPlan): Promise<number> {
  const base = new CausalLM(p.config, "base").initialize(1);
  base.gradientCheckpointing = p.checkpointing;
  const policy = p.lora ? new CausalLM({ base, lora: p.lora }).initialize(2) : base;
  const common = { ...trainingDefaults, maxSteps: 2, batchSize: p.batchSize, learningRate: 1e-4, fp16: p.half };
  if (p.stage === "sft") {
    return mostHeld(trainSft(policy, { ...common, train: many(12, (i) => ({ ...example(i), promptLength: 0 })) }));
  }
  if (p.stage === "reward") {
    base.destroy();
    const model = new ScoreModel(p.config).initialize(1);
    const pair = (i: number) => ({ chosen: random(40, i), rejected: random(40, i + 1), promptLength: 30 });
    const train = many(12, pair) as unknown as Parameters<typeof trainReward>[1]["train"];
    return mostHeld(trainReward(model, { ...common, train }));
  }
  const reference = p.lora ? base : new CausalLM(p.config).initialize(1);
  const scorer = (seed: number) => new ScoreModel(p.lora ? { base, lora: p.lora } : p.config).initialize(seed);
  const reward = modelReward(scorer(3));
  const inputs = { reference, reward, tokenizer, prompts };
  if (p.stage === "raft") {
    const sizes = { raftBatchSize: 8, topRewardPercentage: 0.5, responseLength: p.responseLength, epochs: 1 };
    return mostHeld(trainRaft({ ...inputs, model: policy }, { ...raftDefaults, ...common, ...sizes }));
  }
  const sizes = { promptsPerRollout: p.prompts, samplesPerPrompt: p.samples, responseLength: p.responseLength };
  return mostHeld(trainPpo({ ...inputs, actor: policy, critic: scorer(4) }, { ...ppoDefaults(), ...common, ...sizes }));
}

beforeAll(() => openDevice());

describe("the memory estimate", () => {
  it.each<[string, Partial<MemoryPlan>]>([
    ["sft", {}],
    ["sft with an adapter", { lora }],
    ["sft with gradient checkpointing", { checkpointing: true }],
    ["sft in f16", { half: true }],
    ["reward", { stage: "reward" }],
    ["ppo", { stage: "ppo" }],
    ["ppo with adapters on one base", { stage: "ppo", lora }],
    ["raft", { stage: "raft" }],
  ])("is within 5 percent of what is held: %s", async (_, change) => {
    const chosen = { ...plan, ...change, half: change.half === true && caps().f16 };
    const { byKind, total, refused } = await estimateMemory(chosen);
    expect(refused).toBeNull();
    closeDevice();
    await openDevice();
    const held = await reallyRun(chosen);
    const ratio = (total - byKind.transfers) / held;
    expect(ratio).toBeGreaterThan(0.95);
    expect(ratio).toBeLessThan(1.05);
    closeDevice();
    await openDevice();
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
      rewardModel: true,
    });
    expect(planOf("raft", { reward_model_path: "builtin:world" }, config, about)).toMatchObject({
      samples: 5,
      rewardModel: false,
    });
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
