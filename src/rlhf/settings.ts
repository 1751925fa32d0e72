/**
 * What the trainers' settings have in common: headings, and groups of settings that go together. Names are those of TRL,
 * Hugging Face's Trainer and PEFT where they have one; code writes them in camelCase, the command line in snake_case.
 */
import { kvCacheFormats } from "../nn/cache.ts";
import { type ScheduleName, schedules } from "../nn/optimizer.ts";
import { eachChoice, type SamplingChoice, samplingChoices } from "../nn/sampling.ts";
import { UserError } from "../runtime/errors.ts";
import {
  type Condition,
  type DerivedDefault,
  derived,
  group,
  needs,
  type ResolvedSettings,
  type Setting,
  spelled,
  without,
} from "../settings/index.ts";

export const optim = group("Optimisation");
export const logging = group("Output");
export const rollout = group("Rollout");
export const data = group("Data");
export const model = group("Model");

export const probability = { min: 0, max: 1 };
export const positive = { min: 0, exclusiveMin: true };
export const share = { ...probability, exclusiveMin: true };

/** The seed of everything that is drawn. */
export const seed = logging.int(42, "Seed of every random number", { min: 0, max: 0xffffffff });

/** When checkpoints are written, and the seed: what every trainer has. */
export const common = {
  seed,
  saveStrategy: logging.choice(
    ["steps", "epoch", "no"],
    "steps",
    "When checkpoints are written: as save_steps says, after every pass over the data, or none between (but see save_minutes)",
  ),
  saveSteps: logging.int(0, "Steps between checkpoints that are kept; 0 keeps none beside the finished model", {
    min: 0,
  }),
  saveMinutes: logging.float(
    5,
    "Minutes between checkpoints against a loss, which are written beside the training, change no result and go when the run " +
      "is finished; 0 writes none",
    { min: 0 },
  ),
};

/** Something looks for the best evaluation. */
const judged: Condition = needs("loadBestModelAtEnd", "earlyStoppingPatience");

/** Settings of the best evaluation, and what follows from it; as in transformers. */
export const bestModel = {
  loadBestModelAtEnd: logging.bool(
    false,
    "In the end restore the weights that evaluated best; their checkpoint is kept, whatever save_steps says",
  ),
  metricForBestModel: logging.text(
    null,
    "The number of evaluations that decides which is best, with or without eval_; default: loss, or accuracy, or reward, " +
      "whichever they report first",
    { effect: judged },
  ),
  greaterIsBetter: logging.bool(null, "The best is the highest; default: unless the metric's name ends in loss or kl", {
    effect: judged,
  }),
  earlyStoppingPatience: logging.int(
    null,
    "Stop after so many evaluations in a row without an improvement; default: never",
    { min: 1 },
  ),
  earlyStoppingThreshold: logging.float(0, "An improvement is what is better by more than this, for the patience", {
    min: 0,
    effect: needs("earlyStoppingPatience"),
  }),
};

/** The settings of the best evaluation, as far as somebody has them. */
export type BestChoice = Partial<ResolvedSettings<typeof bestModel>>;

/** When held-out data are looked at. */
export const evaluation = {
  evalStrategy: logging.choice(
    ["steps", "epoch", "no"],
    "steps",
    "When held-out data are looked at: as eval_steps says, after every pass over the data and at the end, or never",
    { aka: ["evaluation_strategy"] },
  ),
  evalSteps: logging.int(0, "Steps between evaluations on held-out data; 0 evaluates at the end", { min: 0 }),
  ...bestModel,
};

/** The settings of evaluations, as far as somebody has them. */
export type EvaluationChoice = Partial<Pick<ResolvedSettings<typeof evaluation>, "evalSteps" | "evalStrategy">>;

/** The setting that asks for evaluations on the way, by its spelling; null where none does. */
export function evaluationAsked(o: EvaluationChoice): string | null {
  const { evalSteps = 0, evalStrategy = "steps" } = o;
  if (evalStrategy === "epoch") return `${spelled(o, "evalStrategy")} epoch`;
  return evalStrategy === "steps" && evalSteps > 0 ? `${spelled(o, "evalSteps")} ${evalSteps}` : null;
}

/** When methods that sample look at held-out prompts. */
export const rolloutEvaluation = {
  ...evaluation,
  evalSteps: logging.int(
    0,
    "Rollouts between evaluations on held-out prompts, also before the first and after the last; 0 leaves them out",
    { min: 0 },
  ),
};

