/** Real runs of every trainer on a tiny model, and the most memory that they hold. */

import { caps, closeDevice, memoryFiles, openDevice } from "webrlhf";
import { CausalLM, decoderConfig, ScoreModel } from "webrlhf/nn";
import * as rlhf from "webrlhf/rlhf";
import { device } from "../../src/gpu/device.ts";
import { estimateMemory } from "../../src/open/estimate/memory.ts";
import type { MemoryPlan } from "../../src/open/estimate/plan.ts";
import { tokenizer } from "../rlhf/tiny.ts";

const shape = {
  family: "llama",
  vocabSize: tokenizer.vocabSize,
  hiddenSize: 32,
  layers: 3,
  heads: 4,
  kvHeads: 2,
  maxPositions: 64,
  tieEmbeddings: false,
  eosId: null,
} as const;
const config = decoderConfig(shape);

/** An adapter for it. */
export const lora = { rank: 4, alpha: 8, targets: "all-linear" as const, dropout: 0.1 };

/** SFT of the tiny model. */
export const tinyPlan: MemoryPlan = {
  stage: "sft",
  config,
  lora: null,
  adapted: false,
  format: "float32",
  referenceFormat: "auto",
  rewardFormat: "auto",
  reference: "start",
  precompute: false,
  rewardModels: 1,
  checkpointing: false,
  criticCheckpointing: false,
  half: false,
  kvCache: "auto",
  optim: "adamw_torch",
  batchSize: 6,
  accumulation: 1,
  length: 40,
  responseLength: 10,
  prompts: 8,
  samples: 2,
  evalExamples: 0,
  dpo: {},
  offload: [],
  average: false,
  ptxLength: 0,
  teacher: null,
};

/** A teacher that is larger than the tiny model. */
export const teacher = decoderConfig({ ...shape, hiddenSize: 64, layers: 4, tieEmbeddings: true });

const many = <R>(n: number, make: (i: number) => R): R[] => Array.from({ length: n }, (_, i) => make(i));
const random = (n: number, i: number) => Uint32Array.from({ length: n }, (_, k) => 3 + ((k * 7 + i * 13) % 300));
const promptLength = tinyPlan.length - tinyPlan.responseLength;
const pair = (i: number) => ({
  chosen: random(tinyPlan.length, 2 * i),
  rejected: random(tinyPlan.length, 2 * i + 1),
  promptLength,
  safety: { chosen: true, rejected: false },
});
const example = (i: number) => ({ ids: random(tinyPlan.length, i), promptLength });
const prompts = many(16, (i) => ({ text: `${i}`, ids: random(promptLength, i) }));

/** A plan's estimate over what its run holds at its peak, transfers apart. Half precision only where the GPU has it. */
export async function estimateOverHeld(plan: MemoryPlan): Promise<number> {
  closeDevice();
  await openDevice();
  const chosen = { ...plan, half: plan.half && caps().f16 };
  const { byKind, total, refused } = await estimateMemory(chosen);
  if (refused) throw new Error(refused);
  return (total - byKind.transfers) / (await mostHeld(() => reallyRun(chosen)));
}

/** What travels between the host and the GPU: how much of it there is depends on how fast the GPU is. */
const transfer = /^(upload staging|readback|scalar arena)$/;

/** The most that is alive at once, in bytes, while `work` runs on the open device; transfers apart. */
async function mostHeld(work: () => Promise<void>): Promise<number> {
  const gpu = device();
  const create = gpu.createBuffer;
  let [alive, most] = [0, 0];
  gpu.createBuffer = (wanted) => {
    const buffer = create.call(gpu, wanted);
    if (transfer.test(wanted.label ?? "")) return buffer;
    alive += wanted.size;
    most = Math.max(most, alive);
    const destroy = buffer.destroy;
    buffer.destroy = () => {
      alive -= wanted.size;
      return destroy.call(buffer);
    };
    return buffer;
  };
  await work();
  gpu.createBuffer = create;
  return most;
}

async function toTheEnd(events: AsyncGenerator<rlhf.TrainEvent>): Promise<void> {
  for await (const _ of events);
}

