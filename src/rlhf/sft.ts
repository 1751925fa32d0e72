/**
 * Supervised fine-tuning: next-token cross entropy on the responses. Left out on purpose: dropout, label smoothing and
 * packing across examples (sequences are packed into one batch, but never attend to each other).
 */
import type { CausalLM } from "../nn/models.ts";
import { AdamW, readControl } from "../nn/optimizer.ts";
import { UserError } from "../runtime/errors.ts";
import { backward, noGrad } from "../tensor/autograd.ts";
import { concat } from "../tensor/ops/shape.ts";
import { scope } from "../tensor/scope.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { byTokens, pack, predictions, SCORING_TOKENS, type Sequence } from "./batch.ts";
import { begin, type RunFolder, saveModels } from "./checkpoint.ts";
import type { TrainEvent } from "./events.ts";
import { nllLoss } from "./losses.ts";
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

export interface SftOptions extends TrainingOptions {
  /** Examples: the loss is on everything after `promptLength` (0: on everything). */
  train: readonly Sequence[];
  eval?: readonly Sequence[];
  /** Where to save; without it nothing is saved. */
  run?: RunFolder;
  /** Continue from the newest checkpoint of `run`. */
  resume?: boolean;
}

/** Trains `model` in place. Throws `UserError` when there is nothing to learn from or the loss is not finite. */
export async function* trainSft(model: CausalLM, options: SftOptions): AsyncGenerator<TrainEvent> {
  const examples = options.train.filter(({ ids, promptLength }) => ids.length > Math.max(1, promptLength));
  const plan = new BatchPlan(examples.length, options);
  const { maxSteps } = plan;
  const optimizer = new AdamW(model.store, options);
  const trainees = { "": { model, optimizer } };
  const restored = await begin(options.run, options.resume, trainees);
  const first = restored?.step ?? 0;
  yield { type: "start", stage: "sft", step: first, maxSteps, parameters: model.store.count };

  let pending: Promise<TrainEvent> | null = null; // metrics are read one step late, so that the GPU never waits
  let last: Record<string, number> = {};
  for (let step = first; step < maxSteps; step++) {
    const started = now();
    const batches = plan.batches(step).map((batch) => batch.map((i) => examples[i]));
    const lr = rateAt(options, maxSteps, step);
    const { watch, tokens } = scope(() => sftStep(model, optimizer, batches, lr));
    const event = report(watch, tokens, { step: step + 1, maxSteps, epoch: plan.epoch(step + 1), lr, started });
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
        const evaluated = await evaluateSft(model, options.eval);
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

/** One optimizer step over micro-batches; the loss is the mean over all their response tokens. */
export function sftStep(
  model: CausalLM,
  optimizer: AdamW,
  batches: readonly (readonly Sequence[])[],
  lr: number,
): { watch: Tensor; tokens: number } {
  let predicted = 0;
  let tokens = 0;
  for (const { ids, promptLength } of batches.flat()) {
    predicted += ids.length - Math.max(1, promptLength);
    tokens += ids.length;
  }
  const losses = batches.map((sequences) => {
    const { ids, packing, starts } = pack(sequences);
    const { rows, targets } = predictions(sequences, starts);
    const { logProbs, entropy } = model.logProbs(ids, packing, rows, targets);
    const loss = nllLoss(logProbs, 1 / predicted);
    const shown = noGrad(() => concat([loss, nllLoss(entropy, -1 / predicted)]));
    backward(loss);
    return shown;
  });
  optimizer.step(lr);
  return { watch: concat([optimizer.control, ...losses]), tokens };
}

async function report(
  watch: Tensor,
  tokens: number,
  at: { step: number; maxSteps: number; epoch: number; lr: number; started: number },
): Promise<TrainEvent> {
  const values = await watch.read();
  watch.free("the metrics reader");
  const { gradNorm, skipped } = readControl(values);
  let loss = 0;
  let entropy = 0;
  for (let i = 8; i < values.length; i += 2) {
    loss += values[i];
    entropy += values[i + 1];
  }
  const { step, maxSteps, epoch, lr, started } = at;
  const metrics = { loss, entropy, grad_norm: gradNorm, learning_rate: lr, skipped_steps: skipped };
  checkFinite(step, metrics, ["loss"]);
  return { type: "step", step, maxSteps, epoch, metrics, tokens, seconds: now() - started };
}

/** Mean loss per response token, perplexity and mean entropy on held-out sequences. */
export async function evaluateSft(model: CausalLM, sequences: readonly Sequence[]): Promise<Record<string, number>> {
  let nll = 0;
  let entropyTotal = 0;
  let count = 0;
  for (const [first, last] of byTokens(sequences, SCORING_TOKENS)) {
    const part = sequences.slice(first, last);
    const sums = scope(() =>
      noGrad(() => {
        const { ids, packing, starts } = pack(part);
        const { rows, targets } = predictions(part, starts);
        count += rows.length;
        const { logProbs, entropy } = model.logProbs(ids, packing, rows, targets);
        return concat([nllLoss(logProbs, 1), nllLoss(entropy, -1)]);
      }),
    );
    const [a, b] = await sums.read();
    sums.free("evaluation");
    nll += a;
    entropyTotal += b;
  }
  if (count === 0) throw new UserError("the evaluation set has no response tokens");
  return { eval_loss: nll / count, eval_perplexity: Math.exp(nll / count), eval_entropy: entropyTotal / count };
}
