/**
 * How much GPU memory a training run will take, before any of it is taken: one step of the real trainer is rehearsed
 * with the run's own options, on sequences as long as the options allow.
 */
import { rehearse } from "../../../gpu/rehearsal.ts";
import type { DecoderConfig } from "../../../nn/config.ts";
import type { LoraOptions } from "../../../nn/lora.ts";
import { CausalLM, ScoreModel } from "../../../nn/models.ts";
import { AdamW } from "../../../nn/optimizer.ts";
import type { Experience } from "../../../rlhf/ppo/advantages.ts";
import { ppoDefaults } from "../../../rlhf/ppo/options.ts";
import { policyMicroStep, valueMicroStep } from "../../../rlhf/ppo/steps.ts";
import { rewardStep } from "../../../rlhf/reward/reward.ts";
import { evaluateReward, scoreSequences } from "../../../rlhf/reward/scores.ts";
import { type Response, responseLogProbs, responseValues, sampleResponses } from "../../../rlhf/rollout.ts";
import { evaluateSft, sftStep } from "../../../rlhf/sft.ts";
import { isUserError } from "../../../runtime/errors.ts";
import type { WeightFormat } from "../../../tensor/quantize.ts";
import { scope } from "../../../tensor/scope.ts";
import type { Tensor } from "../../../tensor/tensor.ts";

export type Stage = "sft" | "reward" | "ppo" | "raft";

/** What of a run's options its memory depends on. */
export interface MemoryPlan {
  stage: Stage;
  config: DecoderConfig;
  /** Adapters on one base instead of whole models. */
  lora: LoraOptions | null;
  /** How weights that nobody trains are kept. */
  format: WeightFormat;
  /** The reward is a model as large as the policy; false: it takes no memory. */
  rewardModel: boolean;
  /** Gradient checkpointing. */
  checkpointing: boolean;
  /** Half precision (SFT and reward models). */
  half: boolean;
  /** Sequences (pairs) in one pass, and their length in tokens. */
  batchSize: number;
  length: number;
  /** Of `length`, at most so many are a response's, in rollouts. */
  responseLength: number;
  /** Prompts per rollout, and responses per prompt. */
  prompts: number;
  samples: number;
  /** Held-out examples; 0 evaluates nothing. */
  evalExamples: number;
}

export const kinds = ["weights", "gradients", "moments", "kv cache", "activations", "transfers"] as const;
export type Kind = (typeof kinds)[number];

export interface MemoryEstimate {
  /** Bytes at the peak. */
  total: number;
  byKind: Record<Kind, number>;
  /** Why the run cannot work here at all, e.g. a matrix beyond the adapter's binding limit; else null. */
  refused: string | null;
}

/** Rehearses the plan on the capabilities of the open device. */
export async function estimateMemory(plan: MemoryPlan): Promise<MemoryEstimate> {
  const byKind = Object.fromEntries(kinds.map((kind) => [kind, 0])) as Record<Kind, number>;
  try {
    const { peak, atPeak } = await rehearse(() => oneStep(plan));
    for (const [label, bytes] of atPeak) byKind[kindOf(label)] += bytes;
    return { total: peak, byKind, refused: null };
  } catch (error) {
    if (!isUserError(error)) throw error;
    return { total: Number.POSITIVE_INFINITY, byKind, refused: error.message };
  }
}

