/**
 * Rehearsals: the real trainers on data as long as the settings allow, for a step or two. Those that sample get a sampler
 * that draws nothing, so that responses are made up, as long as they may be; what drawing takes is taken all the same.
 */
import { CausalLM, type Model, ScoreModel } from "../../nn/models.ts";
import type { TextTokenizer } from "../../nn/text-tokenizer.ts";
import { trainCpo } from "../../rlhf/cpo.ts";
import { trainDistill } from "../../rlhf/distill.ts";
import { trainDpo } from "../../rlhf/dpo.ts";
import type { TrainEvent } from "../../rlhf/events.ts";
import { trainGrpo } from "../../rlhf/grpo.ts";
import { trainIteratively } from "../../rlhf/iterate.ts";
import { trainKto } from "../../rlhf/kto.ts";
import { trainOrpo } from "../../rlhf/orpo.ts";
import { trainPairwise } from "../../rlhf/pairwise/train.ts";
import { trainPpo } from "../../rlhf/ppo.ts";
import { trainRaft } from "../../rlhf/raft.ts";
import { trainReinforce } from "../../rlhf/reinforce.ts";
import { trainCost, trainReward } from "../../rlhf/reward.ts";
import { modelReward, type RewardFunction } from "../../rlhf/rewards.ts";
import { trainRloo } from "../../rlhf/rloo.ts";
import { policySampler, type Sampler } from "../../rlhf/sampler.ts";
import { trainSft } from "../../rlhf/sft.ts";
import type { Files } from "../../runtime/files.ts";
import type { WeightFormat } from "../../tensor/quantize.ts";
import type { MemoryPlan } from "./plan.ts";

/** A dataset has as many pairs at least as are measured together. */
const PAIRS = 64;

/** Runs the plan's trainer. */
export async function rehearseRun(plan: MemoryPlan): Promise<void> {
  for await (const _ of await begin(plan));
}

async function begin(plan: MemoryPlan): Promise<AsyncGenerator<TrainEvent>> {
  const { stage, batchSize, half, evalExamples } = plan;
  const settings = {
    perDeviceTrainBatchSize: batchSize,
    gradientAccumulationSteps: Math.min(2, plan.accumulation), // the second pass shows what more take
    gradientCheckpointing: plan.checkpointing,
    optim: plan.optim,
  };
  const once = { ...settings, maxSteps: 1, fp16: half };
  const step = batchSize * settings.gradientAccumulationSteps;
  const both = <E>(make: (n: number) => E[], least = step) => {
    const all = make(Math.max(least, evalExamples));
    return { train: all.slice(0, Math.max(least, step)), eval: all.slice(0, evalExamples) };
  };
  const twoPairs = (n: number) => pairs(n, plan);
  if (stage === "reward" || stage === "cost") {
    const train = stage === "cost" ? trainCost : trainReward;
    return train({ model: scorerOf(plan) }, both(twoPairs), once);
  }
  const { policy, referenceOf } = languageModels(plan);
  switch (stage) {
    case "sft": {
      const texts = (n: number) => sequences(n, { ...plan, responseLength: plan.length });
      return trainSft({ policy }, both(texts), once);
    }
    case "pairwise": {
      const asked = (n: number) =>
        twoPairs(n).map(({ chosen, rejected }) => ({ orders: [chosen, rejected] as const, side: 0 as const }));
      const writer = { letters: [0, 1] as [number, number], idOf: () => 2 };
      return trainPairwise({ policy, writer }, both(asked), once);
    }
    case "dpo": {
      const measured = { ...plan.dpo, ...once, precomputeRefLogProbs: plan.precompute };
      const reference = referenceOf();
      const data = both(twoPairs, plan.precompute ? Math.max(PAIRS, step) : step);
      return trainDpo({ policy, ...(reference && { reference }) }, data, measured);
    }
    case "kto": {
      const answers = (n: number) => sequences(n, plan).map((s, i) => ({ ...s, label: i % 2 === 0 }));
      const models = { policy, reference: referenceOf() as CausalLM };
      return trainKto(models, both(answers), { ...once, maxLength: plan.length });
    }
    case "orpo":
      return trainOrpo({ policy }, both(twoPairs), once);
    case "cpo":
      return trainCpo({ policy }, both(twoPairs), once);
    case "distill":
      return distilled(plan, policy, { ...settings, fp16: half, kvCacheDtype: plan.kvCache, showSamples: 0 });
    default:
      return online(plan, policy, referenceOf(), {
        ...settings,
        fp16: half,
        kvCacheDtype: plan.kvCache,
        showSamples: 0,
      });
  }
}

