/** How far an LLM judge agrees with people: on pairs of which somebody has said which answer is the better one. */
import { agreementMatrix } from "../../data/agreement.ts";

/**
 * Cohen's kappa of a judge and of labels. Each pair counts in both orders, so labels say A and B equally often, and what chance would
 * bring does not hang on the order in which a file has its answers.
 * @param outcomes of each pair: 1 where the judge takes the labelled answer, 0 where it takes the other one, 1/2 for a tie, which
 *   agrees with no label
 */
export function judgeKappa(outcomes: readonly number[]): number {
  const said = (outcome: number, better: string, worse: string) =>
    outcome > 0.5 ? better : outcome < 0.5 ? worse : "tie";
  const labels = [...outcomes.map(() => "A"), ...outcomes.map(() => "B")];
  const judged = [
    ...outcomes.map((outcome) => said(outcome, "A", "B")),
    ...outcomes.map((outcome) => said(outcome, "B", "A")),
  ];
  return agreementMatrix([labels, judged]).kappa[0][1];
}
