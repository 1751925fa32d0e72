/** What a class's labels say together: who decided which pairs how, and how far the class agrees with itself. */
import { keyOf } from "../lib/labels.ts";
import type { Pupil } from "./pupils.ts";

/** Of so many decisions so many were alike. */
export interface Alike {
  same: number;
  of: number;
}

/** Fewer in common say nothing: of eight by lot, six or more are alike in one case of seven. */
export const TOO_FEW = 8;

/** A share and its standard error; that of none or all is the one of half a decision, not nothing. */
export function shareOf({ same, of }: Alike): { share: number; se: number } {
  return { share: same / of, se: Math.sqrt(Math.max(same * (of - same), 0.25 * of) / of) / of };
}

/**
 * Agreement beyond chance: 0 as of two coins, 1 always alike. Which of two stories is called the first is arbitrary, so chance is
 * one half whatever anybody prefers, and Cohen's kappa of it is this.
 */
export const beyondChance = (share: number): number => 2 * share - 1;

/** A pair that somebody decided. */
export interface PairVotes {
  prompt: string;
  a: string;
  b: string;
  /** By student: "a", "b", or undefined for none. */
  votes: ("a" | "b" | undefined)[];
  forA: number;
  forB: number;
}

/** All pairs, those first that most decided; of equals the one that came first. */
export function pairsOf(pupils: readonly Pupil[]): PairVotes[] {
  const pairs = new Map<string, PairVotes>();
  for (const [i, { labels }] of pupils.entries()) {
    for (const label of labels) {
      const key = keyOf(label);
      const [a, b] = [label.chosen, label.rejected].sort();
      const pair = pairs.get(key) ?? { prompt: label.prompt, a, b, votes: [], forA: 0, forB: 0 };
      pairs.set(key, pair);
      pair.votes[i] = label.chosen === a ? "a" : "b";
      if (pair.votes[i] === "a") pair.forA++;
      else pair.forB++;
    }
  }
  return [...pairs.values()].sort((x, y) => y.forA + y.forB - x.forA - x.forB);
}

/** How often every two students decided alike, on pairs that both decided: [students][students]. */
export function agreementsOf(pairs: readonly PairVotes[], students: number): Alike[][] {
  const all = Array.from({ length: students }, () => Array.from({ length: students }, () => ({ same: 0, of: 0 })));
  for (const { votes } of pairs) {
    for (let i = 0; i < students; i++) {
      if (!votes[i]) continue;
      for (let k = 0; k < students; k++) {
        if (!votes[k] || i === k) continue;
        all[i][k].of++;
        if (votes[i] === votes[k]) all[i][k].same++;
      }
    }
  }
  return all;
}

/**
 * How often two of a class decide alike: over all pairs of students and what both decided. The standard error is the jackknife's
 * over students, for what one of them says is in many of these comparisons; NaN of fewer than three.
 */
export function classAgreement(all: readonly (readonly Alike[])[]): Alike & { share: number; se: number } {
  const students = all.map((_, i) => i);
  const without = (left: number): Alike => {
    const sum = { same: 0, of: 0 };
    for (const i of students) {
      for (let k = 0; k < i; k++) {
        if (i === left || k === left) continue;
        sum.same += all[i][k].same;
        sum.of += all[i][k].of;
      }
    }
    return sum;
  };
  const whole = without(-1);
  const shares = students
    .filter((i) => all[i].some(({ of }) => of > 0))
    .map(without)
    .map(({ same, of }) => same / of);
  return { ...whole, share: whole.same / whole.of, se: jackknife(shares) };
}

/** The standard error of a statistic, from what it is without each one. */
export function jackknife(without: readonly number[]): number {
  const n = without.length;
  if (n < 3 || !without.every(Number.isFinite)) return Number.NaN;
  const mean = without.reduce((sum, value) => sum + value, 0) / n;
  return Math.sqrt(((n - 1) / n) * without.reduce((sum, value) => sum + (value - mean) ** 2, 0));
}

/** How often students decided again as before, all together. */
export const steadiness = (pupils: readonly Pupil[]): Alike =>
  pupils.reduce((sum, { again }) => ({ same: sum.same + again.same, of: sum.of + again.of }), { same: 0, of: 0 });