/** The trainers that sample: two steps, since the second one samples beside what learning has left. */
async function online(
  plan: MemoryPlan,
  policy: CausalLM,
  reference: CausalLM | null,
  settings: object,
): Promise<AsyncGenerator<TrainEvent>> {
  const { stage, samples, responseLength } = plan;
  const tokenizer = { decode: () => "", encode: () => [] } as unknown as TextTokenizer;
  const judges = scorers(plan, "reward model", policy);
  const rewards = judges.length > 0 ? judges.map((judge) => ranked(modelReward(judge))) : [ranked()];
  const prompts = (n: number) =>
    sequences(n, plan).map(({ ids, promptLength }) => ({ text: "", ids: ids.slice(0, promptLength) }));
  const longest = { ...settings, maxSteps: 2, responseLength };
  const sampler = longestResponses(policy, plan);
  const models = { policy, rewards, tokenizer, sampler, ...(reference && { reference }) };
  const data = { train: prompts(plan.prompts), eval: prompts(plan.evalExamples) };
  const group = { ...longest, numGenerations: samples, beta: reference ? 0.1 : 0 };
  switch (stage) {
    case "grpo":
    case "rloo":
    case "reinforce": {
      const train = { grpo: trainGrpo, rloo: trainRloo, reinforce: trainReinforce }[stage];
      return train({ ...models, reference }, data, { ...group, generationBatchSize: plan.prompts * samples });
    }
    case "raft":
      return trainRaft(models, data, {
        ...longest,
        raftBatchSize: plan.prompts,
        topRewardPercentage: 1 / samples,
        numTrainEpochs: 1,
        maxPromptLength: plan.length,
        cleanText: "none",
        discardSample: "none",
        monitor: false,
      });
    case "iterate": {
      const own = {
        ...settings,
        ...plan.dpo,
        numTrainEpochs: 1,
        responseLength,
        numGenerations: samples,
      };
      const twice = { ...own, iterations: 2, promptsPerIteration: plan.prompts };
      const folder = { files: nowhere, path: "rehearsal" };
      const all = { train: prompts(2 * plan.prompts), eval: data.eval };
      return trainIteratively({ ...models, initial: reference as CausalLM }, all, twice, { folder });
    }
    default:
      return ppoRun(plan, models, data, { ...longest, numGenerations: samples });
  }
}

async function ppoRun(
  plan: MemoryPlan,
  models: { policy: CausalLM; rewards: RewardFunction[]; tokenizer: TextTokenizer; reference?: CausalLM },
  data: { train: { text: string; ids: Uint32Array }[]; eval: { text: string; ids: Uint32Array }[] },
  settings: object,
): Promise<AsyncGenerator<TrainEvent>> {
  const { config, lora, offload, ptxLength } = plan;
  const { policy, reference } = models;
  const another = () =>
    lora && policy.baseModel
      ? new CausalLM({ base: policy.baseModel, lora }, "moving average")
      : new CausalLM(config, "moving average");
  const average = plan.average ? another() : undefined;
  // Models leave in the order in which the verb opens them.
  const waits = (level: (typeof offload)[number]) => offload.includes(level) && !policy.baseModel;
  if (waits("freeze_model")) await reference?.store.resident.evict();
  if (waits("train_model")) for (const model of [policy, average]) await model?.store.resident.evict();
  const [critic] = scorers({ ...plan, rewardModels: 1, rewardFormat: "float32", format: "float32" }, "critic", policy);
  const sampler = longestResponses(average ?? policy, plan);
  const ptx =
    ptxLength > 0
      ? sequences(data.train.length * plan.samples, { config, length: ptxLength, responseLength: ptxLength })
      : undefined;
  return trainPpo(
    { ...models, critic, sampler, ...(average && { average }) },
    { ...data, ...(ptx && { ptx }) },
    {
      ...settings,
      rolloutBatchSize: plan.prompts,
      criticGradientCheckpointing: plan.criticCheckpointing,
      offloadLevel: offload,
      emaBeta: average ? 0.9 : null,
      evalSteps: plan.evalExamples > 0 ? 1 : 0,
    },
  );
}

/** Steps on what each writer writes that the settings ask for; where only some are the student's, those take most. */
async function* distilled(plan: MemoryPlan, policy: CausalLM, settings: object): AsyncGenerator<TrainEvent> {
  const { config: taught, learned } = plan.teacher as NonNullable<MemoryPlan["teacher"]>;
  const { format, referenceFormat, responseLength } = plan;
  const teacher = new CausalLM(taught, "teacher", referenceFormat === "auto" ? format : referenceFormat);
  const vocabSize = Math.min(plan.config.vocabSize, taught.vocabSize);
  const all = sequences(Math.max(plan.prompts, plan.evalExamples), { ...plan, config: { ...plan.config, vocabSize } });
  const answer = [...all[0].ids.subarray(all[0].promptLength)].map((id) =>
    plan.config.eosIds.includes(id) ? id + 1 : id,
  );
  const tokenizer = { decode: () => "", encode: () => answer, vocabSize } as unknown as TextTokenizer;
  const prompts = all.map(({ ids, promptLength }) => ({ text: "", target: "", ids: ids.slice(0, promptLength) }));
  const data = { train: prompts.slice(0, plan.prompts), eval: prompts.slice(0, plan.evalExamples) };
  const { lmbda, seqKd, beta } = learned;
  const writers = [
    ...(lmbda > 0 ? [{ lmbda: 1 }] : []),
    ...(lmbda < 1 && (seqKd || lmbda === 0) ? [{ lmbda: 0, seqKd }] : []),
  ];
  for (const writer of writers) {
    const own = { ...settings, ...writer, beta, responseLength, maxSteps: 2, evalSteps: plan.evalExamples > 0 ? 1 : 0 };
    yield* trainDistill({ policy, teacher, tokenizer, sampler: longestResponses(policy, plan) }, data, own);
  }
}

