/** The order in which examples are learned, and how fast. */
import { type AdamWOptions, learningRateAt } from "../nn/optimizer.ts";
import { UserError } from "../runtime/errors.ts";
import { permutation } from "../runtime/rng.ts";
import type { OptimiserSettings } from "./settings.ts";

/** The settings that an order of examples follows from. */
export type PlanOptions = Pick<OptimiserSettings, "perDeviceTrainBatchSize" | "gradientAccumulationSteps"> & {
  seed: number;
  numTrainEpochs: number;
  maxSteps: number | null;
};

/** A plan of the examples that each optimizer step sees: a fresh permutation every epoch, a pure function of the seed and the step. */
export class BatchPlan {
  readonly stepsPerEpoch: number;
  readonly maxSteps: number;
  private readonly count: number;
  private readonly batch: number;
  private readonly accumulation: number;
  private readonly seed: number;
  private order: Uint32Array = new Uint32Array();
  private orderEpoch = -1;

  constructor(count: number, options: PlanOptions) {
    if (count === 0) throw new UserError("there is nothing to train on: the dataset has no usable example");
    this.count = count;
    this.batch = options.perDeviceTrainBatchSize;
    this.accumulation = options.gradientAccumulationSteps;
    this.seed = options.seed;
    this.stepsPerEpoch = Math.ceil(count / (this.batch * this.accumulation));
    this.maxSteps = options.maxSteps ?? Math.ceil(this.stepsPerEpoch * options.numTrainEpochs);
  }

  /** Epochs completed before a step, as a fraction. */
  epoch(step: number): number {
    return step / this.stepsPerEpoch;
  }

  /** The micro-batches of a step (0-based), as indices of examples. The last step of an epoch may be short. */
  batches(step: number): number[][] {
    const epoch = Math.floor(step / this.stepsPerEpoch);
    if (epoch !== this.orderEpoch) {
      this.order = permutation(this.count, this.seed, epoch);
      this.orderEpoch = epoch;
    }
    const { batch, accumulation } = this;
    const first = (step % this.stepsPerEpoch) * batch * accumulation;
    const batches: number[][] = [];
    for (let i = 0; i < accumulation; i++) {
      const part = [...this.order.subarray(first + i * batch, first + (i + 1) * batch)];
      if (part.length > 0) batches.push(part);
    }
    return batches;
  }
}

/** The settings that a learning rate follows from. */
export type RateOptions = Pick<OptimiserSettings, "learningRate" | "lrSchedulerType" | "warmupSteps"> &
  Partial<Pick<OptimiserSettings, "minLearningRate" | "decaySteps">>;

/** The learning rate of a step (0-based) of a run. */
export function rateAt(options: RateOptions, maxSteps: number, step: number): number {
  const { learningRate, lrSchedulerType: name, warmupSteps, minLearningRate = null, decaySteps = null } = options;
  const warmup = warmupSteps < 1 ? Math.ceil(warmupSteps * maxSteps) : warmupSteps;
  const floor = minLearningRate !== null && learningRate > 0 ? { minRatio: minLearningRate / learningRate } : {};
  return learningRateAt({ name, learningRate, total: decaySteps ?? maxSteps, warmup, ...floor }, step);
}

/** The settings of an optimizer, as AdamW takes them. */
export const adamOf = (
  o: Pick<OptimiserSettings, "adamBeta1" | "adamBeta2" | "weightDecay" | "maxGradNorm" | "optim"> & { fp16?: boolean },
): AdamWOptions => ({
  betas: [o.adamBeta1, o.adamBeta2],
  weightDecay: o.weightDecay,
  maxGradNorm: o.maxGradNorm,
  eightBit: o.optim === "adamw_8bit",
  muon: o.optim === "muon",
  lossScaling: o.fp16 ?? false,
});
