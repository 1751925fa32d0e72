/** What changed between two looks at the same prompts: the mean of the differences, and how far it can be trusted. */
import { average, type Sample, standardDeviation } from "webrlhf/rlhf";

export interface Change {
  readonly mean: number;
  /** Standard error of the mean. */
  readonly error: number;
}

/** The mean of `after[i] - before[i]`. The prompt's own difficulty is in both and drops out. */
export function pairedChange(before: readonly number[], after: readonly number[]): Change {
  const differences = after.map((value, i) => value - before[i]);
  const { length } = differences;
  const error = length > 1 ? standardDeviation(differences) / Math.sqrt(length) : Number.POSITIVE_INFINITY;
  return { mean: average(differences), error };
}

/** The changes of both rewards, as metrics of an evaluation: `gold_change`, `gold_change_error` and so on. */
export function changesOf(before: readonly Sample[], after: readonly Sample[]): Record<string, number> {
  const entries = (["reward", "gold"] as const).flatMap((name) => {
    const values = (samples: readonly Sample[]) => samples.map((sample) => sample[name] ?? Number.NaN);
    const { mean, error } = pairedChange(values(before), values(after));
    return [[`${name}_change`, mean] as const, [`${name}_change_error`, error] as const];
  });
  return Object.fromEntries(entries);
}

/** Which way it went, where that can be told: by more than two standard errors. */
export function direction({ mean, error }: Change): "up" | "down" | "unknown" {
  return Math.abs(mean) > 2 * error ? (mean > 0 ? "up" : "down") : "unknown"; // also where a number is missing
}
