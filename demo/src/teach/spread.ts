/** What a class's runs have in common, and how far they lie apart. */
import type { Result } from "../lib/lesson/result-file.ts";
import type { ChoicePrediction, Lesson } from "../lib/lesson/types.ts";
import { ownerOf } from "./read.ts";

/** One number over the class. */
export interface NumberSpread {
  name: string;
  count: number;
  mean: number;
  /** Standard deviation between students; NaN of one. */
  sd: number;
  /** Standard error of the mean; NaN of one. */
  se: number;
  least: number;
  most: number;
  /** Each student's, in order of size, and whether the check holds there. */
  values: { owner: string; value: number; holds: boolean }[];
}

export interface CheckSpread {
  id: string;
  /** Students of whom the run told anything. */
  told: number;
  holds: number;
  numbers: NumberSpread[];
}

/** Mean, standard deviation between them (n - 1), and standard error of the mean. */
export function describe(values: readonly number[]): { mean: number; sd: number; se: number } {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  const sd = Math.sqrt(squares / (values.length - 1));
  return {
    mean,
    sd: values.length > 1 ? sd : Number.NaN,
    se: values.length > 1 ? sd / Math.sqrt(values.length) : Number.NaN,
  };
}

/** The spread of every check of a lesson. Whether a check holds is decided here anew, from the numbers. */
export function spreadOf(lesson: Lesson, results: readonly Result[]): CheckSpread[] {
  return lesson.checks.map((check) => {
    const told = results.flatMap((result) => {
      const numbers = result.checks.find(({ id }) => id === check.id)?.numbers;
      return numbers ? [{ owner: ownerOf(result), numbers, holds: check.holds(numbers) }] : [];
    });
    const names = [...new Set(told.flatMap(({ numbers }) => Object.keys(numbers)))];
    return {
      id: check.id,
      told: told.length,
      holds: told.filter(({ holds }) => holds).length,
      numbers: names.map((name) => {
        const values = told
          .flatMap(({ owner, numbers, holds }) => (name in numbers ? [{ owner, value: numbers[name], holds }] : []))
          .sort((a, b) => a.value - b.value);
        const all = values.map(({ value }) => value);
        return { name, count: all.length, ...describe(all), least: all[0], most: all[all.length - 1], values };
      }),
    };
  });
}

/** How a class predicted: by option, who chose it, and how many runs made it true. */
export function predictionSpread(prediction: ChoicePrediction, results: readonly Result[]) {
  const given = results.flatMap(({ predictions }) => predictions.filter(({ id }) => id === prediction.id));
  return {
    count: given.length,
    right: given.filter(({ predicted, came }) => came !== null && predicted === came).length,
    options: prediction.options.map(({ id, text }) => ({
      id,
      text,
      chose: given.filter(({ predicted }) => predicted === id).length,
      came: given.filter(({ came }) => came === id).length,
    })),
  };
}
