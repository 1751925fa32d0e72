/** What a reward or cost model thinks of sequences, and how often it is right about pairs. */
import type { PreferenceExample } from "../data/batches.ts";
import { nonFinite } from "../nn/finite.ts";
import type { ScoreModel } from "../nn/models.ts";
import { maxOf, minOf } from "../runtime/extremes.ts";
import { concat, reshape } from "../tensor/ops/shape.ts";
import { endRows, pack, type Sequence } from "./batch.ts";
import type { PairSafety } from "./losses/pair.ts";
import { bothAnswers } from "./pairs.ts";
import { inPasses } from "./passes.ts";
import { average, moments, normalize, standardDeviation } from "./stats.ts";

/**
 * The score of each sequence, read at its last token; normalised where the model says so.
 * @throws UserError naming the model where a score is not finite
 */
export async function scoreSequences(model: ScoreModel, sequences: readonly Sequence[]): Promise<Float32Array> {
  const scores = new Float32Array(sequences.length);
  await inPasses(model, sequences, {
    compute(part) {
      const { ids, packing, starts } = pack(part);
      return model.scores(ids, packing, endRows(part, starts));
    },
    receive: (values, _, first) => scores.set(values, first),
  });
  return finished(model, scores);
}

/** Raw scores, checked, and normalised where the model says so. */
function finished(model: ScoreModel, scores: Float32Array): Float32Array {
  const broken = nonFinite(model, scores, "scores");
  if (broken) throw broken;
  const { doNormalize, normalizer, type } = model.scoring;
  return doNormalize && normalizer ? scores.map((score) => normalize(normalizer, score, type)) : scores;
}

/** Sequences as a reward model sees them: each a point, and how good it finds it. */
export interface ScoredFeatures {
  /** The last hidden state of each sequence's last token, [sequences, width], row after row. */
  hidden: Float32Array;
  width: number;
  /** As `scoreSequences` gives them. */
  scores: Float32Array;
}

/**
 * Scores sequences and keeps the features that the scores are linear in. A text becomes a sequence as the reward model's
 * training data did, by `sftExample({ kind: "prompt_completion", prompt, completion }, tokenizer, { maxLength })`.
 * @throws UserError naming the model where a score is not finite
 */
export async function scoreWithHidden(model: ScoreModel, sequences: readonly Sequence[]): Promise<ScoredFeatures> {
  const { hiddenSize: width } = model.config;
  const hidden = new Float32Array(sequences.length * width);
  const scores = new Float32Array(sequences.length);
  await inPasses(model, sequences, {
    compute(part) {
      const { ids, packing, starts } = pack(part);
      const states = model.hidden(ids, packing, endRows(part, starts));
      return concat([reshape(states, [part.length * width]), model.headScores(states)]);
    },
    receive(values, part, first) {
      hidden.set(values.subarray(0, part.length * width), first * width);
      scores.set(values.subarray(part.length * width), first);
    },
  });
  return { hidden, width, scores: finished(model, scores) };
}

/** Scores of pairs. */
export interface AnswerScores {
  chosen: readonly number[];
  rejected: readonly number[];
}

/** Scores of both answers of every pair. */
export async function scorePairs(model: ScoreModel, pairs: readonly PreferenceExample[]): Promise<AnswerScores> {
  const scores = await scoreSequences(model, bothAnswers(pairs));
  return { chosen: [...scores.subarray(0, pairs.length)], rejected: [...scores.subarray(pairs.length)] };
}

/** Accuracy is strict: a tie counts as wrong. */
export function rewardMetrics({ chosen, rejected }: AnswerScores): Record<string, number> {
  const all = [...chosen, ...rejected];
  return {
    accuracy: average(chosen.map((c, i) => Number(c > rejected[i]))),
    margin: average(chosen.map((c, i) => c - rejected[i])),
    min_reward: minOf(all),
    mean_reward: average(all),
    max_reward: maxOf(all),
  };
}

/** Of a cost model: `accuracy` is how often the safer answer costs less, `accuracy_sign` how often a cost's sign is right. */
export function costMetrics({ chosen, rejected }: AnswerScores, safety: readonly PairSafety[]): Record<string, number> {
  const all = [...chosen, ...rejected];
  const labels = [...safety.map((s) => s.chosen), ...safety.map((s) => s.rejected)];
  return {
    accuracy: average(chosen.map((c, i) => Number(c < rejected[i]))),
    accuracy_sign: average(all.map((c, i) => Number(labels[i] ? c < 0 : c > 0))),
    margin: average(chosen.map((c, i) => rejected[i] - c)),
    min_cost: minOf(all),
    mean_cost: average(all),
    max_cost: maxOf(all),
  };
}

/** Pearson's correlation; 0 where either side is constant. */
export function pearson(x: ArrayLike<number>, y: ArrayLike<number>): number {
  const [a, b] = [moments([x]), moments([y])];
  let covariance = 0;
  for (let i = 0; i < x.length; i++) covariance += (x[i] - a.mean) * (y[i] - b.mean);
  const norm = x.length * Math.sqrt(a.variance * b.variance);
  return norm > 0 ? covariance / norm : 0;
}

/** Accuracy and score statistics on held-out pairs, and the loss without regularisation. */
export async function evaluateReward(
  model: ScoreModel,
  pairs: readonly PreferenceExample[],
): Promise<Record<string, number>> {
  const scores = await scorePairs(model, pairs);
  const all = [...scores.chosen, ...scores.rejected];
  const differences = pairs.map(({ margin = 0 }, i) => scores.chosen[i] - scores.rejected[i] - margin);
  if (model.scoring.type === "cost") {
    const safety = pairs.map(safetyOf);
    const { accuracy, accuracy_sign, margin } = costMetrics(scores, safety);
    const signed = (cost: number, safe: boolean) => softplus(safe ? cost : -cost);
    return {
      eval_accuracy: accuracy,
      eval_accuracy_sign: accuracy_sign,
      eval_margin: margin,
      eval_cost_mean: average(all),
      eval_cost_std: standardDeviation(all),
      eval_loss: average(
        pairs.map(({ margin: m = 0 }, i) => {
          const [c, r] = [scores.chosen[i], scores.rejected[i]];
          return softplus(c - r + m) + signed(c, safety[i].chosen) + signed(r, safety[i].rejected);
        }),
      ),
    };
  }
  const { accuracy, margin } = rewardMetrics(scores);
  return {
    eval_accuracy: accuracy,
    eval_margin: margin,
    eval_reward_mean: average(all),
    eval_reward_std: standardDeviation(all),
    eval_loss: average(differences.map((d) => softplus(-d))),
  };
}

/** The safety labels of a pair; whoever trains a cost model has checked that they are there. */
export function safetyOf({ safety }: PreferenceExample): PairSafety {
  if (!safety) throw new Error("a pair without safety labels");
  return safety;
}

const softplus = (x: number): number => Math.log1p(Math.exp(-Math.abs(x))) + Math.max(0, x);
