/** How what was sampled is cut into optimizer steps and passes, and what each pass counts for. */
import { type AdamW, type ControlState, readControl } from "../nn/optimizer.ts";
import { permutation } from "../runtime/rng.ts";
import { byDialect, group, type ResolvedSettings } from "../settings/index.ts";
import { scope } from "../tensor/core.ts";
import { optim } from "./settings.ts";
import { type RateOptions, rateAt } from "./training.ts";
import { peek, readEach, type Watched, type WatchedNumbers, watchControl } from "./watch.ts";

const own = group("PPO");

/** How a rollout is cut into optimizer steps, as settings. */
export const minibatchSettings = {
  numPpoEpochs: own.int(byDialect({ paddle: 1, trl: 4 }), "Passes over each rollout", {
    min: 1,
    aka: ["update_iters"],
  }),
  minibatchOrder: own.choice(
    ["chunks", "prompts", "shuffled"],
    byDialect({ paddle: "chunks", "paddle-late": "prompts", trl: "shuffled" }),
    "Of as many prompts as a pass takes responses, response j of each before j + 1 of any; prompt by prompt; drawn anew",
  ),
  lrSchedulerUnit: optim.choice(
    ["step", "rollout"],
    byDialect({ paddle: "step", trl: "rollout" }),
    "The learning rate changes with every optimizer step, or with every rollout; warm-up and decay are counted in these",
  ),
};

/** Sizes and order of the optimizer steps on one rollout. */
export type MinibatchOptions = Pick<ResolvedSettings<typeof minibatchSettings>, "numPpoEpochs" | "minibatchOrder"> & {
  perDeviceTrainBatchSize: number;
  gradientAccumulationSteps: number;
  seed: number;
};

/** One optimizer step: what each of its passes learns from, and its place in the run. */
export interface OptimizerStep<E> {
  parts: E[][];
  /** Optimizer steps before this one, of so many in the run. */
  taken: number;
  total: number;
}

/** An optimizer step on a rollout. */
export interface Minibatch<E> extends OptimizerStep<E> {
  /** Where each part begins in its epoch, counted in responses. */
  firsts: number[];
  /** Rollouts before this one, of so many in the run. */
  rollout: number;
  rollouts: number;
}

/**
 * The optimizer steps on one rollout, in order. They go on from one epoch to the next, so that only a rollout's last step can
 * have fewer passes than the others.
 * @param place `rollout`: how many were before, of `maxSteps` in all; `planned`: the responses of a whole rollout, where some may be
 * left out of this one, which changes no learning rate
 */
export function minibatches<E extends { response: { sample: number } }>(
  experience: readonly E[],
  { rollout, maxSteps, planned = experience.length }: { rollout: number; maxSteps: number; planned?: number },
  options: MinibatchOptions,
): Minibatch<E>[] {
  const { gradientAccumulationSteps: accumulation, numPpoEpochs: epochs } = options;
  const passes = Array.from({ length: epochs }, (_, epoch) => {
    let first = 0;
    return passesOver(experience, options, rollout * epochs + epoch + 1).map((places) => {
      first += places.length;
      return { part: places.map((at) => experience[at]), first: first - places.length };
    });
  }).flat();
  const steps = Math.ceil(passes.length / accumulation);
  const samples = 1 + Math.max(0, ...experience.map(({ response }) => response.sample));
  const whole = [
    ...experience,
    ...Array.from({ length: planned - experience.length }, (_, i) => ({ response: { sample: i % samples } })),
  ];
  const usual = Math.ceil((passesOver(whole, options, 1).length * epochs) / accumulation);
  return Array.from({ length: steps }, (_, i) => {
    const own = passes.slice(i * accumulation, (i + 1) * accumulation);
    return {
      parts: own.map(({ part }) => part),
      firsts: own.map(({ first }) => first),
      taken: rollout * usual + i,
      total: maxSteps * usual,
      rollout,
      rollouts: maxSteps,
    };
  });
}

/** The passes of one epoch, as places in the rollout, whose responses come prompt by prompt. */
function passesOver(
  experience: readonly { response: { sample: number } }[],
  { perDeviceTrainBatchSize: batch, minibatchOrder, seed }: MinibatchOptions,
  epoch: number,
): number[][] {
  const places = experience.map((_, i) => i);
  if (minibatchOrder === "shuffled") return cut([...permutation(places.length, seed, epoch)], batch);
  if (minibatchOrder === "prompts") return cut(places, batch);
  // Of so many prompts as a pass takes responses: response j of each before response j + 1 of any.
  const samples = 1 + experience.reduce((most, { response }) => Math.max(most, response.sample), 0);
  return cut(places, batch * samples).flatMap((chunk) =>
    Array.from({ length: samples }, (_, j) => chunk.filter((at) => experience[at].response.sample === j)).filter(
      (part) => part.length > 0,
    ),
  );
}

