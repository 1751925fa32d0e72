/** The optimizer steps that PPO takes on one rollout: first all of the actor's, then all of the critic's. */
import type { CausalLM, ScoreModel } from "../../nn/models.ts";
import { readControl } from "../../nn/optimizer.ts";
import { permutation } from "../../runtime/rng.ts";
import { scope, type Tensor } from "../../tensor/core.ts";
import { lerpInto } from "../../tensor/ops/lerp.ts";
import { predictedTokens, type Sequence } from "../batch.ts";
import type { Trainee } from "../checkpoint.ts";
import { average, moments } from "../stats.ts";
import { rateAt } from "../training.ts";
import type { Experience } from "./advantages.ts";
import type { PpoOptions } from "./options.ts";
import { flat, policyMicroStep, ptxMicroStep, valueMicroStep, valueWeightOf, type Watched, weightOf } from "./steps.ts";

/** Micro-batches of the experience, by optimizer step. With them the place of the step in the whole run. */
export function* stepsOf(
  experience: readonly Experience[],
  rollout: number,
  options: PpoOptions,
): Generator<{ parts: Experience[][]; first: number; taken: number; total: number }> {
  const { batchSize, accumulation, epochs } = options;
  const micro = Math.ceil(experience.length / batchSize);
  const perRollout = epochs * Math.ceil(micro / accumulation);
  let taken = rollout * perRollout;
  const inOrder = sampleBySample(experience);
  for (let epoch = 0; epoch < epochs; epoch++) {
    const order = options.shuffle
      ? permutation(experience.length, options.seed, rollout * epochs + epoch + 1)
      : inOrder;
    for (let b = 0; b < micro; b += accumulation) {
      const parts = Array.from({ length: Math.min(accumulation, micro - b) }, (_, i) =>
        [...order.slice((b + i) * batchSize, (b + i + 1) * batchSize)].map((at) => experience[at]),
      );
      yield { parts, first: b * batchSize, taken, total: options.maxSteps * perRollout };
      taken += 1;
    }
  }
}

/** Response j of every prompt before response j + 1 of any. */
function sampleBySample(experience: readonly Experience[]): number[] {
  const places = experience.map((_, i) => i);
  return places.sort((a, b) => experience[a].response.sample - experience[b].response.sample || a - b);
}

export interface PolicyUpdate {
  /** Supervised sequences, as many as there is experience; they are learned beside it. */
  ptx: readonly Sequence[];
  /** Follows the actor after every optimizer step. */
  average: CausalLM | null;
  /** Weight of the KL penalty, where that is a loss. */
  klCoef: number;
}

/** Runs the actor's optimizer over one rollout. */
export async function updatePolicy(
  { model, optimizer }: Trainee,
  experience: readonly Experience[],
  rollout: number,
  { ptx, average: follower, klCoef }: PolicyUpdate,
  options: PpoOptions,
): Promise<Record<string, number>> {
  const actor = model as CausalLM;
  const watched: Watched[] = [];
  const supervised: Tensor[] = [];
  const half = ptx.length > 0 && options.ptxCombination === "average" ? 0.5 : 1;
  let rate = 0;
  for (const { parts, first, taken, total } of stepsOf(experience, rollout, options)) {
    const weight = parts.reduce((sum, part) => sum + weightOf(part, options), 0);
    for (const part of parts) {
      const share = (weightOf(part, options) / weight) * half;
      watched.push(scope(() => policyMicroStep(actor, part, share, { ...options, klCoef })));
    }
    const size = parts.reduce((n, part) => n + part.length, 0);
    const beside = ptx.slice(first, first + size);
    const predicted = beside.reduce((n, s) => n + predictedTokens(s), 0);
    for (let at = 0; at < beside.length; at += options.batchSize) {
      const part = beside.slice(at, at + options.batchSize);
      supervised.push(scope(() => ptxMicroStep(actor, part, predicted, options.ptxCoef * half)));
    }
    rate = rateAt(options, total, taken);
    optimizer.step(rate);
    if (follower) lerpInto(follower.store, actor.store, 1 - (options.emaBeta as number));
  }
  const read = await readAll([optimizer.control, ...watched.map((w) => w.watch), ...supervised]);
  const control = readControl(read[0]);
  const batches = read.slice(1, 1 + watched.length);
  const losses = read.slice(1 + watched.length).map((v) => v[0]);
  const steps = Math.ceil(Math.ceil(experience.length / options.batchSize) / options.accumulation) * options.epochs;
  return {
    actor_loss: average(batches.map((v) => v[0])),
    // Each optimizer step's supervised loss is the sum over its micro-batches.
    ...(losses.length > 0 && { ptx_loss: losses.reduce((a, b) => a + b, 0) / steps }),
    ...policyMetrics(batches, watched, options),
    actor_grad_norm: control.gradNorm,
    skipped_steps: control.skipped,
    learning_rate: rate,
  };
}

