/** What trainers of a fixed list of examples share: SFT, reward models, preference losses. */
import type { DropoutStep } from "../nn/dropout.ts";
import type { Model } from "../nn/models.ts";
import { AdamW } from "../nn/optimizer.ts";
import type { Kept } from "./checkpoint.ts";
import type { TrainEvent } from "./events.ts";
import { loop, type RunOptions } from "./loop.ts";
import type { Common, Optimiser } from "./settings.ts";
import { adamOf, BatchPlan, rateAt } from "./training.ts";

/** Examples to learn from, and held-out ones beside them. */
export type ExampleData<E> = readonly E[] | { train: readonly E[]; eval?: readonly E[] };

/** The parts of the data, whichever way they were given. */
export const partsOf = <E>(data: ExampleData<E>): { train: readonly E[]; eval: readonly E[] } =>
  "train" in data ? { train: data.train, eval: data.eval ?? [] } : { train: data, eval: [] };

/** The settings that every trainer of examples has. */
export type ExampleSettings = Common &
  Optimiser & { numTrainEpochs: number; maxSteps: number | null; evalSteps: number; fp16: boolean };

/** What is special about a trainer. */
export interface Recipe<Example> {
  stage: string;
  /** Enqueues one optimizer step over micro-batches; `metrics` (with a finite `loss`) may arrive later. */
  step(
    optimizer: AdamW,
    batches: readonly (readonly Example[])[],
    learningRate: number,
    dropout: DropoutStep,
  ): { metrics: Promise<Record<string, number>>; tokens: number };
  evaluate(examples: readonly Example[]): Promise<Record<string, number>>;
  /** Called when a step's work is enqueued, with the number of steps done. */
  afterStep?(done: number): void;
  /** Models that change besides the trained one, by the names of their folders in checkpoints. */
  companions?: Record<string, Kept>;
  /** What changes besides weights and moments: checkpoints keep it, as JSON. */
  state?: { save(): Promise<Record<string, unknown>>; load(saved: Record<string, unknown>): void };
}

/** Trains `model` in place. Throws `UserError` when there is nothing to learn from or a loss is not finite. */
export async function* trainOnExamples<Example>(
  model: Model,
  { train, eval: held }: { train: readonly Example[]; eval: readonly Example[] },
  settings: ExampleSettings,
  recipe: Recipe<Example>,
  run: RunOptions = {},
): AsyncGenerator<TrainEvent> {
  const plan = new BatchPlan(train.length, settings);
  const { maxSteps } = plan;
  model.half = settings.fp16;
  model.gradientCheckpointing = settings.gradientCheckpointing;
  const optimizer = new AdamW(model.store, { ...adamOf(settings), lossScaling: settings.fp16 });
  yield* loop(
    {
      stage: recipe.stage,
      maxSteps,
      parameters: model.store.count,
      kept: { "": { model, optimizer }, ...recipe.companions },
      state: recipe.state,
      epoch: (done) => plan.epoch(done),
      ahead: true, // metrics are read one step late, so that the GPU never waits
      async step(step) {
        const batches = plan.batches(step).map((batch) => batch.map((i) => train[i]));
        const rate = rateAt(settings, maxSteps, step);
        const { metrics, tokens } = recipe.step(optimizer, batches, rate, { seed: settings.seed, step });
        recipe.afterStep?.(step + 1);
        return { metrics: { ...(await metrics), learning_rate: rate }, tokens };
      },
      finite: ["loss"],
      ...(held.length > 0 && { evaluate: async () => ({ metrics: await recipe.evaluate(held) }) }),
      finished: () => ({ "": model }),
      close() {
        optimizer.destroy();
        model.half = false;
      },
    },
    settings,
    run,
  );
}
