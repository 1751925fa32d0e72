/** A finished run as a small file for a teacher: settings, the checks' numbers, locked predictions; never labels. */
import type { Address } from "./address.ts";
import { RESULT_FORMAT, type Result } from "./result-file.ts";
import type { Gain, Json, Lesson, LessonEvent, Numbers } from "./types.ts";

export function resultOf(
  lesson: Lesson,
  { address, input }: { address: Address; input: Json },
  events: readonly LessonEvent[],
  /** What was locked of a prediction; null: nothing. */
  locked: (id: string) => Result["predictions"][number]["predicted"] | null,
  who: { class: string; student: string } | null,
): Result {
  return {
    format: RESULT_FORMAT,
    lesson: lesson.slug,
    ...who,
    size: address.size,
    seed: address.seed,
    input: without(input as Record<string, Json>, lesson.private ?? []),
    checks: lesson.checks.map((check) => ({ id: check.id, numbers: finite(check.measure(events)) })),
    ...told(lesson.truth?.(events) ?? null),
    predictions: lesson.predictions.flatMap((prediction) => {
      const predicted = locked(prediction.id);
      if (predicted === null) return [];
      return [{ id: prediction.id, predicted, came: "options" in prediction ? prediction.outcome(events) : null }];
    }),
  };
}

const told = (truth: Gain | null) =>
  truth && Number.isFinite(truth.gain) && Number.isFinite(truth.se)
    ? { truth: { gain: truth.gain, se: truth.se } }
    : {};

const without = <T>(fields: Record<string, T>, names: readonly string[]): Record<string, T> =>
  Object.fromEntries(Object.entries(fields).filter(([name]) => !names.includes(name)));

/** JSON has no other numbers; a check that lacks one does not hold. */
const finite = (numbers: Numbers | null): Numbers | null =>
  numbers && Object.fromEntries(Object.entries(numbers).filter(([, value]) => Number.isFinite(value)));
