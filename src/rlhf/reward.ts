/**
 * Reward and cost models: a scorer learns from pairs of a better and a worse answer (Bradley & Terry 1952), by sequence, token
 * by token from where the answers part (PaddleNLP, safe-rlhf), with a second head for the length (ODIN), or, as a cost model,
 * from which answers are safe, too (Dai et al. 2023).
 */

import type { PreferenceExample } from "../data/batches.ts";
import { type DropoutStep, withDropout } from "../nn/ambient.ts";
import type { ScoreModel } from "../nn/models.ts";
import type { AdamW } from "../nn/optimizer.ts";
import { type NormalizerState, normalizerKinds, ODIN_LABELS } from "../nn/scoring.ts";
import type { TextTokenizer } from "../nn/text-tokenizer.ts";
import { UserError } from "../runtime/errors.ts";
import { needs, type SettingsInput, settings, spelled, where } from "../settings/index.ts";
import { backward, noGrad, scope, type Tensor, tensor } from "../tensor/core.ts";
import { elements, range } from "../tensor/ops/elements.ts";
import { endRows, pack } from "./batch.ts";
import type { TrainEvent } from "./events.ts";
import {
  contextOf,
  type DatasetOf,
  type ExampleData,
  type ExampleSettings,
  type ExampleSplits,
  examplesOf,
  trainOnExamples,
} from "./examples.ts";
import type { RunOptions } from "./loop.ts";
import { costLoss, odinLoss, type PairLossOptions, pairLoss } from "./losses/pair.ts";
import { alignedPairs, bothAnswers, marginsOf, overSpans, spanRows } from "./pairs.ts";
import { ScoreStatistics } from "./reward/normalizer.ts";
import { usablePairs } from "./reward/usable.ts";
import { type AnswerScores, costMetrics, evaluateReward, pearson, rewardMetrics, safetyOf } from "./scores.ts";
import * as shared from "./settings.ts";
import { freshNormalizer } from "./stats.ts";
import {
  controlMetrics,
  readWatched,
  together,
  type Watched,
  type WatchedNumbers,
  watch,
  watchControl,
} from "./watch.ts";

const { data, optim, probability } = shared;

/** Statistics of the scores are kept. */
const normalized = where("normalizerType", ...normalizerKinds);

const common = {
  maxLength: data.int(null, "Longest prompt plus answer in tokens; default: the model's context", { min: 2 }),
  truncationSide: data.maybeChoice(
    ["right", "left"],
    "Cut what is longer, at this side; default: pairs with a longer answer are left out (TRL). Left keeps the end of the " +
      "answer and drops the beginning of the prompt (RLHFlow), right keeps the beginning (PaddleNLP, safe-rlhf)",
  ),
  ...shared.duration(1),
  regularization: optim.float(0, "Weight of the mean squared score (PaddleNLP, safe-rlhf)", { min: 0 }),
  normalizerType: optim.choice(["none", ...normalizerKinds], "none", "Statistics of the scores to keep with the model"),
  normalizerMomentum: optim.float(0.9, "Weight of the old value in ExponentialMovingAverage", {
    ...probability,
    aka: ["momentum"],
    effect: where("normalizerType", "ExponentialMovingAverage"),
  }),
  normalizeScoreDuringTraining: optim.bool(false, "Learn from scores normalised by these statistics", {
    aka: ["do_normalize"],
  }),
  normalizerUpdates: optim.choice(
    ["training", "normalizing"],
    "training",
    "The statistics follow every step (safe-rlhf), or only while scores are normalised (PaddleNLP)",
    { effect: normalized },
  ),
  ...shared.optimiser(1e-4, "linear", 8),
  ...shared.half,
  ...shared.evaluation,
  ...shared.common,
};

const regularizationOver = (value: "sum" | "mean") =>
  optim.choice(
    ["sum", "mean"],
    value,
    "Mean squares of both answers are added (PaddleNLP), or averaged (safe-rlhf): half as much",
    { effect: needs("regularization") },
  );

