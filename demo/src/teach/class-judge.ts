/**
 * A judge of a class's labels, and what it is worth: it learns from all labels on some pairs, and decides the pairs that it has
 * not seen. Beside it stand what one classmate, and what all classmates together, would have said of the same decisions.
 */
import type { Label } from "../lib/labels.ts";
import { jackknife, type PairVotes, pairsOf, TOO_FEW } from "./pool.ts";
import type { Pupil } from "./pupils.ts";

/** Each pair is decided by a judge that learned from the pairs of the other parts. */
export const PARTS = 4;
/** Labels that a judge learns from at most: of each student the first ones. */
export const MOST_POOLED = 2000;

/** One training: what it learns from, and which pairs it then decides. */
export interface Part {
  labels: Label[];
  /** Written as labels: the pair's first story as the chosen one. */
  pairs: Label[];
  /** Places of these in the pairs of the class. */
  places: number[];
}

/** Pairs of the class that are decided at all, and its trainings; null: too few students or pairs for an honest answer. */
export function planOf(pupils: readonly Pupil[]): { pairs: PairVotes[]; parts: Part[] } | null {
  const most = Math.floor(MOST_POOLED / Math.max(1, pupils.length));
  const pairs = pairsOf(pupils.map((pupil) => ({ ...pupil, labels: pupil.labels.slice(0, most) })));
  if (pupils.length < 2 || pairs.filter(({ forA, forB }) => forA + forB > 1).length < TOO_FEW) return null;
  const parts = Array.from({ length: PARTS }, (_, part): Part => {
    const places = pairs.flatMap((_, i) => (i % PARTS === part ? [i] : []));
    return {
      labels: pairs.flatMap((pair, i) => (i % PARTS === part ? [] : labelsOn(pair))),
      pairs: places.map((i) => asLabel(pairs[i], "a")),
      places,
    };
  });
  return { pairs, parts };
}

const asLabel = ({ prompt, a, b }: PairVotes, vote: "a" | "b"): Label => ({
  prompt,
  chosen: vote === "a" ? a : b,
  rejected: vote === "a" ? b : a,
});

/** All labels on a pair, student by student. */
const labelsOn = (pair: PairVotes): Label[] => pair.votes.flatMap((vote) => (vote ? [asLabel(pair, vote)] : []));

/** Every student's labels together. */
export const pooledLabels = (pairs: readonly PairVotes[]): Label[] => pairs.flatMap(labelsOn);

/** A share of the same decisions, with the jackknife's standard error over pairs. */
export interface Measured {
  value: number;
  se: number;
}

export interface Verdict {
  /** Decisions of students on pairs that another student decided, too, and that the judge had not seen. */
  decisions: number;
  pairs: number;
  judge: Measured;
  /** One classmate, drawn by lot. */
  classmate: Measured;
  /** The majority of all classmates; half right where they are divided. */
  majority: Measured;
  /** The judge's less the majority's, on the same decisions. */
  gap: Measured;
}

/**
 * Compares a judge's decisions with the students'.
 * @param ahead of each pair how far the judge puts story a ahead of b; null: it did not decide
 */
export function verdictOf(pairs: readonly PairVotes[], ahead: readonly (number | null)[]): Verdict | null {
  const sums = pairs.flatMap((pair, i) => {
    const decided = ahead[i];
    return decided === null || pair.forA + pair.forB < 2 ? [] : [sumsOf(pair, decided)];
  });
  if (sums.length < TOO_FEW) return null;
  const measured = (of: (sum: Sums) => number): Measured => {
    const ratio = (some: readonly Sums[]) =>
      some.reduce((all, sum) => all + of(sum), 0) / some.reduce((all, sum) => all + sum.decisions, 0);
    return { value: ratio(sums), se: jackknife(sums.map((_, left) => ratio(sums.filter((_, i) => i !== left)))) };
  };
  return {
    decisions: sums.reduce((all, sum) => all + sum.decisions, 0),
    pairs: sums.length,
    judge: measured((sum) => sum.judge),
    classmate: measured((sum) => sum.classmate),
    majority: measured((sum) => sum.majority),
    gap: measured((sum) => sum.judge - sum.majority),
  };
}

interface Sums {
  decisions: number;
  judge: number;
  classmate: number;
  majority: number;
}

/** Over those who decided a pair: how many each of the three had right. */
function sumsOf({ forA, forB }: PairVotes, ahead: number): Sums {
  const all = forA + forB;
  // For one who took a, the others are forA - 1 and forB.
  const majority = (own: number, other: number) => own * (own - 1 > other ? 1 : own - 1 === other ? 0.5 : 0);
  return {
    decisions: all,
    judge: ahead > 0 ? forA : ahead < 0 ? forB : all / 2,
    classmate: (forA * (forA - 1) + forB * (forB - 1)) / (all - 1),
    majority: majority(forA, forB) + majority(forB, forA),
  };
}
