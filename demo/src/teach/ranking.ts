/** A class's runs of one lesson by what they did to the truth, and how far that order can be believed. */
import type { Result } from "../lib/lesson/result-file.ts";
import type { Json, Lesson } from "../lib/lesson/types.ts";
import { ownerOf } from "./read.ts";
import { describe } from "./spread.ts";

/** A run in the order of its gain. */
export interface Place {
  owner: string;
  gain: number;
  se: number;
  /** Its best and its worst place that cannot be ruled out. */
  first: number;
  last: number;
  /** What it was asked besides the lesson's own question, and its size. */
  asked: Record<string, Json>;
  size: Result["size"];
}

export interface Ranking {
  places: Place[];
  /** Those that cannot be told from the best. */
  ahead: number;
  /** Spread between the runs, and what of it the standard errors alone would bring. */
  spread: number;
  noise: number;
}

/** Two runs differ where their gains do by more than two standard errors of the difference. */
const SURE = 2;

/** Orders the runs that say what became of the truth; null: fewer than two do. */
export function rankingOf(lesson: Lesson, results: readonly Result[]): Ranking | null {
  const told = results.flatMap((result) => (result.truth ? [{ result, ...result.truth }] : []));
  if (told.length < 2) return null;
  const sorted = told.toSorted((a, b) => b.gain - a.gain);
  const apart = (a: { gain: number; se: number }, b: { gain: number; se: number }) =>
    a.gain - b.gain > SURE * Math.hypot(a.se, b.se);
  const places = sorted.map(
    (own): Place => ({
      owner: ownerOf(own.result),
      gain: own.gain,
      se: own.se,
      first: 1 + sorted.filter((other) => apart(other, own)).length,
      last: sorted.length - sorted.filter((other) => apart(own, other)).length,
      asked: askedOf(lesson, own.result),
      size: own.result.size,
    }),
  );
  return {
    places,
    ahead: places.filter(({ first }) => first === 1).length,
    spread: describe(sorted.map(({ gain }) => gain)).sd,
    noise: Math.sqrt(sorted.reduce((sum, { se }) => sum + se ** 2, 0) / sorted.length),
  };
}

/** The fields in which a run's input differs from its lesson's own. */
function askedOf(lesson: Lesson, { input, size, seed }: Result): Record<string, Json> {
  const own = lesson.input(size, seed) as Record<string, Json>;
  return Object.fromEntries(
    Object.entries(input).filter(([name, value]) => JSON.stringify(value) !== JSON.stringify(own[name])),
  );
}