/** Settings of reward models. */
export const reward = settings(
  "reward",
  {
    ...common,
    lossType: optim.choice(
      ["sequence-wise", "token-wise", "odin"],
      "sequence-wise",
      "Compare scores at the end; at every token from where the answers part; or with a second head for the length",
    ),
    regularizationOver: regularizationOver("sum"),
    centerRewardsCoefficient: optim.float(0, "Weight of the squared sum of a pair's rewards", { min: 0 }),
    odinLengthCoef: optim.float(1, "ODIN: weight of the correlations with the length", {
      min: 0,
      effect: where("lossType", "odin"),
    }),
    odinRanking: optim.choice(
      ["pair", "micro-batch"],
      "pair",
      "ODIN: compare pair by pair (the paper), or the sums over a micro-batch (the released code)",
      { effect: where("lossType", "odin") },
    ),
  },
  ({ lossType, truncationSide }, name) => {
    if (lossType !== "token-wise" || truncationSide !== "left") return;
    throw new UserError(
      `${name("lossType")} token-wise compares answers place by place, so both must keep their beginning: ` +
        `${name("truncationSide")} left does not go with it`,
    );
  },
);

/** Settings of cost models. */
export const cost = settings("cost", { ...common, regularizationOver: regularizationOver("mean") });

/** Settings of reward models, resolved. */
export type RewardSettings = ReturnType<typeof reward>;

/** Settings of cost models, resolved. */
export type CostSettings = ReturnType<typeof cost>;

/** The scorer that is trained, and its tokenizer; default: the scorer's own. */
export interface RewardModels {
  model: ScoreModel;
  tokenizer?: TextTokenizer;
}

/** Pairs to learn from: tokenised ones, or a dataset that makes them for a tokenizer. */
export type RewardData = ExampleData<PreferenceExample> | DatasetOf<"pairs", PreferenceExample>;

/** How scores are compared. */
interface LossOptions extends PairLossOptions {
  kind: "sequence-wise" | "token-wise" | "odin" | "cost";
  /** Token-wise: the token that the shorter answer is padded with. */
  padId: number;
  lengthCoef?: number;
  ranking?: "pair" | "micro-batch";
}

/**
 * Trains a reward model in place. One that was trained before goes on from what it has learned, with an optimizer that begins
 * anew: labels that come one by one need no model from scratch.
 * @throws UserError when there is nothing to learn from, when the loss is not finite, or when the model has other outputs
 */
export async function* trainReward(
  models: RewardModels,
  pairs: RewardData,
  chosen: SettingsInput<typeof reward.table> = {},
  run: RunOptions = {},
): AsyncGenerator<TrainEvent> {
  const o = reward(chosen);
  const { labels } = models.model.scoring;
  const several = labels.length > 1;
  if (several && `${labels}` !== `${ODIN_LABELS}`) {
    throw new UserError(
      `a model with the outputs ${labels.join(", ")} is not trained on pairs; ${ODIN_LABELS.join(", ")} are`,
    );
  }
  if (o.lossType === "odin" && !several) {
    throw new UserError(
      `${spelled(o, "lossType")} odin is for models with the outputs ${ODIN_LABELS.join(", ")}; this one has one`,
    );
  }
  if (o.lossType === "token-wise" && several) {
    throw new UserError("the token-wise loss is for reward models with one output; train this one sequence-wise");
  }
  if (several && o.lossType === "sequence-wise") {
    throw new UserError(
      `the model has a head for the length besides the reward: train it with ${spelled(o, "lossType")} odin`,
    );
  }
  if (several && (o.normalizerType !== "none" || o.normalizeScoreDuringTraining)) {
    throw new UserError(
      "statistics of scores are kept for models with one output; train this one without a normalizer",
    );
  }
  const loss = {
    kind: o.lossType,
    centering: o.centerRewardsCoefficient,
    lengthCoef: o.odinLengthCoef,
    ranking: o.odinRanking,
  };
  models.model.scoring.type = "reward";
  yield* trainScorer("reward", models, pairs, o, loss, run);
}

/**
 * Trains a cost model in place, on pairs of which each says which of its answers are safe.
 * @throws UserError as `trainReward` does, and for a pair without safety labels
 */
export async function* trainCost(
  models: RewardModels,
  pairs: RewardData,
  chosen: SettingsInput<typeof cost.table> = {},
  run: RunOptions = {},
): AsyncGenerator<TrainEvent> {
  if (models.model.scoring.labels.length > 1) throw new UserError("a cost model has one output");
  models.model.scoring.type = "cost";
  yield* trainScorer("cost", models, pairs, cost(chosen), { kind: "cost" }, run);
}