const cut = <T>(list: readonly T[], size: number): T[][] =>
  Array.from({ length: Math.ceil(list.length / size) }, (_, i) => list.slice(i * size, (i + 1) * size));

/** The learning rate of an optimizer step, or that of its whole rollout. */
export const rateOf = (options: RateOptions, step: Minibatch<unknown>, unit: "step" | "rollout"): number =>
  unit === "step" ? rateAt(options, step.total, step.taken) : rateAt(options, step.rollouts, step.rollout);

/** All of some experience's numbers in a row. */
export const flat = <E>(experience: readonly E[], pick: (e: E) => ArrayLike<number>): Float32Array =>
  Float32Array.from(experience.flatMap((e) => Array.from(pick(e))));

/** What an optimizer step learns from. */
type Learned<S extends OptimizerStep<unknown>> = S["parts"][number][number];

/** Hears of each optimizer step on a rollout, the 1st to the last of so many; the next one waits for it. */
export type Taken<E> = (step: {
  update: number;
  updates: number;
  parts: readonly (readonly E[])[];
  /** What it went down. */
  loss: number;
}) => Promise<void>;

/** What the optimizer steps on one rollout left to be read. */
export interface Descent<E, K extends string> {
  /** What each pass left, and the experience that it learned from. */
  read: WatchedNumbers<K | "loss">[];
  parts: (readonly E[])[];
  /** Mean over the optimizer steps of what each went down: the sum or the mean of its passes' losses. */
  loss: number;
  /** What was learned beside. */
  beside: WatchedNumbers[];
  control: ControlState;
  /** The last step's learning rate. */
  rate: number;
}

/**
 * Takes optimizer steps: for each, the passes that add up its gradient, then the step itself.
 * @param work `pass` enqueues one pass with its gradient, times what it counts for; `beside` more of the kind after each pass;
 * `after` follows each step, and `taken` once it is enqueued, with what it went down; the next one waits for `settle`, which is
 * handed what the step's passes left; `share` is what each of so many passes
 * counts for, by default as much as any other
 */
export async function descend<S extends OptimizerStep<unknown>, K extends string>(
  optimizer: AdamW,
  steps: readonly S[],
  work: {
    share?: (passes: number) => number;
    pass(part: Learned<S>[], share: number): Watched<K | "loss">;
    rate(step: S): number;
    beside?(step: S, pass: number, share: number): Watched;
    after?(): void;
    settle?: ((passes: readonly Watched<K | "loss">[], step: S) => Promise<void>) | undefined;
    taken?: Taken<Learned<S>> | undefined;
  },
): Promise<Descent<Learned<S>, K>> {
  const { share: shareOf = (passes: number) => 1 / passes } = work;
  const passes: Watched<K | "loss">[] = [];
  const shares: number[] = [];
  const beside: Watched[] = [];
  let rate = 0;
  let updates = 0;
  try {
    for (const step of steps) {
      const share = shareOf(step.parts.length);
      for (const [i, part] of step.parts.entries()) {
        passes.push(scope(() => work.pass(part as Learned<S>[], share)));
        shares.push(share);
        if (work.beside) beside.push(scope(() => (work.beside as NonNullable<typeof work.beside>)(step, i, share)));
      }
      rate = work.rate(step);
      optimizer.step(rate);
      work.after?.();
      await work.settle?.(passes.slice(-step.parts.length), step);
      if (work.taken) {
        const loss = await lossOf(passes.slice(-step.parts.length), share);
        await work.taken({ parts: step.parts as Learned<S>[][], loss, update: ++updates, updates: steps.length });
      }
    }
  } catch (error) {
    for (const { values } of [...passes, ...beside]) values.free("an update that was left");
    throw error;
  }
  const [{ control }, ...all] = await readEach<string>([watchControl(optimizer), ...passes, ...beside]);
  const read = all.slice(0, passes.length) as WatchedNumbers<K | "loss">[];
  return {
    read,
    parts: steps.flatMap(({ parts }) => parts as Learned<S>[][]),
    loss: read.reduce((sum, { loss }, i) => sum + shares[i] * loss[0], 0) / steps.length,
    beside: all.slice(passes.length),
    control: readControl(control, control.length),
    rate,
  };
}

/** The loss of one optimizer step, whose passes are still to be read. */
async function lossOf(passes: readonly Watched<string>[], share: number): Promise<number> {
  const losses = await Promise.all(passes.map((pass) => peek(pass, "loss")));
  return losses.reduce((sum, [[loss]]) => sum + share * loss, 0);
}
