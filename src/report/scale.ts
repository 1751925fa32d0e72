/** Axes: where a number lies, and which numbers are named beside it. */
import { nice, tickStep, ticks } from "d3-array";

export interface Scale {
  /** Where a value lies. */
  (value: number): number;
  /** About so many round values, from the lowest. */
  ticks(count: number): number[];
  /** Names ticks: all with as many decimals as so many of them need. */
  tickFormat(count: number): (tick: number) => string;
}

type Pair = readonly [number, number];

/**
 * A linear scale.
 * @param domain two different values, and `range` where they lie
 * @param rounded so many ticks, out to whose round values the domain grows; what lies beyond it is drawn at its ends
 */
export function linearScale(domain: Pair, [start, end]: Pair, rounded?: number): Scale {
  const [low, high] = rounded === undefined ? domain : nice(...domain, rounded);
  const place = (value: number): number => {
    const share = (value - low) / (high - low);
    const inside = rounded === undefined ? share : Math.min(1, Math.max(0, share));
    return start * (1 - inside) + end * inside;
  };
  const tickFormat = (count: number) => {
    const step = Math.abs(tickStep(low, high, count));
    const decimals = Math.min(20, Math.max(0, -Math.floor(Math.log10(step) + 1e-9)));
    return named(decimals);
  };
  return Object.assign(place, { ticks: (count: number) => ticks(low, high, count), tickFormat });
}

/** Names numbers with a true minus sign and commas between thousands; minus zero is zero. */
function named(decimals: number): (value: number) => string {
  const format = new Intl.NumberFormat("en-US", { minimumFractionDigits: decimals, maximumFractionDigits: decimals });
  return (value) => format.format(value + 0).replace("-", "−");
}

/** Names numbers that are whole. */
export const wholeNumbers = named(0);