async function* trainScorer(
  stage: "reward" | "cost",
  { model, tokenizer }: RewardModels,
  given: RewardData,
  o: CostSettings & ExampleSettings,
  special: Omit<LossOptions, "padId">,
  run: RunOptions,
): AsyncGenerator<TrainEvent> {
  const { scoring } = model;
  const rule =
    o.normalizerType === "none" ? scoring.normalizer : { kind: o.normalizerType, momentum: o.normalizerMomentum };
  const normalize = o.normalizeScoreDuringTraining || scoring.doNormalize;
  if (normalize && !rule) {
    throw new UserError(`normalised scores need statistics: choose them with ${spelled(o, "normalizerType")}`);
  }
  scoring.doNormalize = normalize;
  const maxLength = contextOf(model, o);
  const whole = o.truncationSide === null; // then pairs are cut nowhere, so that it shows which of them are too long
  const prepare = whole ? { maxLength: Number.POSITIVE_INFINITY } : { maxLength, truncationSide: o.truncationSide };
  const consumer = stage === "cost" ? "safety" : "preference";
  const models = { policy: model, ...(tokenizer && { tokenizer }) };
  const pairs: ExampleSplits<PreferenceExample> = await examplesOf(given, "pairs", models, prepare, consumer);
  const { parts, notes } = usablePairs(pairs, maxLength, o);
  for (const text of notes) yield { type: "note", step: 0, text };
  if (stage === "cost") for (const part of [parts.train, parts.eval]) checkSafety(part);
  const ids = tokenizer ?? model.tokenizer;
  const { regularization, regularizationOver } = o;
  const loss = { ...special, regularization, regularizationOver, padId: ids?.padId ?? ids?.eosId ?? 0 };
  const state = scoring.normalizer ?? freshNormalizer();
  if (rule) scoring.normalizer = { ...state, kind: rule.kind, momentum: rule.momentum ?? 0.9 };
  const statistics = rule ? new ScoreStatistics(rule, scoring.type, state) : null;
  const learned = { statistics, update: normalize || o.normalizerUpdates !== "normalizing", normalize };
  const method = {
    stage,
    step(optimizer: AdamW, batches: readonly (readonly PreferenceExample[])[], rate: number, dropout: DropoutStep) {
      const { watched, tokens } = scope(() => rewardStep(model, optimizer, batches, rate, loss, dropout, learned));
      return { metrics: rewardStepMetrics(watched, model, batches, statistics?.count ?? 0), tokens };
    },
    evaluate: (examples: readonly PreferenceExample[]) => evaluateReward(model, examples),
    state: {
      async save() {
        if (!scoring.normalizer) return {};
        const { mean, variance, count, kind, momentum } = scoring.normalizer; // in one order, whoever made the object
        return { normalizer: { mean, variance, count, kind, momentum } };
      },
      load(saved: Record<string, unknown>) {
        if (!statistics || !scoring.normalizer || !saved.normalizer) return;
        Object.assign(scoring.normalizer, saved.normalizer as NormalizerState);
        statistics.load(scoring.normalizer);
      },
    },
  };
  try {
    yield* trainOnExamples(model, parts, o, method, run);
  } finally {
    statistics?.destroy();
  }
}

function checkSafety(pairs: readonly PreferenceExample[]): void {
  const bare = pairs.findIndex(({ safety }) => !safety);
  if (bare < 0) return;
  throw new UserError(`pair ${bare + 1} does not say which of its answers are safe, which a cost model learns`);
}

/** What becomes of the score statistics in a step. */
interface Normalizing {
  statistics: ScoreStatistics | null;
  update: boolean;
  normalize: boolean;
}

/** Enqueues one optimizer step; the loss is the mean of the micro-batches' means, as in the originals. `dropout` as in `sftStep`. */
export function rewardStep(
  model: ScoreModel,
  optimizer: AdamW,
  batches: readonly (readonly PreferenceExample[])[],
  rate: number,
  loss: LossOptions,
  dropout: DropoutStep | null = null,
  normalizing: Normalizing = { statistics: null, update: false, normalize: false },
): { watched: Watched; tokens: number } {
  let tokens = 0;
  const passes = batches.map((pairs, pass) => {
    const forward = withDropout(dropout && { ...dropout, pass }, () => passOf(model, pairs, loss, normalizing));
    tokens += forward.tokens;
    const watched = watch({ loss: forward.loss, scores: forward.scores });
    backward(forward.loss, optimizer.lossSeed(1 / batches.length));
    return watched;
  });
  optimizer.step(rate);
  const { statistics } = normalizing;
  const kept = statistics ? [watch({ mean: statistics.mean, variance: statistics.variance })] : [];
  return { watched: together<string>([watchControl(optimizer), ...kept, ...passes]), tokens };
}

