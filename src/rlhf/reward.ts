/**
 * Reward modelling, sequence-wise Bradley-Terry: a decoder with a score head, read at the last token of prompt + answer +
 * EOS, learns to score the chosen answer above the rejected one. Chosen and rejected go through one forward pass.
 */
import type { PreferenceExample } from "../data/batches.ts";
import type { ScoreModel } from "../nn/models.ts";
import { AdamW, readControl } from "../nn/optimizer.ts";
import { backward, noGrad } from "../tensor/autograd.ts";
import { gatherRows } from "../tensor/ops/embedding.ts";
import { concat, reshape } from "../tensor/ops/shape.ts";
import { scope } from "../tensor/scope.ts";
import { type Tensor, tensor } from "../tensor/tensor.ts";
import { byTokens, endRows, pack, SCORING_TOKENS, type Sequence } from "./batch.ts";
import { begin, type RunFolder, saveModels } from "./checkpoint.ts";
import type { TrainEvent } from "./events.ts";
import { type PairLossOptions, pairLoss } from "./losses.ts";
import { average, standardDeviation } from "./stats.ts";
import {
  BatchPlan,
  checkFinite,
  checkpoint,
  evalDue,
  now,
  rateAt,
  saveDue,
  stopping,
  type TrainingOptions,
} from "./training.ts";

export interface RewardOptions extends TrainingOptions, PairLossOptions {
  train: readonly PreferenceExample[];
  eval?: readonly PreferenceExample[];
  run?: RunFolder;
  resume?: boolean;
}

/** Trains `model` in place. `batchSize` counts pairs. */
export async function* trainReward(model: ScoreModel, options: RewardOptions): AsyncGenerator<TrainEvent> {
  const plan = new BatchPlan(options.train.length, options);
  const { maxSteps } = plan;
  const optimizer = new AdamW(model.store, options);
  const trainees = { "": { model, optimizer } };
  const restored = await begin(options.run, options.resume, trainees);
  const first = restored?.step ?? 0;
  yield { type: "start", stage: "reward", step: first, maxSteps, parameters: model.store.count };

  let pending: Promise<TrainEvent> | null = null; // metrics are read one step late
  let last: Record<string, number> = {};
  for (let step = first; step < maxSteps; step++) {
    const started = now();
    const batches = plan.batches(step).map((batch) => batch.map((i) => options.train[i]));
    const lr = rateAt(options, maxSteps, step);
    const { watch, tokens } = scope(() => rewardStep(model, optimizer, batches, lr, options));
    const pairs = batches.map((b) => b.length);
    const event = report(watch, pairs, tokens, { step: step + 1, maxSteps, epoch: plan.epoch(step + 1), lr, started });
    event.catch(() => {}); // thrown where it is awaited, unless an earlier step threw first
    if (pending) yield await pending;
    pending = event;
    const done = step + 1;
    const stop = stopping(options);
    if (stop || saveDue(options, done) || evalDue(options, done, maxSteps) || done === maxSteps) {
      const settled = await pending;
      pending = null;
      last = settled.type === "step" ? settled.metrics : last;
      yield settled;
      if (options.eval?.length && (evalDue(options, done, maxSteps) || done === maxSteps)) {
        const evaluated = await evaluateReward(model, options.eval);
        last = { ...last, ...evaluated };
        yield { type: "eval", step: done, metrics: evaluated };
      }
      if (options.run && (stop || saveDue(options, done))) yield await checkpoint(options.run, done, trainees, {});
      if (stop) return optimizer.destroy();
    }
  }
  if (options.run) await saveModels(options.run, { "": model });
  optimizer.destroy();
  yield { type: "end", step: maxSteps, metrics: last };
}

/** One optimizer step; the loss is the mean over all pairs of all micro-batches. */
export function rewardStep(
  model: ScoreModel,
  optimizer: AdamW,
  batches: readonly (readonly PreferenceExample[])[],
  lr: number,
  options: PairLossOptions = {},
): { watch: Tensor; tokens: number } {
  const total = batches.reduce((n, b) => n + b.length, 0);
  let tokens = 0;
  const shown = batches.map((pairs) => {
    const sequences = bothAnswers(pairs);
    for (const { ids } of sequences) tokens += ids.length;
    const { ids, packing, starts } = pack(sequences);
    const scores = model.scores(ids, packing, endRows(sequences, starts));
    const [chosen, rejected] = halves(scores);
    const loss = pairLoss(chosen, rejected, options);
    const watch = noGrad(() => concat([loss, scores]));
    backward(loss, pairs.length / total);
    return watch;
  });
  optimizer.step(lr);
  return { watch: concat([optimizer.control, ...shown]), tokens };
}

