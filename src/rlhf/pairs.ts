/**
 * Preference pairs: as sequences for one forward pass (all chosen answers, then all rejected ones), and what the losses are
 * made of: their tokens' log-probabilities, and sums of those over each answer.
 */
import type { PreferenceExample } from "../data/batches.ts";
import type { CausalLM } from "../nn/models.ts";
import { UserError } from "../runtime/errors.ts";
import { noGrad, type Tensor, tensor } from "../tensor/core.ts";
import { add, exp, mul, sub } from "../tensor/ops/elementwise.ts";
import { type Segment, segmentSums } from "../tensor/ops/segments.ts";
import { detach } from "../tensor/ops/shape.ts";
import { pack, predictedTokens, predictions, type Sequence } from "./batch.ts";
import { type Divergence, divergenceScore, type PairScores } from "./losses/preference.ts";

/** The answers of pairs as sequences: all chosen ones, then all rejected ones. */
export const bothAnswers = (pairs: readonly PreferenceExample[]): Sequence[] => [
  ...pairs.map(({ chosen, promptLength, learned }) => ({
    ids: chosen,
    promptLength,
    ...(learned && { learned: learned.chosen }),
  })),
  ...pairs.map(({ rejected, promptLength, rejectedPromptLength = promptLength, learned }) => ({
    ids: rejected,
    promptLength: rejectedPromptLength,
    ...(learned && { learned: learned.rejected }),
  })),
];

/** Margins as a tensor, or null where no pair has one. */
export function marginsOf(pairs: readonly PreferenceExample[]): Tensor | null {
  if (!pairs.some(({ margin }) => margin)) return null;
  return tensor(Float32Array.from(pairs, ({ margin = 0 }) => margin));
}

/** The pairs whose answers differ in their tokens; cut answers may not. */
export const differing = <Pair extends PreferenceExample>(pairs: readonly Pair[]): Pair[] =>
  pairs.filter(
    ({ chosen, rejected }) => chosen.length !== rejected.length || chosen.some((id, t) => id !== rejected[t]),
  );

/** The pairs of which neither answer has more than so many tokens with its prompt. */
export const fitting = <Pair extends PreferenceExample>(pairs: readonly Pair[], most: number): Pair[] =>
  pairs.filter(({ chosen, rejected }) => chosen.length <= most && rejected.length <= most);

/** Which tokens of a pair the token-wise loss compares: from the first that differs to the end of the longer answer. */
export interface Span {
  first: number;
  /** Exclusive. */
  end: number;
}

/** Throws `UserError` for a pair of equal answers: nothing is to be learned from it. */
export function spanOf({ chosen, rejected }: Pick<PreferenceExample, "chosen" | "rejected">): Span {
  const shorter = Math.min(chosen.length, rejected.length);
  let first = 0;
  while (first < shorter && chosen[first] === rejected[first]) first++;
  const end = Math.max(chosen.length, rejected.length);
  if (first === end) {
    throw new UserError(
      "a pair's answers have the same tokens, so the token-wise loss has nothing to compare: remove it",
    );
  }
  return { first, end };
}

/**
 * Pairs for the token-wise loss: the shorter answer of each is padded to the length of the longer one, since its scores at
 * the padding count as well (PaddleNLP, safe-rlhf). Padding is seen by no token, and has the positions that follow.
 */
export function alignedPairs(
  pairs: readonly PreferenceExample[],
  padId: number,
): { sequences: Sequence[]; spans: Span[] } {
  const spans = pairs.map(spanOf);
  const padded = (sequence: Sequence, i: number): Sequence => {
    const { end } = spans[i % pairs.length];
    const ids = new Uint32Array(end).fill(padId);
    ids.set(sequence.ids);
    return { ...sequence, ids, pads: end - sequence.ids.length };
  };
  return { sequences: bothAnswers(pairs).map(padded), spans };
}

/** Rows of the spans' tokens, first of all chosen answers, then of all rejected ones. */
export function spanRows(spans: readonly Span[], starts: readonly number[]): Uint32Array {
  const rows: number[] = [];
  starts.forEach((start, i) => {
    const { first, end } = spans[i % spans.length];
    for (let t = first; t < end; t++) rows.push(start + t);
  });
  return Uint32Array.from(rows);
}

