/**
 * Reward modelling, Bradley-Terry: a decoder with a score head learns to score the chosen answer above the rejected one, at
 * the last token of prompt + answer + EOS, or at every token from the first that differs. Chosen and rejected go through one
 * forward pass. A model with two outputs is trained as ODIN is, a model whose score type is "cost" as a cost model.
 */
import type { PreferenceExample } from "../../data/batches.ts";
import { type DropoutStep, withDropout } from "../../nn/ambient.ts";
import type { ScoreModel } from "../../nn/models.ts";
import type { AdamW } from "../../nn/optimizer.ts";
import { type NormalizerState, ODIN_LABELS } from "../../nn/scoring.ts";
import { UserError } from "../../runtime/errors.ts";
import { backward, noGrad, scope, type Tensor, tensor } from "../../tensor/core.ts";
import { elements, range } from "../../tensor/ops/elements.ts";
import { concat } from "../../tensor/ops/shape.ts";
import { endRows, pack } from "../batch.ts";
import type { TrainEvent } from "../events.ts";
import { costLoss } from "../losses/cost.ts";
import { type OdinOptions, odinLoss } from "../losses/odin.ts";
import { type PairLossOptions, pairLoss } from "../losses/pair.ts";
import { alignedPairs, bothAnswers, marginsOf, overSpans, spanRows } from "../preference/pair-batch.ts";
import { freshNormalizer, type MergeRule } from "../stats.ts";
import { controlMetrics, type SupervisedOptions, trainOnExamples } from "../supervised.ts";
import { ScoreStatistics } from "./normalizer.ts";
import { costMetrics, evaluateReward, type PairScores, pearson, rewardMetrics, safetyOf } from "./scores.ts";

/** What a reward model learns by. */
export interface RewardLossOptions extends PairLossOptions, OdinOptions {
  /** Scores are compared at the end (default), or token by token from where the answers part. */
  lossType?: "sequence-wise" | "token-wise";
  /** Token-wise: the token that the shorter answer is padded with. */
  padId?: number;
}

/** `batchSize` counts pairs. */
export type RewardOptions = SupervisedOptions<PreferenceExample> &
  RewardLossOptions & {
    /** Keep statistics of the scores, which the model is saved with. Default: those the model has, if any. */
    normalizer?: MergeRule | null;
    /** Learn from normalised scores, and give them later. Default: as the model says. */
    normalizeDuringTraining?: boolean;
    /** The statistics follow every step ("training", as safe-rlhf), or only while scores are normalised (PaddleNLP). */
    normalizerUpdates?: "training" | "normalizing";
  };

/** Trains `model` in place. Throws `UserError` when there is nothing to learn from or the loss is not finite. */
export async function* trainReward(model: ScoreModel, options: RewardOptions): AsyncGenerator<TrainEvent> {
  checkOptions(model, options);
  const { scoring } = model;
  const rule = options.normalizer ?? scoring.normalizer;
  scoring.doNormalize = options.normalizeDuringTraining ?? scoring.doNormalize;
  if (scoring.doNormalize && !rule) {
    throw new UserError("normalised scores need statistics: choose a normalizer (normalizer_type)");
  }
  const state = scoring.normalizer ?? freshNormalizer();
  if (rule) scoring.normalizer = { ...state, kind: rule.kind, momentum: rule.momentum ?? 0.9 };
  const statistics = rule ? new ScoreStatistics(rule, scoring.type, state) : null;
  const learned = {
    statistics,
    update: scoring.doNormalize || options.normalizerUpdates !== "normalizing",
    normalize: scoring.doNormalize,
  };
  try {
    yield* trainOnExamples(model, options, {
      stage: scoring.type === "cost" ? "cost" : "reward",
      step(optimizer, batches, lr, dropout) {
        const { watch, tokens } = scope(() =>
          rewardStep(model, optimizer, batches, lr, options, dropout, statistics ? learned : undefined),
        );
        const count = statistics?.count ?? 0;
        return { metrics: readMetrics(watch, model, batches, optimizer.control.size, count), tokens };
      },
      evaluate: (examples) => evaluateReward(model, examples),
      state: {
        save: async () => (scoring.normalizer ? { normalizer: scoring.normalizer } : {}),
        load(saved) {
          if (!statistics || !scoring.normalizer || !saved.normalizer) return;
          Object.assign(scoring.normalizer, saved.normalizer as NormalizerState);
          statistics.load(scoring.normalizer);
        },
      },
    });
  } finally {
    statistics?.destroy();
  }
}