/** A schedule that warms up, of the policy or of a critic that has the policy's settings where it has none. */
const warming: Condition = {
  on: ["lrSchedulerType"],
  holds: ({ lrSchedulerType: own, criticLrSchedulerType: critics = "constant" }) =>
    own !== "constant" || (critics !== null && critics !== "constant"),
  words: (spell) => `with ${spell("lrSchedulerType")} constant, which does not warm up; constant_with_warmup does`,
};

/** Batches, the learning rate and AdamW. */
export const optimiser = (
  learningRate: number,
  schedule: ScheduleName,
  batch: number,
  others: Partial<Record<"beta1" | "beta2" | "maxGradNorm", number | DerivedDefault<number>>> = {},
) => ({
  learningRate: optim.float(learningRate, "Peak learning rate", { min: 0, live: true }),
  lrSchedulerType: optim.choice(schedules, schedule, "Learning rate after the warm-up; constant has none"),
  warmupSteps: optim.float(0, "Steps of linear warm-up; below 1 it is a part of all steps", {
    min: 0,
    aka: ["warmup_ratio"],
    effect: warming,
  }),
  perDeviceTrainBatchSize: optim.int(batch, "Sequences (for reward: pairs) in one pass", { min: 1 }),
  gradientAccumulationSteps: optim.int(1, "Passes added up for one optimizer step", { min: 1 }),
  gradientCheckpointing: optim.bool(
    false,
    "Compute each block again for its gradient: a third slower, far less memory",
  ),
  optim: optim.choice(
    ["adamw_torch", "adamw_8bit", "muon"],
    "adamw_torch",
    "AdamW; AdamW that keeps its moments of matrices in 8 bits: a quarter of the memory; or Muon for hidden matrices, AdamW for the rest",
  ),
  weightDecay: optim.float(0, "AdamW's decoupled weight decay", { min: 0 }),
  adamBeta1: optim.float<number>(others.beta1 ?? 0.9, "AdamW's beta1", probability),
  adamBeta2: optim.float<number>(others.beta2 ?? 0.999, "AdamW's beta2", probability),
  maxGradNorm: optim.float<number>(others.maxGradNorm ?? 1, "Clip the global gradient norm to this; 0 does not clip", {
    min: 0,
  }),
});

/** One of these schedules, of the policy or of a critic that has the policy's settings where it has none. */
const schedule = (...names: readonly ScheduleName[]): Condition => ({
  on: ["lrSchedulerType"],
  holds: ({ lrSchedulerType: own, criticLrSchedulerType: critics }) =>
    [own, critics].some((name) => names.includes(name as ScheduleName)),
  words: (spell) => `unless ${spell("lrSchedulerType")} is ${names.join(" or ")}`,
});

/** The same of the critic's own settings. */
const criticSchedule = (...names: readonly ScheduleName[]): Condition => ({
  on: ["lrSchedulerType", "criticLrSchedulerType"],
  holds: ({ lrSchedulerType: own, criticLrSchedulerType: critics }) => names.includes((critics ?? own) as ScheduleName),
  words: (spell) => `unless ${spell("criticLrSchedulerType")} is ${names.join(" or ")}`,
});

/** How the learning rate ends, for schedules that know it. */
export const scheduleEnd = {
  minLearningRate: optim.float(null, "Where cosine_with_min_lr ends; default: a tenth of the peak", {
    min: 0,
    effect: schedule("cosine_with_min_lr"),
  }),
  decaySteps: optim.int(null, "Optimizer steps after which the schedule is at its end; default: all", {
    min: 1,
    effect: schedule("linear", "cosine", "cosine_with_min_lr"),
  }),
};

/** Half precision. */
export const half = {
  fp16: optim.bool(false, "Compute in f16 with f32 master weights; the loss is scaled so that no gradient is lost"),
};

/** The critic's own learning rate and schedule. */
export const criticOptimiser = {
  criticLearningRate: optim.float(
    derived(
      ({ learningRate }: { learningRate: number }, dialect) => (dialect === "trl" ? learningRate : learningRate / 2),
      "half of learning_rate; trl: all of it",
    ),
    "Learning rate of the critic",
    { min: 0, live: true },
  ),
  criticLrSchedulerType: optim.maybeChoice(schedules, "The critic's own schedule; default: the policy's"),
  criticWarmupSteps: optim.float(null, "The critic's warm-up, as warmup_steps; default: the policy's", {
    min: 0,
    aka: ["critic_warmup_ratio"],
    effect: criticSchedule("constant_with_warmup", "linear", "cosine", "cosine_with_min_lr"),
  }),
  criticWeightDecay: optim.float(null, "The critic's weight decay; default: the policy's", { min: 0 }),
  criticMinLearningRate: optim.float(null, "Where the critic's rate ends; default: the policy's", {
    min: 0,
    effect: criticSchedule("cosine_with_min_lr"),
  }),
  criticDecaySteps: optim.int(null, "Optimizer steps of the critic's schedule; default: the policy's", {
    min: 1,
    effect: criticSchedule("linear", "cosine", "cosine_with_min_lr"),
  }),
  criticGradientCheckpointing: optim.bool(null, "As gradient_checkpointing, of the critic; default: the policy's", {
    aka: ["critic_recompute"],
  }),
};