/** One value per place of the spans: what `of` says of its pair and the length of its span. */
export const overSpans = (spans: readonly Span[], of: (pair: number, length: number) => number): Float32Array =>
  Float32Array.from(spans.flatMap(({ first, end }, i) => new Array<number>(end - first).fill(of(i, end - first))));

/** A tokenised pair, with the reference's log-probability of each answer token where they were computed before. */
export type PairExample = PreferenceExample & { reference?: { chosen: Float32Array; rejected: Float32Array } };

/** Options of a forward pass over pairs: the numbers to compute of the answers. */
export interface AnswerOptions {
  /** Weight of the tokens by which an answer is longer than the other one (LD-DPO, Liu et al. 2024). Default null: 1. */
  ldAlpha?: number | null;
  /** Predict the prompts of the chosen answers as well. Default false. */
  withPrompts?: boolean;
  /** Compute each pair's weight after Zhou et al. 2024 (WPO). Default false. */
  weighted?: boolean;
}

/** The tokens of a batch of pairs under the policy. */
export interface Answers {
  /** Per predicted token: log-probability (gradients flow), entropy, and weight in its answer's sum (null: 1). */
  logProbs: Tensor;
  entropy: Tensor;
  tokenWeights: Tensor | null;
  /** Mean over the vocabulary of each predicted token's logits; null where the model does not give it. */
  meanLogits: Tensor | null;
  /** Where each answer's tokens are, and where the tokens of prompt and chosen answer are. */
  chosen: Segment[];
  rejected: Segment[];
  chosenWithPrompt: Segment[];
  /**
   * How likely the policy itself would write the pair, per token, beside what it writes on average: [pairs], above 1 for
   * more likely ones. Null unless asked for.
   */
  pairWeights: Tensor | null;
  /** log p of the same tokens by another model, without gradients. */
  under(other: CausalLM): Tensor;
  /** Tokens of the forward pass. */
  tokens: number;
}

/** All chosen answers, then all rejected ones. */
export function answersOf(policy: CausalLM, pairs: readonly PreferenceExample[], options: AnswerOptions = {}): Answers {
  const { ldAlpha = null, withPrompts = false, weighted = false } = options;
  const sequences = bothAnswers(pairs);
  const lengths = sequences.map(predictedTokens);
  const { ids, packing, starts } = pack(sequences);
  const asked = sequences.map((s, i) => (withPrompts && i < pairs.length ? { ...s, promptLength: 0 } : s));
  const { rows, targets, lengths: predicted } = predictions(asked, starts);
  let at = 0;
  const whole = predicted.map((length): Segment => {
    at += length;
    return { first: at - length, length };
  });
  const answers = whole.map(({ first, length }, i) => ({ first: first + length - lengths[i], length: lengths[i] }));
  const [chosen, rejected] = [answers.slice(0, pairs.length), answers.slice(pairs.length)];

  const gpuTargets = tensor(targets);
  const hidden = policy.hidden(ids, packing, rows);
  const { logProbs, entropy } = policy.headLogProbs(hidden, gpuTargets);
  return {
    logProbs,
    entropy,
    meanLogits: policy.meanLogits(hidden),
    tokenWeights: ldAlpha === null ? null : tailWeights(chosen, rejected, rows.length, ldAlpha),
    chosen,
    rejected,
    chosenWithPrompt: whole.slice(0, pairs.length),
    pairWeights: weighted ? noGrad(() => pairWeights(policy, hidden, gpuTargets, logProbs, chosen, rejected)) : null,
    under: (other) => noGrad(() => other.logProbs(ids, packing, rows, targets).logProbs),
    tokens: packing.rows,
  };
}

/** 1 up to the length of the pair's shorter answer, `alpha` beyond. */
export function tailWeights(chosen: Segment[], rejected: Segment[], tokens: number, alpha: number): Tensor {
  const weights = new Float32Array(tokens).fill(1);
  chosen.forEach((a, i) => {
    const shared = Math.min(a.length, rejected[i].length);
    for (const { first, length } of [a, rejected[i]]) weights.fill(alpha, first + shared, first + length);
  });
  return tensor(weights);
}

