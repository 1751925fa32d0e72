/** What trainers of a fixed list of examples share: SFT, reward models, preference losses. */
import type { DropoutStep } from "../nn/ambient.ts";
import type { Model } from "../nn/models.ts";
import { AdamW } from "../nn/optimizer.ts";
import type { TextTokenizer } from "../nn/text-tokenizer.ts";
import { UserError } from "../runtime/errors.ts";
import { live, spelled } from "../settings/index.ts";
import type { CheckpointedModel } from "./checkpoint.ts";
import { dataEvents } from "./data-events.ts";
import { inRounds, type LearnerSettings, seedOf } from "./diloco.ts";
import type { TrainEvent } from "./events.ts";
import { inHalf } from "./half.ts";
import { loop, type RunOptions, type TrainerSteps } from "./loop.ts";
import { tokenizerOf } from "./sampler.ts";
import type { CommonSettings, OptimiserSettings } from "./settings.ts";
import { adamOf, BatchPlan, rateAt } from "./training.ts";

/** Examples to learn from, and held-out ones beside them. */
export type ExampleData<E> = readonly E[] | { train: readonly E[]; eval?: readonly E[] };

/** Examples to learn from, and held-out ones; both lists are there. */
export interface ExampleSplits<E> {
  train: readonly E[];
  eval: readonly E[];
}

/** A dataset that makes examples for a tokenizer, by a method of its own for each kind. */
export type DatasetOf<K extends string, E> = {
  [k in K]: (tokenizer: never, options: never, ...more: never[]) => Promise<{ train: E[]; eval: E[] }>;
};

/**
 * The parts of the data, whichever way they were given.
 * @param kind the dataset's method for this kind of example
 * @param options of that method: how examples are cut, mostly
 * @param more what the method takes besides
 */
export async function examplesOf<K extends string, E>(
  data: ExampleData<E> | DatasetOf<K, E>,
  kind: K,
  models: { policy: Model; tokenizer?: TextTokenizer },
  options: object,
  ...more: unknown[]
): Promise<ExampleSplits<E>> {
  if (kind in data) {
    const make = (data as Record<K, (...all: unknown[]) => Promise<ExampleSplits<E>>>)[kind];
    return make.call(data, tokenizerOf(models), options, ...more);
  }
  const given = data as ExampleData<E>;
  return "train" in given ? { train: given.train, eval: given.eval ?? [] } : { train: given, eval: [] };
}

/** The longest sequence to learn in tokens: what the settings ask for, or all that the model can see. */
export function contextOf({ config }: Model, settings: { maxLength: number | null }): number {
  const { maxLength } = settings;
  if (maxLength === null || maxLength <= config.maxPositions) return maxLength ?? config.maxPositions;
  throw new UserError(
    `${spelled(settings, "maxLength")} ${maxLength} is more than the model's context of ${config.maxPositions} tokens`,
  );
}

/** The settings that every trainer of examples has. */
export type ExampleSettings = CommonSettings &
  OptimiserSettings &
  Partial<LearnerSettings> & { numTrainEpochs: number; maxSteps: number | null; evalSteps: number; fp16: boolean };

/** Rows of a table, one for each example of a step; `index` names the column of its place in the data, from 0. */
export interface ExampleRows {
  table: string;
  index: string;
  /** Is called once the step's metrics are there. */
  rows(): Promise<Record<string, number | boolean>[]>;
}

/** A method that learns from examples, as `trainOnExamples` runs it: an optimizer step, and an evaluation. */
export interface ExampleMethod<Example> {
  stage: string;
  /**
   * Enqueues one optimizer step over micro-batches; `metrics` (with a finite `loss`) may arrive later. `rows` are for the table
   * of its name, one for each example, in their order; the example's place in the data is added.
   */
  step(
    optimizer: AdamW,
    batches: readonly (readonly Example[])[],
    learningRate: number,
    dropout: DropoutStep,
  ): { metrics: Promise<Record<string, number>>; tokens: number; rows?: ExampleRows };
  evaluate(examples: readonly Example[]): Promise<Record<string, number>>;
  /** Called when a step's work is enqueued, with the number of steps done. */
  afterStep?(done: number): void;
  /** Models that change besides the trained one, by the names of their folders in checkpoints. */
  companions?: Record<string, CheckpointedModel>;
  /** What changes besides weights and moments: checkpoints keep it, as JSON. */
  state?: { save(): Promise<Record<string, unknown>>; load(saved: Record<string, unknown>): void };
}

/** Trains `model` in place. Throws `UserError` when there is nothing to learn from or a loss is not finite. */
export async function* trainOnExamples<Example>(
  model: Model,
  { train, eval: held }: ExampleSplits<Example>,
  given: ExampleSettings,
  method: ExampleMethod<Example>,
  run: RunOptions = {},
): AsyncGenerator<TrainEvent> {
  const settings = live(given);
  const plan = new BatchPlan(train.length, { ...settings, seed: seedOf(settings.seed, run.learners) });
  const { maxSteps } = plan;
  model.gradientCheckpointing = settings.gradientCheckpointing;
  const optimizer = new AdamW(model.store, adamOf(settings));
  const half = inHalf(settings.fp16, [model]);
  const steps: TrainerSteps = {
    stage: method.stage,
    maxSteps,
    parameters: model.store.count,
    kept: { "": { model, optimizer }, ...method.companions },
    state: method.state,
    data: dataEvents(train, held),
    epoch: (done) => plan.epoch(done),
    ahead: true, // metrics are read one step late, so that the GPU never waits
    async step(step) {
      const places = plan.batches(step);
      const batches = places.map((batch) => batch.map((i) => train[i]));
      const rate = rateAt(settings, maxSteps, step);
      const { metrics, tokens, rows } = method.step(optimizer, batches, rate, { seed: settings.seed, step });
      method.afterStep?.(step + 1);
      const measured = await metrics;
      const idle = measured.grad_norm === 0 ? "its loss has no gradient" : undefined;
      const events = rows ? [await rowsEvent(step + 1, rows, places.flat())] : [];
      return { metrics: { ...measured, learning_rate: rate }, tokens, idle, events };
    },
    finite: ["loss"],
    ...(held.length > 0 && { evaluate: async () => ({ metrics: await method.evaluate(held) }) }),
    finished: () => ({ "": model }),
    close() {
      half.destroy();
      optimizer.destroy();
    },
  };
  yield* loop(inRounds(steps, model.store, settings, run), settings, run);
}

/** The rows with the places of their examples. */
async function rowsEvent(
  step: number,
  { table, index, rows }: ExampleRows,
  places: readonly number[],
): Promise<TrainEvent> {
  return { type: "rows", step, table, rows: (await rows()).map((row, i) => ({ [index]: places[i], ...row })) };
}
