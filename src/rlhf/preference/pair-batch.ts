/** Preference pairs as sequences for one forward pass: all chosen answers, then all rejected ones. */
import type { PreferenceExample } from "../../data/batches.ts";
import { UserError } from "../../runtime/errors.ts";
import { type Tensor, tensor } from "../../tensor/core.ts";
import type { Sequence } from "../batch.ts";

export const bothAnswers = (pairs: readonly PreferenceExample[]): Sequence[] => [
  ...pairs.map(({ chosen, promptLength }) => ({ ids: chosen, promptLength })),
  ...pairs.map(({ rejected, promptLength, rejectedPromptLength = promptLength }) => ({
    ids: rejected,
    promptLength: rejectedPromptLength,
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
