/** The optimizer steps that methods without a critic take on one rollout. */

import type { CausalLM } from "../../nn/models.ts";
import { readControl } from "../../nn/optimizer.ts";
import { permutation } from "../../runtime/rng.ts";
import { backward, noGrad, scope, type Tensor } from "../../tensor/core.ts";
import { concat } from "../../tensor/ops/shape.ts";
import { averagingWeights, type LossAveraging } from "../advantages.ts";
import { pack, predictions } from "../batch.ts";
import type { Trainee } from "../checkpoint.ts";
import { type RatioLossOptions, ratioLoss } from "../losses/ratio.ts";
import type { Response } from "../sampler.ts";
import { average } from "../stats.ts";
import { rateAt, type TrainingOptions } from "../training.ts";

/** One response with everything the update needs; arrays by response token. */
export interface Lesson {
  response: Response;
  /** Under the policy that sampled. */
  logProbs: Float32Array;
  refLogProbs: Float32Array;
  advantages: ArrayLike<number>;
}

/** The loss of a method, and how it is averaged. */
export interface UpdateRule {
  loss: RatioLossOptions;
  averaging: LossAveraging;
}

interface UpdateOptions extends TrainingOptions {
  promptsPerRollout: number;
  samplesPerPrompt: number;
  responseLength: number;
  temperature: number;
}

/** Runs the optimizer over one rollout. Returns its metrics: none where there is nothing to learn. */
export async function learn(
  { model, optimizer }: Trainee,
  lessons: readonly Lesson[],
  step: number,
  options: UpdateOptions,
  rule: UpdateRule,
): Promise<Record<string, number>> {
  if (lessons.length === 0) return {};
  const { batchSize, accumulation, epochs, seed, maxSteps } = options;
  const perStep = batchSize * accumulation;
  // Of a whole rollout, so that what is left out of one does not change the learning rate.
  const stepsPerEpoch = Math.ceil((options.promptsPerRollout * options.samplesPerPrompt) / perStep);
  const order = [...permutation(lessons.length, seed, step + 1)].map((i) => lessons[i]);
  const windows = Math.ceil(order.length / perStep);
  const context = {
    windows,
    maxLength: options.responseLength,
    rolloutTokens: order.reduce((n, lesson) => n + lesson.logProbs.length, 0),
  };
  const watched: Watched[] = [];
  let rate = 0;
  for (let epoch = 0; epoch < epochs; epoch++) {
    for (let window = 0; window < windows; window++) {
      const chosen = order.slice(window * perStep, (window + 1) * perStep);
      const parts: Lesson[][] = [];
      for (let at = 0; at < chosen.length; at += batchSize) parts.push(chosen.slice(at, at + batchSize));
      const lengths = parts.map((part) => part.map((lesson) => lesson.logProbs.length));
      const weights = averagingWeights(lengths, rule.averaging, context);
      parts.forEach((part, i) => {
        const watch = scope(() => microStep(model as CausalLM, part, weights[i], options.temperature, rule.loss));
        watched.push({ watch, part });
      });
      rate = rateAt(options, maxSteps * epochs * stepsPerEpoch, (step * epochs + epoch) * stepsPerEpoch + window);
      optimizer.step(rate);
    }
  }
  const metrics = await summarise(watched, optimizer.control, epochs * windows, rule.loss);
  return { ...metrics, learning_rate: rate };
}

/** What a micro-step leaves to be read: its part of the loss, and the new log-probabilities. */
interface Watched {
  watch: Tensor;
  part: readonly Lesson[];
}

function microStep(
  model: CausalLM,
  part: readonly Lesson[],
  weights: Float32Array,
  temperature: number,
  options: RatioLossOptions,
): Tensor {
  const sequences = part.map((lesson) => lesson.response);
  const { ids, packing, starts } = pack(sequences);
  const { rows, targets, lengths } = predictions(sequences, starts);
  const flat = (pick: (lesson: Lesson) => ArrayLike<number>) =>
    Float32Array.from(part.flatMap((lesson) => Array.from(pick(lesson))));
  const { logProbs } = model.logProbs(ids, packing, rows, targets, temperature);
  const inputs = {
    oldLogProbs: flat((l) => l.logProbs),
    refLogProbs: flat((l) => l.refLogProbs),
    advantages: flat((l) => l.advantages),
    weights,
    lengths,
  };
  const loss = ratioLoss(logProbs, inputs, options);
  const watch = noGrad(() => concat([loss, logProbs]));
  backward(loss);
  return watch;
}

async function summarise(
  watched: readonly Watched[],
  control: Tensor,
  steps: number,
  options: RatioLossOptions,
): Promise<Record<string, number>> {
  const [record, ...reads] = await Promise.all([control, ...watched.map((w) => w.watch)].map((t) => t.read()));
  for (const { watch } of watched) watch.free("the metrics reader");
  const { gradNorm, skipped } = readControl(record);
  const terms = reads.flatMap((read, i) => ratios(read.subarray(1), watched[i].part, options));
  return {
    // Each optimizer step's loss is the sum over its micro-batches.
    loss: reads.reduce((sum, read) => sum + read[0], 0) / steps,
    ratio: average(terms.map((t) => t.ratio)),
    ...clipMetrics(terms, options),
    grad_norm: gradNorm,
    skipped_steps: skipped,
  };
}

interface RatioTerm {
  ratio: number;
  advantage: number;
}

/** The probability ratios of a micro-batch: of each token, or of each sequence. */
function ratios(logProbs: ArrayLike<number>, part: readonly Lesson[], { level }: RatioLossOptions): RatioTerm[] {
  let at = 0;
  return part.flatMap((lesson): RatioTerm[] => {
    const differences = Array.from(lesson.logProbs, (old) => logProbs[at++] - old);
    const { advantages } = lesson;
    if (level === "token") return differences.map((d, t) => ({ ratio: Math.exp(d), advantage: advantages[t] }));
    const sum = differences.reduce((a, b) => a + b, 0);
    const exponent = level === "sequence" ? sum / Math.max(1, differences.length) : sum;
    return [{ ratio: Math.exp(exponent), advantage: advantages[0] ?? 0 }];
  });
}

/** How often the clip took the gradient away, by TRL's names. */
function clipMetrics(terms: readonly RatioTerm[], options: RatioLossOptions): Record<string, number> {
  const share = (test: (t: RatioTerm) => boolean) => average(terms.map((t) => Number(test(t))));
  const { epsilon, epsilonHigh, cispo } = options;
  if (cispo) return { cispo_clip_ratio: share((t) => t.ratio > epsilonHigh && t.advantage > 0) };
  const low = share((t) => t.ratio < 1 - epsilon && t.advantage < 0);
  const high = share((t) => t.ratio > 1 + epsilonHigh && t.advantage > 0);
  return { "clip_ratio/low_mean": low, "clip_ratio/high_mean": high, "clip_ratio/region_mean": low + high };
}
