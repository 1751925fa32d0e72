/** How what was sampled is cut into optimizer steps and passes, and what each pass counts for. */
import { type AdamW, type ControlState, readControl } from "../nn/optimizer.ts";
import { permutation } from "../runtime/rng.ts";
import { scope } from "../tensor/core.ts";
import { readEach, type Watched, type WatchedNumbers, watchControl } from "./watch.ts";

/** Sizes and order of the optimizer steps on one rollout. */
export interface MinibatchOptions {
  perDeviceTrainBatchSize: number;
  gradientAccumulationSteps: number;
  numPpoEpochs: number;
  /** Else response j of every prompt comes before response j + 1 of any. */
  shuffleMinibatches: boolean;
  seed: number;
}

/** One optimizer step: its passes, and its place in the rollout and in the run. */
export interface Minibatch<E> {
  parts: E[][];
  /** Where the step's experience begins in its pass over the rollout, and how much of it there is. */
  first: number;
  size: number;
  /** Optimizer steps before this one, of so many in the run. */
  taken: number;
  total: number;
}

/**
 * The optimizer steps on one rollout, in order.
 * @param rollout how many were before, of `maxSteps` in all
 */
export function minibatches<E extends { response: { sample: number } }>(
  experience: readonly E[],
  { rollout, maxSteps }: { rollout: number; maxSteps: number },
  options: MinibatchOptions,
): Minibatch<E>[] {
  const { perDeviceTrainBatchSize: batch, gradientAccumulationSteps: accumulation, numPpoEpochs: epochs } = options;
  const passes = Math.ceil(experience.length / batch);
  const perRollout = epochs * Math.ceil(passes / accumulation);
  const steps: Minibatch<E>[] = [];
  for (let epoch = 0; epoch < epochs; epoch++) {
    const order = options.shuffleMinibatches
      ? [...permutation(experience.length, options.seed, rollout * epochs + epoch + 1)]
      : sampleBySample(experience);
    for (let b = 0; b < passes; b += accumulation) {
      const parts = Array.from({ length: Math.min(accumulation, passes - b) }, (_, i) =>
        order.slice((b + i) * batch, (b + i + 1) * batch).map((at) => experience[at]),
      );
      const size = parts.reduce((n, part) => n + part.length, 0);
      const taken = rollout * perRollout + steps.length;
      steps.push({ parts, first: b * batch, size, taken, total: maxSteps * perRollout });
    }
  }
  return steps;
}

/** Response j of every prompt before response j + 1 of any. */
function sampleBySample(experience: readonly { response: { sample: number } }[]): number[] {
  const places = experience.map((_, i) => i);
  return places.sort((a, b) => experience[a].response.sample - experience[b].response.sample || a - b);
}

/**
 * The share of each pass in the average of its optimizer step, so that the size of passes is no matter.
 * @param length how many tokens an experience counts for, where losses average over tokens
 */
export function sharesOf<E>(
  parts: readonly (readonly E[])[],
  lossAverage: "token" | "sequence",
  length: (e: E) => number,
): number[] {
  const weights = parts.map((part) =>
    lossAverage === "token" ? part.reduce((n, e) => n + length(e), 0) : part.length,
  );
  const all = weights.reduce((a, b) => a + b, 0);
  return weights.map((weight) => weight / all);
}

/** All of some experience's numbers in a row. */
export const flat = <E>(experience: readonly E[], pick: (e: E) => ArrayLike<number>): Float32Array =>
  Float32Array.from(experience.flatMap((e) => Array.from(pick(e))));

/** What the optimizer steps on one rollout left to be read. */
export interface Descent<E, K extends string> {
  /** What each pass left, and the experience that it learned from. */
  read: WatchedNumbers<K | "loss">[];
  parts: (readonly E[])[];
  /** Mean over the optimizer steps of what each went down: its passes' losses by their shares. */
  loss: number;
  /** What was learned beside. */
  beside: WatchedNumbers[];
  control: ControlState;
  /** The last step's learning rate. */
  rate: number;
}

/**
 * Takes optimizer steps: for each, the passes that add up its gradient, then the step itself.
 * @param work `pass` enqueues one pass with its gradient; `beside` more of the kind; `after` follows each step
 */
export async function descend<E, K extends string>(
  optimizer: AdamW,
  steps: readonly Minibatch<E>[],
  work: {
    shares(parts: readonly (readonly E[])[]): number[];
    pass(part: readonly E[], share: number): Watched<K | "loss">;
    rate(step: Minibatch<E>): number;
    beside?(step: Minibatch<E>): Watched[];
    after?(): void;
  },
): Promise<Descent<E, K>> {
  const passes: Watched<K | "loss">[] = [];
  const counts: number[] = [];
  const beside: Watched[] = [];
  let rate = 0;
  for (const step of steps) {
    const shares = work.shares(step.parts);
    counts.push(...shares);
    for (const [i, part] of step.parts.entries()) passes.push(scope(() => work.pass(part, shares[i])));
    beside.push(...(work.beside?.(step) ?? []));
    rate = work.rate(step);
    optimizer.step(rate);
    work.after?.();
  }
  const [{ control }, ...all] = await readEach<string>([watchControl(optimizer), ...passes, ...beside]);
  const read = all.slice(0, passes.length) as WatchedNumbers<K | "loss">[];
  return {
    read,
    parts: steps.flatMap(({ parts }) => parts),
    loss: read.reduce((sum, { loss }, i) => sum + counts[i] * loss[0], 0) / steps.length,
    beside: all.slice(passes.length),
    control: readControl(control, control.length),
    rate,
  };
}
