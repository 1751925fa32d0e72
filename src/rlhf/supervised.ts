/** The loop of trainers that learn from a fixed list of examples: SFT and reward models. */
import type { DropoutStep } from "../nn/ambient.ts";
import type { Model } from "../nn/models.ts";
import { AdamW, readControl } from "../nn/optimizer.ts";
import { begin, type RunFolder, saveModels } from "./checkpoint.ts";
import type { Stage, TrainEvent } from "./events.ts";
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

export interface SupervisedOptions<Example> extends TrainingOptions {
  train: readonly Example[];
  /** Held-out examples, evaluated every `evalSteps` steps and at the end. */
  eval?: readonly Example[];
  /** Where to save; without it nothing is saved. */
  run?: RunFolder;
  /** Continue from the newest checkpoint of `run`. */
  resume?: boolean;
  /** Compute in f16 with f32 master weights, and scale the loss as overflows demand. The adapter must have shader-f16. */
  fp16?: boolean;
}

/** What is special about a trainer. */
export interface Recipe<Example> {
  stage: Stage;
  /** Enqueues one optimizer step over micro-batches; `metrics` (with a finite `loss`) may arrive later. */
  step(
    optimizer: AdamW,
    batches: readonly (readonly Example[])[],
    lr: number,
    dropout: DropoutStep,
  ): { metrics: Promise<Record<string, number>>; tokens: number };
  evaluate(examples: readonly Example[]): Promise<Record<string, number>>;
  /** Called when a step's work is enqueued, with the number of steps done. */
  afterStep?(done: number): void;
  /** Models that change besides the trained one, by the names of their folders in checkpoints. */
  companions?: Record<string, { model: Model }>;
  /** What changes besides weights and moments: checkpoints keep it, as JSON. */
  state?: { save(): Promise<Record<string, unknown>>; load(saved: Record<string, unknown>): void };
}

/** Trains `model` in place. Throws `UserError` when there is nothing to learn from or a loss is not finite. */
export async function* trainOnExamples<Example>(
  model: Model,
  options: SupervisedOptions<Example>,
  recipe: Recipe<Example>,
): AsyncGenerator<TrainEvent> {
  const plan = new BatchPlan(options.train.length, options);
  const { maxSteps } = plan;
  model.half = options.fp16 === true;
  const optimizer = new AdamW(model.store, { ...options, lossScaling: options.fp16 });
  const trainees = { "": { model, optimizer } };
  const kept = { ...trainees, ...recipe.companions };
  const restored = await begin(options.run, options.resume, kept);
  const first = restored?.step ?? 0;
  if (restored) recipe.state?.load(restored.state);
  yield { type: "start", stage: recipe.stage, step: first, maxSteps, parameters: model.store.count };

  const takeStep = async (step: number): Promise<TrainEvent & { type: "step" }> => {
    const started = now();
    const batches = plan.batches(step).map((batch) => batch.map((i) => options.train[i]));
    const lr = rateAt(options, maxSteps, step);
    const { metrics: reading, tokens } = recipe.step(optimizer, batches, lr, { seed: options.seed, step });
    const done = step + 1;
    recipe.afterStep?.(done);
    const metrics = { ...(await reading), learning_rate: lr };
    checkFinite(done, metrics, ["loss"]);
    return { type: "step", step: done, maxSteps, epoch: plan.epoch(done), metrics, tokens, seconds: now() - started };
  };

  const close = () => {
    optimizer.destroy();
    model.half = false;
  };

  let pending: ReturnType<typeof takeStep> | null = null; // metrics are read one step late, so that the GPU never waits
  let last: Record<string, number> = {};
  for (let step = first; step < maxSteps; step++) {
    const event = takeStep(step);
    event.catch(() => {}); // thrown where it is awaited, unless an earlier step threw first
    if (pending) yield await pending;
    pending = event;
    const done = step + 1;
    const stop = stopping(options);
    const evaluate = options.eval?.length && (evalDue(options, done, maxSteps) || done === maxSteps);
    if (!stop && !evaluate && !saveDue(options, done) && done < maxSteps) continue;

    const settled = await pending;
    pending = null;
    last = settled.metrics;
    yield settled;
    if (evaluate) {
      const metrics = await recipe.evaluate(options.eval as readonly Example[]);
      last = { ...last, ...metrics };
      yield { type: "eval", step: done, metrics };
    }
    if (options.run && (stop || saveDue(options, done))) {
      yield await checkpoint(options.run, done, kept, (await recipe.state?.save()) ?? {});
    }
    if (stop) return close();
  }
  if (options.run) await saveModels(options.run, { "": model });
  close();
  yield { type: "end", step: maxSteps, metrics: last };
}

/** What the optimizer's control record, the first `size` of some values that were read back, adds to a step's metrics. */
export function controlMetrics(values: ArrayLike<number>, size: number): Record<string, number> {
  const { gradNorm, skipped, lossScale } = readControl(values, size);
  return { grad_norm: gradNorm, skipped_steps: skipped, ...(lossScale !== null && { loss_scale: lossScale }) };
}