/** All chosen answers, then all rejected ones. */
const bothAnswers = (pairs: readonly PreferenceExample[]): Sequence[] => [
  ...pairs.map(({ chosen, promptLength }) => ({ ids: chosen, promptLength })),
  ...pairs.map(({ rejected, promptLength }) => ({ ids: rejected, promptLength })),
];

/** The first and the second half of a vector, differentiable. */
function halves(x: Tensor): [Tensor, Tensor] {
  const n = x.size / 2;
  const column = reshape(x, [x.size, 1]);
  const part = (from: number) => {
    const index = Uint32Array.from({ length: n }, (_, i) => from + i);
    return reshape(gatherRows(column, tensor(index), index), [n]);
  };
  return [part(0), part(n)];
}

async function report(
  watch: Tensor,
  pairs: readonly number[],
  tokens: number,
  at: { step: number; maxSteps: number; epoch: number; lr: number; started: number },
): Promise<TrainEvent> {
  const values = await watch.read();
  watch.free("the metrics reader");
  const { gradNorm, skipped } = readControl(values);
  const total = pairs.reduce((a, b) => a + b, 0);
  let loss = 0;
  const chosen: number[] = [];
  const rejected: number[] = [];
  let offset = 8;
  for (const n of pairs) {
    loss += (values[offset] * n) / total;
    chosen.push(...values.subarray(offset + 1, offset + 1 + n));
    rejected.push(...values.subarray(offset + 1 + n, offset + 1 + 2 * n));
    offset += 1 + 2 * n;
  }
  const { step, maxSteps, epoch, lr, started } = at;
  const metrics = {
    loss,
    ...pairMetrics(chosen, rejected),
    grad_norm: gradNorm,
    learning_rate: lr,
    skipped_steps: skipped,
  };
  checkFinite(step, metrics, ["loss"]);
  return { type: "step", step, maxSteps, epoch, metrics, tokens, seconds: now() - started };
}

/** Accuracy is strict: a tie counts as wrong. */
function pairMetrics(chosen: readonly number[], rejected: readonly number[]): Record<string, number> {
  const all = [...chosen, ...rejected];
  return {
    accuracy: average(chosen.map((c, i) => Number(c > rejected[i]))),
    margin: average(chosen.map((c, i) => c - rejected[i])),
    min_reward: Math.min(...all),
    mean_reward: average(all),
    max_reward: Math.max(...all),
  };
}

/** Accuracy and reward statistics on held-out pairs. */
export async function evaluateReward(
  model: ScoreModel,
  pairs: readonly PreferenceExample[],
): Promise<Record<string, number>> {
  const scores = await scoreSequences(model, bothAnswers(pairs));
  const chosen = [...scores.subarray(0, pairs.length)];
  const rejected = [...scores.subarray(pairs.length)];
  const { accuracy, margin } = pairMetrics(chosen, rejected);
  return {
    eval_accuracy: accuracy,
    eval_margin: margin,
    eval_reward_mean: average(scores),
    eval_reward_std: standardDeviation(scores),
    eval_loss: average(
      chosen.map((c, i) => Math.log1p(Math.exp(-Math.abs(c - rejected[i]))) + Math.max(0, rejected[i] - c)),
    ),
  };
}

/** A reward model's score of each sequence, read at its last token. */
export async function scoreSequences(model: ScoreModel, sequences: readonly Sequence[]): Promise<Float32Array> {
  const scores = new Float32Array(sequences.length);
  for (const [first, last] of byTokens(sequences, SCORING_TOKENS)) {
    const part = sequences.slice(first, last);
    const batch = scope(() =>
      noGrad(() => {
        const { ids, packing, starts } = pack(part);
        return model.scores(ids, packing, endRows(part, starts));
      }),
    );
    scores.set(await batch.read(), first);
    batch.free("scoring");
  }
  return scores;
}