interface Pass {
  /** [1] */
  loss: Tensor;
  /** At the ends of all chosen answers, then of all rejected ones. */
  scores: Tensor;
  tokens: number;
}

/** The forward pass of some pairs, and their loss. */
function passOf(
  model: ScoreModel,
  pairs: readonly PreferenceExample[],
  options: LossOptions,
  { statistics, update, normalize }: Normalizing,
): Pass {
  const n = pairs.length;
  const tokenWise = options.kind === "token-wise" ? alignedPairs(pairs, options.padId) : null;
  const sequences = tokenWise?.sequences ?? bothAnswers(pairs);
  const tokens = sequences.reduce((sum, { ids }) => sum + ids.length, 0);
  const margins = marginsOf(pairs);
  const { ids, packing, starts } = pack(sequences);
  const ends = endRows(sequences, starts);
  if (options.kind === "odin") {
    const outputs = model.outputs(ids, packing, ends);
    const lengths = sequences.map((s) => s.ids.length - s.promptLength);
    const quality = Uint32Array.from(sequences, (_, i) => 2 * i + 1);
    const loss = odinLoss(outputs, lengths, options, margins);
    return { loss, scores: noGrad(() => elements(outputs, quality)), tokens };
  }
  const normalised = (all: Tensor, atEnds: Tensor): Tensor => {
    if (update) statistics?.update(atEnds);
    return statistics && normalize ? statistics.apply(all) : all;
  };
  if (!tokenWise) {
    const raw = model.scores(ids, packing, ends);
    const scores = normalised(raw, raw);
    const [chosen, rejected] = [range(scores, 0, n), range(scores, n, n)];
    const loss =
      options.kind === "cost"
        ? costLoss(chosen, rejected, pairs.map(safetyOf), options, margins)
        : pairLoss(chosen, rejected, options, { margins });
    return { loss, scores, tokens };
  }
  const { spans } = tokenWise;
  const rows = spanRows(spans, starts);
  const raw = model.scores(ids, packing, Uint32Array.from([...rows, ...ends]));
  const all = normalised(
    raw,
    noGrad(() => range(raw, rows.length, 2 * n)),
  );
  const half = rows.length / 2;
  const weights = tensor(overSpans(spans, (_, length) => 1 / (length * n)));
  const perToken = margins && tensor(overSpans(spans, (i) => pairs[i].margin ?? 0));
  const loss = pairLoss(range(all, 0, half), range(all, half, half), options, { margins: perToken, weights });
  return { loss, scores: noGrad(() => range(all, rows.length, 2 * n)), tokens };
}

/** @param count how many scores the statistics hold after the step */
async function rewardStepMetrics(
  watched: Watched,
  model: ScoreModel,
  batches: readonly (readonly PreferenceExample[])[],
  count: number,
): Promise<Record<string, number>> {
  const [{ control }, ...rest] = await readWatched(watched);
  // Whoever saves the model has read the metrics of its last step.
  const { normalizer } = model.scoring;
  const [statistics] = normalizer ? rest.splice(0, 1) : [];
  if (normalizer) Object.assign(normalizer, { mean: statistics.mean[0], variance: statistics.variance[0], count });
  const pairs = batches.flat();
  const side = (first: (n: number) => number) =>
    rest.flatMap(({ scores }: WatchedNumbers, i) => {
      const n = batches[i].length;
      return [...scores.subarray(first(n), first(n) + n)];
    });
  const scores = { chosen: side(() => 0), rejected: side((n) => n) };
  const loss = rest.reduce((sum, numbers) => sum + numbers.loss[0] / batches.length, 0);
  return { loss, ...metricsOf(model, pairs, scores), ...controlMetrics(control) };
}

function metricsOf(
  model: ScoreModel,
  pairs: readonly PreferenceExample[],
  scores: AnswerScores,
): Record<string, number> {
  if (model.scoring.type === "cost") return costMetrics(scores, pairs.map(safetyOf));
  const metrics = rewardMetrics(scores);
  if (model.scoring.labels.length === 1) return metrics;
  const lengths = bothAnswers(pairs).map((s) => s.ids.length - s.promptLength);
  return { ...metrics, length_correlation: pearson(lengths, [...scores.chosen, ...scores.rejected]) };
}
