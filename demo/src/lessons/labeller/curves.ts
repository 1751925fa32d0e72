/** Curves over the number of labels. */
import { type Rule, rules } from "./rules.ts";

/** A judge of so many labels, and how often it decides as others do. */
export interface Judged {
  count: number;
  values: Record<string, number>;
}

type Names = Record<Rule | "later" | "file", string>;

/** One curve for each rule, one for the labels that came later, one for somebody's file; those that have no points are left out. */
export function judgeCurves(judged: readonly Judged[], names: Names) {
  const points = (of: (values: Record<string, number>) => number) =>
    judged.flatMap(({ count, values }): [number, number][] => {
      const y = of(values);
      return Number.isFinite(y) ? [[count, y]] : [];
    });
  const more = [
    { name: names.later, points: points((v) => v.later_same / v.later_of), look: 3, dashed: true },
    { name: names.file, points: points((v) => v.others), look: 4 },
  ];
  return [
    ...rules.map((rule, look) => ({ name: names[rule], points: points((v) => v[rule]), look })),
    ...more.filter((series) => series.points.length > 0),
  ];
}