/** The settings of the critic's optimizer: its own, and the policy's where it has none. */
export const ofCritic = (
  o: OptimiserSettings & ResolvedSettings<typeof criticOptimiser> & ResolvedSettings<typeof scheduleEnd>,
) => ({
  ...o,
  learningRate: o.criticLearningRate,
  lrSchedulerType: o.criticLrSchedulerType ?? o.lrSchedulerType,
  warmupSteps: o.criticWarmupSteps ?? o.warmupSteps,
  weightDecay: o.criticWeightDecay ?? o.weightDecay,
  minLearningRate: o.criticMinLearningRate ?? o.minLearningRate,
  decaySteps: o.criticDecaySteps ?? o.decaySteps,
  gradientCheckpointing: o.criticGradientCheckpointing ?? o.gradientCheckpointing,
});

/** How long trainers of examples go on. */
export const duration = (epochs: number) => ({
  numTrainEpochs: optim.float(epochs, "Passes over the data, when max_steps is not set", positive),
  maxSteps: optim.int(null, "Optimizer steps; wins over num_train_epochs", { min: 1 }),
});

/** How responses are drawn; every trainer that samples has these, and `samplingParams` hands them to the sampler. */
export const sampling = {
  ...(Object.fromEntries(
    eachChoice.map(([name, , { neutral, help, whole, min, max, exclusiveMin }]) => [
      name,
      rollout[whole ? "int" : "float"](neutral, help, { min, max, exclusiveMin }),
    ]),
  ) as Readonly<Record<SamplingChoice, Setting<number>>>),
  temperature: rollout.float(samplingChoices.temperature.neutral, samplingChoices.temperature.help, positive), // not greedy
};

/** How short a response may be. */
export const shortest = {
  minNewTokens: rollout.int(0, "Shortest response in tokens", { min: 0, aka: ["min_dec_len"] }),
};

/** The sampling settings of a trainer, as the sampler takes them. */
export const samplingParams = (values: ResolvedSettings<typeof sampling>): ResolvedSettings<typeof sampling> =>
  Object.fromEntries(eachChoice.map(([name]) => [name, values[name]])) as ResolvedSettings<typeof sampling>;

/** How keys and values are kept while responses are drawn. */
export const caching = {
  kvCacheDtype: rollout.choice(
    kvCacheFormats,
    "auto",
    "How keys and values are kept while responses are drawn; auto: as the model computes. int8 takes little more than a " +
      "quarter of float32's memory, and draws from a slightly other policy; log-probabilities are measured as without it",
    { effect: without("server") },
  ),
};

/** What responses may depend on. */
export const determinism = {
  deterministic: rollout.bool(
    false,
    "Responses and their log-probabilities are the same bits whatever is computed beside them: slower on GPUs, always so on CPUs",
  ),
};

/** Throws a UserError where responses have to be longer than they may. */
export function checkResponseLength<K extends string>(
  o: { responseLength: number } & Record<K, number | null>,
  name: (key: K | "responseLength") => string,
  shortest: K,
): void {
  const least = o[shortest];
  if (least === null || least <= o.responseLength) return;
  throw new UserError(`${name(shortest)} ${least} is more than ${name("responseLength")} ${o.responseLength}`);
}

/** How many responses are reported. */
export const shown = {
  showSamples: logging.int(4, "Responses per step to keep in samples.jsonl", {
    min: 0,
    aka: ["num_completions_to_print"],
  }),
};

/** How many responses are opened up. */
export const opened = {
  showRollouts: logging.int(
    0,
    "Responses per step to keep in rollouts.jsonl, token by token, through to the last update",
    {
      min: 0,
    },
  ),
};

/** Weights of several rewards. */
export const rewardMixture = {
  rewardWeights: group("Rewards").numbers(null, "Weights of several rewards, in their order; default: 1 each"),
};

/** The settings that every trainer has, resolved. */
export type CommonSettings = ResolvedSettings<typeof common>;
/** The settings of an optimizer and its learning rate, resolved. */
export type OptimiserSettings = ResolvedSettings<ReturnType<typeof optimiser>> &
  Partial<ResolvedSettings<typeof scheduleEnd>>;
