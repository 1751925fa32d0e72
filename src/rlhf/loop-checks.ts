/** What a run refuses: evaluations of nothing, and numbers that are not finite. */
import { UserError } from "../runtime/errors.ts";
import { spelled } from "../settings/index.ts";
import { bestAsked } from "./best.ts";
import { type BestChoice, type CommonSettings, type EvaluationChoice, evaluationAsked } from "./settings.ts";

/** Throws where evaluations are asked for and there is nothing to evaluate on, or the best of them where there are none. */
export function checkEvaluation(settings: CommonSettings & EvaluationChoice & BestChoice, possible: boolean): void {
  const [asked, best] = [evaluationAsked(settings), bestAsked(settings)];
  if (best !== null && asked === null) {
    const ways = `${spelled(settings, "evalSteps")}, or ${spelled(settings, "evalStrategy")} epoch`;
    throw new UserError(`${best} needs evaluations on the way: set ${ways}`);
  }
  if (asked === null || possible) return;
  const held = ["evalDatasetName", "datasetTestSplit", "testSize"].map((key) => spelled(settings, key)).join(", ");
  throw new UserError(`${best ?? asked} needs held-out data: name some (${held}), or leave it out`);
}

/** Throws where a number that must be finite is not. */
export function checkFinite(
  step: number,
  metrics: Record<string, number>,
  names: readonly string[],
  settings: object,
): void {
  for (const name of names) {
    if (metrics[name] === undefined || Number.isFinite(metrics[name])) continue;
    throw new UserError(
      `${name} became ${metrics[name]} at step ${step}: lower ${spelled(settings, "learningRate")} or ` +
        `${spelled(settings, "maxGradNorm")}; the last checkpoint is untouched`,
    );
  }
}
