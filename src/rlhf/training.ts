/** What every trainer shares: common options, the order of examples, and the rhythm of events and checkpoints. */
import { learningRateAt, type ScheduleName } from "../nn/optimizer.ts";
import { isUserError, UserError } from "../runtime/errors.ts";
import { permutation } from "../runtime/rng.ts";
import { type Kept, type RunFolder, saveCheckpoint } from "./checkpoint.ts";
import type { TrainEvent } from "./events.ts";

export interface TrainingOptions {
  /** Peak learning rate. */
  learningRate: number;
  schedule: ScheduleName;
  /** Steps of linear warm-up; below 1 it is a fraction of all steps. */
  warmup: number;
  /** Where cosine_with_min_lr ends. Default: a tenth of the peak. */
  minLearningRate?: number | null;
  /** Steps after which the schedule is at its end and stays there. Default: all. */
  decaySteps?: number | null;
  /** Passes over the data; `maxSteps` overrides it. */
  epochs: number;
  /** Optimizer steps; 0 means `epochs` decides. */
  maxSteps: number;
  /** Sequences per forward pass. */
  batchSize: number;
  /** Forward passes per optimizer step. Equal to a batch that much larger. */
  accumulation: number;
  weightDecay: number;
  betas: readonly [number, number];
  maxGradNorm: number;
  seed: number;
  /** Evaluate every so many steps, and at the end; 0 evaluates at the end only. */
  evalSteps: number;
  /** Save a checkpoint every so many steps; 0 saves none. */
  saveSteps: number;
  /** When it fires, the trainer finishes the step, saves a checkpoint and returns. */
  signal?: AbortSignal;
}

export const trainingDefaults: TrainingOptions = {
  learningRate: 2e-5,
  schedule: "linear",
  warmup: 0,
  epochs: 3,
  maxSteps: 0,
  batchSize: 8,
  accumulation: 1,
  weightDecay: 0,
  betas: [0.9, 0.999],
  maxGradNorm: 1,
  seed: 42,
  evalSteps: 0,
  saveSteps: 0,
};

/** Which examples each optimizer step sees: a fresh permutation every epoch, a pure function of the seed and the step. */
export class BatchPlan {
  readonly stepsPerEpoch: number;
  readonly maxSteps: number;
  private readonly count: number;
  private readonly options: Pick<TrainingOptions, "batchSize" | "accumulation" | "seed">;
  private order: Uint32Array = new Uint32Array();
  private orderEpoch = -1;

  constructor(count: number, options: TrainingOptions) {
    if (count === 0) throw new UserError("there is nothing to train on: the dataset has no usable example");
    this.count = count;
    this.options = options;
    this.stepsPerEpoch = Math.ceil(count / (options.batchSize * options.accumulation));
    this.maxSteps = options.maxSteps > 0 ? options.maxSteps : Math.ceil(this.stepsPerEpoch * options.epochs);
  }

  /** Epochs completed before a step, as a fraction. */
  epoch(step: number): number {
    return step / this.stepsPerEpoch;
  }

  /** The micro-batches of a step (0-based), as indices of examples. The last step of an epoch may be short. */
  batches(step: number): number[][] {
    const epoch = Math.floor(step / this.stepsPerEpoch);
    if (epoch !== this.orderEpoch) {
      this.order = permutation(this.count, this.options.seed, epoch);
      this.orderEpoch = epoch;
    }
    const { batchSize, accumulation } = this.options;
    const first = (step % this.stepsPerEpoch) * batchSize * accumulation;
    const batches: number[][] = [];
    for (let i = 0; i < accumulation; i++) {
      const part = [...this.order.subarray(first + i * batchSize, first + (i + 1) * batchSize)];
      if (part.length > 0) batches.push(part);
    }
    return batches;
  }
}

/** The learning rate of a step (0-based). */
export function rateAt(options: TrainingOptions, maxSteps: number, step: number): number {
  const { learningRate, schedule, warmup, minLearningRate = null, decaySteps = null } = options;
  const steps = warmup < 1 ? Math.ceil(warmup * maxSteps) : warmup;
  const floor = minLearningRate !== null && learningRate > 0 ? { minRatio: minLearningRate / learningRate } : {};
  const total = decaySteps ?? maxSteps;
  return learningRateAt({ name: schedule, learningRate, total, warmup: steps, ...floor }, step);
}

/** True when a checkpoint is due after `done` steps. */
export const saveDue = (options: Pick<TrainingOptions, "saveSteps">, done: number): boolean =>
  options.saveSteps > 0 && done % options.saveSteps === 0;

/** True when an evaluation is due after `done` steps (the one at the very end is the trainer's own). */
export const evalDue = (options: Pick<TrainingOptions, "evalSteps">, done: number, maxSteps: number): boolean =>
  options.evalSteps > 0 && done % options.evalSteps === 0 && done < maxSteps;

/** Throws when a metric that must be finite is not: training on would only spread it. */
export function checkFinite(step: number, metrics: Record<string, number>, names: readonly string[]): void {
  for (const name of names) {
    if (Number.isFinite(metrics[name])) continue;
    throw new UserError(
      `${name} became ${metrics[name]} at step ${step}: lower learning_rate or max_grad_norm; the last checkpoint is untouched`,
    );
  }
}

/** True when the trainer is asked to stop: it then saves what it has (if it saves at all) and returns without an end. */
export const stopping = (options: Pick<TrainingOptions, "signal">): boolean => options.signal?.aborted === true;

/** Saves and announces a checkpoint. */
export async function checkpoint(
  run: RunFolder,
  step: number,
  trainees: Record<string, Kept>,
  state: Record<string, unknown>,
): Promise<TrainEvent> {
  return { type: "checkpoint", step, name: await saveCheckpoint(run, step, trainees, state) };
}

/**
 * Does the part of a step that depends on others, such as a server that gives rewards, before anything is learned in it. If
 * they fail, the run is saved as it is, unless it is already: nothing learned is lost.
 * @param save saves the run as it is after `done` steps, of which it took those from `first` on itself
 */
export async function orSaved<R>(
  work: Promise<R>,
  save: ((done: number) => Promise<unknown>) | undefined,
  { first, done, saveSteps }: { first: number; done: number; saveSteps: number },
): Promise<R> {
  try {
    return await work;
  } catch (error) {
    if (!save || !isUserError(error) || done === first || saveDue({ saveSteps }, done)) throw error;
    const saved = await save(done).then(
      () => true,
      () => false, // the first error is the one to tell
    );
    if (!saved) throw error;
    throw new UserError(`${error.message}. What was learned before is in checkpoint-${done}: resume from it`, {
      cause: error,
    });
  }
}

/** Seconds since some moment, for events; never an input to a result. */
export const now = (): number => performance.now() / 1000;
