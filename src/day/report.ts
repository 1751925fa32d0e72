/** What a day found, for people: each figure beside the ceiling that bounds it. */
import { type Ceiling, ceilingUnits, type Facts, type Figure } from "./item.ts";

/** What came of an item. */
export interface DayResult {
  readonly item: string;
  readonly seconds: number;
  readonly facts: Facts;
  readonly figures: readonly Figure[];
  /** Why the item ended early: the end of its process, or an error. */
  readonly failed?: string;
}

/** A line for each figure, by item: its value, its part of the ceiling, and how it was come by. Wrong values are marked. */
export function dayLines(results: readonly DayResult[]): string[] {
  const ceilings = new Map<Ceiling, number>();
  for (const { figures } of results) {
    for (const { what, value, unit } of figures) {
      if (what in ceilingUnits && ceilingUnits[what as Ceiling] === unit) ceilings.set(what as Ceiling, value);
    }
  }
  const line = ({ what, value, unit, bound, how, wrong }: Figure): string => {
    const most = bound && ceilings.get(bound.ceiling);
    const part = most ? `${Math.round((100 * bound.reached) / most)} % of ${bound.ceiling}` : "";
    const shown = `${unit === "error" ? value.toExponential(1) : digits(value)} ${unit}`;
    return `  ${wrong ? "WRONG " : ""}${what.padEnd(52)} ${shown.padStart(16)}  ${[part, how].filter(Boolean).join("; ")}`.trimEnd();
  };
  return results.flatMap(({ item, seconds, figures, failed }) => [
    `${item} (${seconds.toFixed(0)} s)${failed ? `: ${failed}` : ""}`,
    ...figures.map(line),
  ]);
}

/** Three digits that count, without an exponent. */
const digits = (value: number): string =>
  value >= 100 ? Math.round(value).toLocaleString("en-US") : value.toPrecision(3);