const perToken = (segments: Segment[]): Tensor =>
  tensor(Float32Array.from(segments, ({ length }) => 1 / Math.max(1, length)));

/**
 * exp of the mean of log p - log sum_v p_v^2 over each answer, multiplied. The second term is what a sample of the policy
 * has on average; at half the temperature log p becomes 2 z - logsumexp(2 z), so it is the difference of the two.
 */
function pairWeights(
  policy: CausalLM,
  hidden: Tensor,
  targets: Tensor,
  logProbs: Tensor,
  chosen: Segment[],
  rejected: Segment[],
): Tensor {
  const aligned = sub(policy.headLogProbs(hidden, targets, 0.5).logProbs, logProbs);
  const mean = (segments: Segment[]) => mul(segmentSums(aligned, segments), perToken(segments));
  return exp(add(mean(chosen), mean(rejected)));
}

/** Sums, and means over tokens, of the answers' log-probabilities: [pairs] each. What losses without a reference need. */
export function answerSums({ logProbs, tokenWeights, chosen, rejected }: Answers) {
  const weighted = tokenWeights ? mul(logProbs, tokenWeights) : logProbs;
  const [w, l] = [segmentSums(weighted, chosen), segmentSums(weighted, rejected)];
  return { chosen: w, rejected: l, chosenMean: mul(w, perToken(chosen)), rejectedMean: mul(l, perToken(rejected)) };
}

/** How the log-ratios of a pair become one number z. */
export interface ScoreOptions {
  divergence: Divergence;
  alphaCoefficient: number;
  /** Taken from z for each token that the chosen answer is longer. */
  lengthPenalty: number;
}

/**
 * The numbers of a batch of pairs that preference losses are made of. Log-ratios are taken token by token before they are added up, so that little cancels.
 * @param reference model of the reference; null takes the pairs' own numbers
 */
export function pairScores(
  answers: Answers,
  pairs: readonly PairExample[],
  reference: CausalLM | null,
  { divergence, alphaCoefficient, lengthPenalty }: ScoreOptions,
): PairScores {
  const { logProbs, tokenWeights, chosen, rejected } = answers;
  const weigh = (x: Tensor) => (tokenWeights ? mul(x, tokenWeights) : x);
  const under = reference ? answers.under(reference) : precomputed(answers, pairs);
  const ratios = weigh(sub(logProbs, under));
  const [a, b] = [segmentSums(ratios, chosen), segmentSums(ratios, rejected)];
  const own = weigh(logProbs);
  const other = weigh(under);
  const [scoreA, scoreB] = [a, b].map((x) => divergenceScore(x, divergence, alphaCoefficient));
  const longer = chosen.map(({ length }, i) => lengthPenalty * (length - rejected[i].length));
  const penalised = (z: Tensor) => (lengthPenalty === 0 ? z : sub(z, tensor(longer)));
  return {
    chosen: segmentSums(own, chosen),
    rejected: segmentSums(own, rejected),
    chosenRatio: a,
    rejectedRatio: b,
    delta: penalised(sub(scoreA, scoreB)),
    meanDelta: penalised(sub(mul(scoreA, perToken(chosen)), mul(scoreB, perToken(rejected)))),
    refDelta: detach(sub(segmentSums(other, chosen), segmentSums(other, rejected))),
    margin: tensor(pairs.map(({ margin }) => margin ?? 0)),
  };
}

/** The pairs' own reference log-probabilities, at the places of their tokens. */
function precomputed({ logProbs, chosen, rejected }: Answers, pairs: readonly PairExample[]): Tensor {
  const values = new Float32Array(logProbs.size);
  pairs.forEach(({ reference }, i) => {
    for (const [numbers, { first, length }] of [
      [reference?.chosen, chosen[i]],
      [reference?.rejected, rejected[i]],
    ] as const) {
      if (numbers?.length !== length) {
        throw new UserError(
          `a pair has ${numbers?.length ?? "no"} reference log-probabilities for an answer of ${length} tokens: ` +
            "compute them with precomputeReference for the very pairs that are trained on",
        );
      }
      values.set(numbers, first);
    }
  });
  return tensor(values);
}
