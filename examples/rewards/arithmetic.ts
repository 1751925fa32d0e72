/**
 * A reward of one's own that looks at the whole row: the answer to a word problem, and the sums that lead to it. Everything is
 * verified; no model judges.
 *
 *     webrlhf grpo --dataset_name ./examples/arithmetic/problems.ts --reward ./examples/rewards/arithmetic.ts ...
 */
import type { Response } from "webrlhf/rlhf";

/** What stands behind the last mark of an answer, as in GSM8K: "7 + 5 = 12. #### 12". Null where that is no whole number. */
function answered(text: string): number | null {
  const found = /####\s*(-?\d+)\s*$/.exec(text.trim());
  return found ? Number(found[1]) : null;
}

/** 1 where a response ends with the row's `answer`, else 0. */
export const answer = (responses: readonly Response[]): number[] =>
  responses.map(({ text, row }) => Number(answered(text) === row?.answer));

/** The share of the row's sums (`working`) that a response writes in their places. */
export const working = (responses: readonly Response[]): number[] =>
  responses.map(({ text, row }) => {
    const wanted = row?.working as readonly string[];
    const written = text.split(".").map((line) => line.trim());
    return wanted.filter((line, i) => written[i] === line).length / wanted.length;
  });

/** The answer is what counts; the sums are logged apart, and help a little on the way. */
export default { answer, working: { score: working, weight: 0.25 } };