/** Buffers come with the names of what they were first made for. Pooled ones serve as anything later. */
function kindOf(label: string): Kind {
  if (/ (first|second) moments$/.test(label)) return "moments";
  if (/ gradients \(/.test(label)) return "gradients";
  if (/ parameters \(/.test(label) || /\.weight( scales)?$/.test(label)) return "weights";
  if (/^(key|value) cache$/.test(label)) return "kv cache";
  if (/^(upload staging|readback|scalar arena)$/.test(label)) return "transfers";
  return "activations";
}

function oneStep(plan: MemoryPlan): Promise<void> {
  if (plan.stage === "sft") return sft(plan);
  if (plan.stage === "reward") return reward(plan);
  return aligned(plan);
}

const policyOf = ({ config, lora, format }: MemoryPlan, label: string) => {
  const base = lora ? new CausalLM(config, "base model", format) : new CausalLM(config, label);
  return { base, model: lora ? new CausalLM({ base, lora }, label) : base };
};

/** Longest sequences, of tokens spread over the vocabulary: the embedding's gradient takes memory by how often one comes. */
const sequences = (n: number, { length, responseLength, config }: MemoryPlan) =>
  Array.from({ length: n }, (_, i) => ({
    ids: Uint32Array.from({ length }, (_, t) => ((i * length + t) * 7919) % config.vocabSize),
    promptLength: Math.max(1, length - responseLength),
  }));

const done = async (watch: Tensor) => {
  await watch.read();
  watch.free("the rehearsal");
};

async function sft(plan: MemoryPlan): Promise<void> {
  const { base, model } = policyOf(plan, "model");
  base.gradientCheckpointing = plan.checkpointing;
  base.half = plan.half;
  const optimizer = new AdamW(model.store, { lossScaling: plan.half });
  const batch = sequences(plan.batchSize, { ...plan, responseLength: plan.length });
  await done(scope(() => sftStep(model, optimizer, [batch], 0, { seed: 0, step: 0 })).watch);
  if (plan.evalExamples > 0) await evaluateSft(model, sequences(plan.evalExamples, plan));
}

async function reward(plan: MemoryPlan): Promise<void> {
  const { config, lora, format } = plan;
  const base = lora ? new ScoreModel(config, "base model", format) : new ScoreModel(config, "model");
  base.gradientCheckpointing = plan.checkpointing;
  base.half = plan.half;
  const model = lora ? new ScoreModel({ base, lora }, "model") : base;
  const optimizer = new AdamW(model.store, { lossScaling: plan.half });
  const pairs = (n: number) =>
    sequences(n, plan).map(({ ids, promptLength }) => ({ chosen: ids, rejected: ids, promptLength }));
  type Pairs = Parameters<typeof rewardStep>[2][number];
  const batch = pairs(plan.batchSize) as unknown as Pairs;
  await done(scope(() => rewardStep(model, optimizer, [batch], 0, {}, { seed: 0, step: 0 })).watch);
  if (plan.evalExamples > 0) await evaluateReward(model, pairs(plan.evalExamples) as unknown as Pairs);
}

/** PPO and RAFT: sample, score, learn. */
async function aligned(plan: MemoryPlan): Promise<void> {
  const { config, lora, format, prompts, samples, length, responseLength, stage } = plan;
  const { base, model: actor } = policyOf(plan, "actor");
  base.gradientCheckpointing = plan.checkpointing;
  const reference = lora ? base : new CausalLM(config, "reference", format);
  const scorer = (label: string, kept: WeightFormat) => {
    const model = lora ? new ScoreModel({ base, lora }, label) : new ScoreModel(config, label, kept);
    model.gradientCheckpointing = plan.checkpointing;
    return model;
  };
  const judge = plan.rewardModel ? scorer("reward model", format) : null;
  const critic = stage === "ppo" ? scorer("critic", "float32") : null;
  const optimizer = new AdamW(actor.store);
  const criticOptimizer = critic && new AdamW(critic.store);

  const promptLength = Math.max(1, length - responseLength);
  const given = Array.from({ length: prompts }, () => ({ text: "", ids: new Uint32Array(promptLength) }));
  const silent = { decode: () => "" } as unknown as Parameters<typeof sampleResponses>[1];
  const sampling = { maxNewTokens: responseLength, samples, temperature: 1, seed: 0, iteration: 0 };
  await sampleResponses(actor, silent, given, new Uint32Array(prompts), sampling);
  const responses: Response[] = sequences(prompts * samples, plan).map((s, i) => {
    return { ...s, prompt: i, sample: 0, promptText: "", text: "", ended: true };
  });
  if (judge) await scoreSequences(judge, responses);
  await responseLogProbs(actor, responses);
  await responseLogProbs(reference, responses);
  if (critic) await responseValues(critic, responses);
  // RAFT keeps one response per prompt. The last micro-batch may be short, and takes buffers of other sizes.
  const learned = critic ? responses.length : prompts;
  for (const size of new Set([Math.min(plan.batchSize, learned), learned % plan.batchSize || plan.batchSize])) {
    const part = responses.slice(0, size);
    if (!critic || !criticOptimizer) {
      const whole = part.map((s) => ({ ...s, promptLength: 0 })); // prompts are learned, too, unless they are masked
      await done(scope(() => sftStep(actor, optimizer, [whole], 0, { seed: 0, step: 0 })).watch);
      continue;
    }
    const zeros = new Float32Array(responseLength);
    const experience = part.map((response): Experience => {
      return { response, logProbs: zeros, values: zeros, advantages: zeros, returns: zeros };
    });
    const { watch } = scope(() => policyMicroStep(actor, experience, 1, ppoDefaults()));
    optimizer.step(0);
    await done(watch);
    await done(scope(() => valueMicroStep(critic, experience, 1, ppoDefaults())));
    criticOptimizer.step(0);
  }
}