/** Runs the critic's optimizer over one rollout. */
export async function updateValue(
  { model, optimizer }: Trainee,
  experience: readonly Experience[],
  rollout: number,
  options: PpoOptions,
): Promise<Record<string, number>> {
  const critic = model as ScoreModel;
  const watched: Tensor[] = [];
  const parts: Experience[][] = [];
  let rate = 0;
  for (const step of stepsOf(experience, rollout, options)) {
    const weight = step.parts.reduce((sum, part) => sum + valueWeightOf(part, options), 0);
    for (const part of step.parts) {
      const share = valueWeightOf(part, options) / weight;
      watched.push(scope(() => valueMicroStep(critic, part, share, options)));
      parts.push(part);
    }
    rate = rateAt(criticSchedule(options), step.total, step.taken);
    optimizer.step(rate);
  }
  const [record, ...read] = await readAll([optimizer.control, ...watched]);
  const control = readControl(record);
  const clipped = read.flatMap((v, i) => valueClips(v.subarray(1), parts[i], options.clipRangeValue));
  return {
    critic_loss: average(read.map((v) => v[0])),
    value_clip_fraction: average(clipped.map(Number)),
    critic_grad_norm: control.gradNorm,
    skipped_steps: control.skipped,
    critic_learning_rate: rate,
  };
}

/** The critic's own schedule; what it leaves open is the actor's. */
const criticSchedule = (o: PpoOptions): PpoOptions => ({
  ...o,
  learningRate: o.criticLearningRate,
  schedule: o.criticSchedule ?? o.schedule,
  warmup: o.criticWarmup ?? o.warmup,
  minLearningRate: o.criticMinLearningRate ?? o.minLearningRate,
  decaySteps: o.criticDecaySteps ?? o.decaySteps,
});

async function readAll([control, ...others]: readonly Tensor[]): Promise<Float32Array[]> {
  const read = await Promise.all([control, ...others].map((t) => t.read()));
  for (const t of others) t.free("the metrics reader");
  return read as Float32Array[];
}

function policyMetrics(
  batches: readonly Float32Array[],
  watched: readonly Watched[],
  { clipRange, clipRangeHigh }: PpoOptions,
): Record<string, number> {
  const ratios: number[] = [];
  const squares: number[] = [];
  const entropies: number[] = [];
  const bound: number[] = [];
  const over = (r: number) => r - 1 > (clipRangeHigh ?? clipRange);
  const under = (r: number) => 1 - r > clipRange;
  const means = batches.map((values, i) => {
    const { oldLogProbs, advantages } = watched[i];
    const from = ratios.length;
    for (const [t, old] of oldLogProbs.entries()) {
      const d = values[1 + t] - old;
      const ratio = Math.exp(d);
      ratios.push(ratio);
      bound.push(Number(advantages[t] > 0 ? over(ratio) : advantages[t] < 0 && under(ratio)));
      squares.push(0.5 * d * d);
      entropies.push(values[1 + oldLogProbs.length + t]);
    }
    return average(ratios.slice(from));
  });
  return {
    approx_kl: average(squares),
    // Ratios outside the clip, and those whose loss it bounds: above with positive advantages, below with negative ones.
    clip_fraction: average(ratios.map((r) => Number(over(r) || under(r)))),
    bound_fraction: average(bound),
    ratio: average(ratios),
    ratio_var: moments([means], true).variance,
    first_ratio: means[0],
    policy_entropy: average(entropies),
  };
}

/** Which values the clip bounds in the loss. */
function valueClips(values: Float32Array, part: readonly Experience[], clipRange: number): boolean[] {
  const old = flat(part, (e) => e.values);
  const returns = flat(part, (e) => e.returns);
  return Array.from(values, (v, i) => {
    const clipped = Math.min(Math.max(v, old[i] - clipRange), old[i] + clipRange);
    return (clipped - returns[i]) ** 2 > (v - returns[i]) ** 2;
  });
}