function checkOptions(model: ScoreModel, options: RewardOptions): void {
  const { lossType, padId, normalizer, normalizeDuringTraining, train, eval: held = [] } = options;
  const { type, labels } = model.scoring;
  const several = labels.length > 1;
  if (several && `${labels}` !== `${ODIN_LABELS}`) {
    throw new UserError(
      `a model with the outputs ${labels.join(", ")} is not trained on pairs; ${ODIN_LABELS.join(", ")} are`,
    );
  }
  if (lossType === "token-wise" && (several || type === "cost")) {
    throw new UserError(`the token-wise loss is for reward models with one output; train this one sequence-wise`);
  }
  if (several && (normalizer || normalizeDuringTraining)) {
    throw new UserError(
      "statistics of scores are kept for models with one output; train this one without a normalizer",
    );
  }
  if (lossType === "token-wise" && padId === undefined) throw new Error("the token-wise loss needs a padId");
  if (several && type === "cost") throw new UserError("a cost model has one output");
  if (type !== "cost") return;
  for (const pairs of [train, held]) {
    const bare = pairs.findIndex(({ safety }) => !safety);
    if (bare >= 0)
      throw new UserError(`pair ${bare + 1} does not say which of its answers are safe, which a cost model learns`);
  }
}

/** What becomes of the score statistics in a step. */
interface Normalizing {
  statistics: ScoreStatistics | null;
  update: boolean;
  normalize: boolean;
}

/** One optimizer step; the loss is the mean over all pairs of all micro-batches. `dropout` as in `sftStep`. */
export function rewardStep(
  model: ScoreModel,
  optimizer: AdamW,
  batches: readonly (readonly PreferenceExample[])[],
  lr: number,
  options: RewardLossOptions = {},
  dropout: DropoutStep | null = null,
  normalizing: Normalizing = { statistics: null, update: false, normalize: false },
): { watch: Tensor; tokens: number } {
  const total = batches.reduce((n, b) => n + b.length, 0);
  let tokens = 0;
  const shown = batches.map((pairs, pass) => {
    const forward = withDropout(dropout && { ...dropout, pass }, () => passOf(model, pairs, options, normalizing));
    tokens += forward.tokens;
    const watch = noGrad(() => concat([forward.loss, forward.scores]));
    backward(forward.loss, optimizer.lossSeed(pairs.length / total));
    return watch;
  });
  optimizer.step(lr);
  const { statistics } = normalizing;
  return {
    watch: concat([optimizer.control, ...shown, ...(statistics ? [statistics.mean, statistics.variance] : [])]),
    tokens,
  };
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
  options: RewardLossOptions,
  { statistics, update, normalize }: Normalizing,
): Pass {
  const n = pairs.length;
  const tokenWise = options.lossType === "token-wise" ? alignedPairs(pairs, options.padId as number) : null;
  const sequences = tokenWise?.sequences ?? bothAnswers(pairs);
  const tokens = sequences.reduce((sum, { ids }) => sum + ids.length, 0);
  const margins = marginsOf(pairs);
  const { ids, packing, starts } = pack(sequences);
  const ends = endRows(sequences, starts);
  if (model.scoring.labels.length > 1) {
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
      model.scoring.type === "cost"
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
async function readMetrics(
  watch: Tensor,
  model: ScoreModel,
  batches: readonly (readonly PreferenceExample[])[],
  controlSize: number,
  count: number,
): Promise<Record<string, number>> {
  const values = await watch.read();
  watch.free("the metrics reader");
  const pairs = batches.flat();
  let loss = 0;
  const chosen: number[] = [];
  const rejected: number[] = [];
  let offset = controlSize;
  for (const { length: n } of batches) {
    loss += (values[offset] * n) / pairs.length;
    chosen.push(...values.subarray(offset + 1, offset + 1 + n));
    rejected.push(...values.subarray(offset + 1 + n, offset + 1 + 2 * n));
    offset += 1 + 2 * n;
  }
  // Whoever saves the model has read the metrics of its last step.
  const { normalizer } = model.scoring;
  if (normalizer) Object.assign(normalizer, { mean: values[offset], variance: values[offset + 1], count });
  return { loss, ...metricsOf(model, pairs, { chosen, rejected }), ...controlMetrics(values, controlSize) };
}

function metricsOf(model: ScoreModel, pairs: readonly PreferenceExample[], scores: PairScores): Record<string, number> {
  if (model.scoring.type === "cost") return costMetrics(scores, pairs.map(safetyOf));
  const metrics = rewardMetrics(scores);
  if (model.scoring.labels.length === 1) return metrics;
  const lengths = bothAnswers(pairs).map((s) => s.ids.length - s.promptLength);
  return { ...metrics, length_correlation: pearson(lengths, [...scores.chosen, ...scores.rejected]) };
}