/** Two steps (rollouts, iterations) of the plan's trainer. */
async function reallyRun(p: MemoryPlan): Promise<void> {
  const common = {
    maxSteps: 2,
    perDeviceTrainBatchSize: p.batchSize,
    gradientAccumulationSteps: p.accumulation,
    gradientCheckpointing: p.checkpointing,
    learningRate: 1e-4,
  };
  const half = { ...common, fp16: p.half };
  const online = { ...half, kvCacheDtype: p.kvCache };
  const pairs = { train: many(12, pair) };
  if (p.stage === "reward" || p.stage === "cost") {
    const model = new ScoreModel(p.config).initialize(1);
    return toTheEnd((p.stage === "cost" ? rlhf.trainCost : rlhf.trainReward)({ model }, pairs, half));
  }
  const base = new CausalLM(p.config, "base").initialize(1);
  base.gradientCheckpointing = p.checkpointing;
  const another = () => (p.lora ? new CausalLM({ base, lora: p.lora }) : new CausalLM(p.config)).initialize(2);
  const policy = p.lora ? another() : base;
  const referenceOf = () => (p.reference === null ? null : p.lora && !p.adapted ? base : another());
  const scorer = (seed: number) => new ScoreModel(p.lora ? { base, lora: p.lora } : p.config).initialize(seed);
  const answers = (i: number) => ({
    orders: [random(p.length, i), random(p.length, i + 1)] as const,
    side: 0 as const,
  });
  switch (p.stage) {
    case "sft":
      return toTheEnd(
        rlhf.trainSft({ policy }, { train: many(12, (i) => ({ ...example(i), promptLength: 0 })) }, half),
      );
    case "pairwise":
      return toTheEnd(
        rlhf.trainPairwise({ policy, writer: { letters: [5, 6], idOf: () => 7 } }, { train: many(12, answers) }, half),
      );
    case "orpo":
      return toTheEnd(rlhf.trainOrpo({ policy }, pairs, half));
    case "cpo":
      return toTheEnd(rlhf.trainCpo({ policy }, pairs, half));
    case "kto": {
      const train = many(12, (i) => ({ ...example(i), label: i % 2 === 0 }));
      return toTheEnd(rlhf.trainKto({ policy, reference: referenceOf() as CausalLM }, { train }, half));
    }
    case "dpo": {
      const model = referenceOf();
      const measured = { ...half, ...p.dpo, precomputeRefLogProbs: p.precompute };
      const train = many(p.precompute ? 64 : 12, pair);
      return toTheEnd(rlhf.trainDpo({ policy, ...(model && { reference: model }) }, { train }, measured));
    }
    case "raft": {
      const models = { policy, reference: referenceOf() as CausalLM, rewards: rlhf.modelReward(scorer(3)), tokenizer };
      const sizes = {
        cleanText: "none" as const,
        discardSample: "none" as const,
        raftBatchSize: 8,
        topRewardPercentage: 0.5,
        responseLength: p.responseLength,
        numTrainEpochs: 1,
      };
      return toTheEnd(rlhf.trainRaft(models, { train: prompts }, { ...online, ...sizes }));
    }
    case "distill": {
      const { config: taught, learned } = p.teacher as NonNullable<MemoryPlan["teacher"]>;
      const models = { policy, teacher: new CausalLM(taught, "teacher").initialize(5), tokenizer };
      const data = { train: prompts.map((one) => ({ ...one, target: "cat ".repeat(40) })), eval: prompts };
      const evalSteps = p.evalExamples > 0 ? 1 : 0;
      const own = { ...online, ...learned, responseLength: p.responseLength, evalSteps };
      return toTheEnd(rlhf.trainDistill(models, { ...data, eval: prompts.slice(0, p.evalExamples) }, own));
    }
    case "ppo":
      return ppo(p, policy, another, scorer);
    case "iterate":
      return iterate(p, policy, referenceOf() as CausalLM, scorer(3));
    default: {
      const rewards = Object.fromEntries(many(p.rewardModels, (i) => [`reward ${i}`, rlhf.modelReward(scorer(3 + i))]));
      const models = { policy, reference: referenceOf(), rewards, tokenizer };
      const data = { train: prompts };
      const sizes = {
        generationBatchSize: p.prompts * p.samples,
        numGenerations: p.samples,
        responseLength: p.responseLength,
      };
      const own = { ...online, ...sizes, beta: models.reference ? 0.1 : 0 };
      if (p.stage === "grpo") return toTheEnd(rlhf.trainGrpo(models, data, own));
      if (p.stage === "rloo") return toTheEnd(rlhf.trainRloo(models, data, own));
      return toTheEnd(rlhf.trainReinforce(models, data, own));
    }
  }
}

/** Models go aside as they are opened, as the verb has it. */
async function ppo(p: MemoryPlan, policy: CausalLM, another: () => CausalLM, scorer: (seed: number) => ScoreModel) {
  const average = p.average ? another() : undefined;
  const reference = p.lora ? (policy.baseModel as CausalLM) : another();
  const rewards = rlhf.modelReward(scorer(3));
  if (p.offload.includes("freeze_model")) await reference.store.resident.evict();
  if (p.offload.includes("train_model")) for (const model of [policy, average]) await model?.store.resident.evict();
  const critic = scorer(4);
  critic.gradientCheckpointing = p.criticCheckpointing;
  const ptx = many(12, (i) => ({ ids: random(p.ptxLength, i), promptLength: 0 }));
  const models = { policy, reference, rewards, critic, tokenizer, ...(average && { average }) };
  const options = {
    maxSteps: 2,
    perDeviceTrainBatchSize: p.batchSize,
    learningRate: 1e-4,
    fp16: p.half,
    kvCacheDtype: p.kvCache,
    rolloutBatchSize: p.prompts,
    numGenerations: p.samples,
    responseLength: p.responseLength,
    offloadLevel: p.offload,
    emaBeta: p.average ? 0.9 : null,
    evalSteps: p.evalExamples > 0 ? 1 : 0,
  };
  const evalPrompts = prompts.slice(0, p.evalExamples);
  const data = { train: prompts, eval: evalPrompts, ...(p.ptxLength > 0 && { ptx }) };
  await toTheEnd(rlhf.trainPpo(models, data, options));
}

async function iterate(p: MemoryPlan, policy: CausalLM, initial: CausalLM, model: ScoreModel) {
  const options = {
    ...p.dpo,
    iterations: 2,
    promptsPerIteration: p.prompts,
    numGenerations: p.samples,
    responseLength: p.responseLength,
    reference: "previous" as const,
    showSamples: 0,
    numTrainEpochs: 1,
    perDeviceTrainBatchSize: p.batchSize,
    learningRate: 1e-4,
    fp16: p.half,
    kvCacheDtype: p.kvCache,
  };
  const folder = { files: memoryFiles(), path: "out" };
  const models = { policy, initial, tokenizer, rewards: rlhf.modelReward(model) };
  await toTheEnd(rlhf.trainIteratively(models, { train: prompts }, options, { folder }));
}