/** Draws nothing but takes what drawing takes; every response is as long as it may be. */
function longestResponses(model: CausalLM, plan: MemoryPlan): Sampler {
  const draw = policySampler(model, { decode: () => "" } as unknown as TextTokenizer);
  return async (prompts, promptIds, options) => {
    await draw(prompts, promptIds, { ...options, onResponses: undefined });
    const { samples = 1 } = options;
    const responses = sequences(prompts.length * samples, plan).map((sequence, i) => {
      const prompt = Math.floor(i / samples);
      const logProbs = new Float32Array(sequence.ids.length - sequence.promptLength);
      return { ...sequence, logProbs, prompt, sample: i % samples, promptText: "", text: `${i}`, ended: true };
    });
    await options.onResponses?.(responses);
    return responses;
  };
}

/** A reward whose numbers differ from response to response, so that there is something to choose from. */
function ranked(judge?: RewardFunction): RewardFunction {
  const reward: RewardFunction = async (responses) => {
    await judge?.(responses);
    return responses.map((_, i) => i);
  };
  if (judge?.residents) reward.residents = judge.residents;
  if (judge?.models) reward.models = judge.models;
  return reward;
}

/** Numbers in the model that the plan trains, and those of them that are trained: of an adapter, its own. */
export function countParameters(plan: MemoryPlan): { parameters: number; trained: number } {
  const whole = { ...plan, format: "float32" as const };
  const model = plan.stage === "reward" || plan.stage === "cost" ? scorerOf(whole) : languageModels(whole).policy;
  const count = (of: Model | null) => of?.store.parameters.reduce((sum, { size }) => sum + size, 0) ?? 0;
  return { parameters: count(model) + count(model.baseModel), trained: count(model) };
}

/** The policy and, for who asks, its reference. Adapters stand on one base. */
function languageModels(plan: MemoryPlan): { policy: CausalLM; referenceOf: () => CausalLM | null } {
  const { config, lora, format, adapted, referenceFormat } = plan;
  const base = lora ? new CausalLM(config, "base model", format) : new CausalLM(config, "policy");
  const policy = lora ? new CausalLM({ base, lora }, "policy") : base;
  const referenceOf = () => {
    if (plan.reference === null) return null;
    if (plan.reference === "start" && lora) return adapted ? new CausalLM({ base, lora }, "reference") : base;
    return new CausalLM(config, "reference", referenceFormat === "auto" ? format : referenceFormat);
  };
  return { policy, referenceOf };
}

/** The scorer that is trained. */
function scorerOf({ config, lora, format }: MemoryPlan): ScoreModel {
  const base = lora ? new ScoreModel(config, "base model", format) : new ScoreModel(config, "model");
  return lora ? new ScoreModel({ base, lora }, "model") : base;
}

/** Scorers as large as the policy, or adapters on its base. */
function scorers(plan: MemoryPlan, label: string, policy?: CausalLM): ScoreModel[] {
  const { config, lora, rewardFormat, format } = plan;
  const kept: WeightFormat = rewardFormat === "auto" ? format : rewardFormat;
  const base = policy?.baseModel;
  return Array.from({ length: plan.rewardModels }, () =>
    lora && base ? new ScoreModel({ base, lora }, label) : new ScoreModel(config, label, kept),
  );
}

/** Longest sequences, of tokens spread over the vocabulary: the embedding's gradient takes memory by how often one comes. */
export const sequences = (
  n: number,
  { length, responseLength, config }: Pick<MemoryPlan, "length" | "responseLength" | "config">,
) =>
  Array.from({ length: n }, (_, i) => ({
    ids: Uint32Array.from({ length }, (_, t) => ((i * length + t) * 7919) % config.vocabSize),
    promptLength: Math.max(1, length - responseLength),
  }));

/** Longest pairs; both answers are labelled, for those who ask. */
export function pairs(n: number, plan: MemoryPlan) {
  const all = sequences(2 * n, plan);
  return all.slice(0, n).map(({ ids, promptLength }, i) => {
    return { chosen: ids, rejected: all[n + i].ids, promptLength, safety: { chosen: true, rejected: false } };
  });
}

/** Files that keep nothing: what a rehearsal would save is not even read. */
const nowhere = {
  list: async () => [],
  read: async () => null,
  open: async () => null,
  writeFile: async () => {},
  writeFiles: async () => {},
  writeFolder: async () => {},
  append: async () => {},
  remove: async () => {},
} as unknown as Files;
