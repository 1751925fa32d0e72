/** An LLM judge on pairs that somebody has labelled. */
import { askedIn } from "../data/answers.ts";
import type { JudgeCalls } from "../rlhf/llm-judge/calls.ts";
import { JudgeComparer, outcomeOf, type PositionBias, positionBias } from "../rlhf/llm-judge/compare.ts";
import { answerScorer } from "../rlhf/llm-judge/reward.ts";
import type { PairScorer } from "./scorers.ts";

/**
 * Judges pairs: a judge of single answers grades each; a judge of pairs sees both in both orders, and gives 1 and 0 to the better and the
 * worse one, or 1/2 to both for a tie.
 * @param onBias hears how much a judge of pairs goes by the place of answers
 */
export function judgePairScorer(calls: JudgeCalls, name: string, onBias: (bias: PositionBias) => void): PairScorer {
  const { mode } = calls.spec;
  return async ({ dataset, part }) => {
    const records = (await dataset.preferences(null))[part];
    const pairs = records.map((record) => ({
      record,
      prompt: askedIn(record),
      first: record.chosen.trim(),
      second: record.rejected.trim(),
      row: record.row,
    }));
    if (mode === "pairwise") {
      const verdicts = await new JudgeComparer(calls).compare(pairs);
      onBias(positionBias(verdicts));
      return pairs.map(({ record }, i) => {
        const chosen = outcomeOf(verdicts[i]);
        return { record, chosen, rejected: 1 - chosen };
      });
    }
    const grade = answerScorer(calls, name);
    const grades = await grade([
      ...pairs.map(({ prompt, first, row }) => ({ prompt, completion: first, row })),
      ...pairs.map(({ prompt, second, row }) => ({ prompt, completion: second, row })),
    ]);
    return pairs.map(({ record }, i) => ({ record, chosen: grades[i], rejected: grades[pairs.length + i] }));
  };
}
