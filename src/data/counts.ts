/** What became of a dataset's rows on their way to a trainer: kept by the list of examples that they ended in. */
import { spread } from "./describe.ts";

/** Rows that were read, and what happened to them. */
export interface DataCounts {
  /** Rows in the files, used or not. */
  rows: number;
  /** How many were left out, by reason. */
  dropped: Readonly<Record<string, number>>;
  /** Examples that were cut, and at how many tokens; null where nothing limits them. */
  truncated: number;
  limit: number | null;
}

/** No rows. */
export const NONE: DataCounts = { rows: 0, dropped: {}, truncated: 0, limit: null };

/** The counts of two datasets' rows together. */
export const sumOf = (a: DataCounts, b: DataCounts): DataCounts => ({
  rows: a.rows + b.rows,
  dropped: Object.entries(b.dropped).reduce(
    (all: Record<string, number>, [reason, n]) => Object.assign(all, { [reason]: (all[reason] ?? 0) + n }),
    { ...a.dropped },
  ),
  truncated: a.truncated + b.truncated,
  limit: a.limit ?? b.limit,
});

const known = new WeakMap<readonly unknown[], DataCounts>();

/** The counts of a list; of one that nobody counted, that all of it is there. */
export const countsOf = (list: readonly unknown[]): DataCounts =>
  known.get(list) ?? { rows: list.length, dropped: {}, truncated: 0, limit: null };

/**
 * A list that was made of another one, with that one's counts.
 * @param more what was left out on the way, by reason, and what was cut
 */
export function counted<T extends readonly unknown[]>(
  list: T,
  from: readonly unknown[] | DataCounts,
  more: Partial<DataCounts> = {},
): T {
  const before = "rows" in from ? from : countsOf(from);
  const dropped = { ...before.dropped };
  for (const [reason, n] of Object.entries(more.dropped ?? {})) if (n > 0) dropped[reason] = (dropped[reason] ?? 0) + n;
  known.set(list, { ...before, ...more, dropped });
  return list;
}

/** Notices which records are cut at a limit while they become examples. */
export class Cuts {
  readonly limit: number | null;
  /** Examples that were cut. */
  truncated = 0;
  private cut = false;

  constructor(maxLength: number | null) {
    this.limit = maxLength !== null && Number.isFinite(maxLength) ? maxLength : null;
  }

  /** For `PrepareOptions`. */
  readonly onCut = (): void => {
    this.cut = true;
  };

  /** Watches the making of examples. */
  watching<R, E>(prepare: (record: R) => E): (record: R) => E {
    return (record) => {
      this.cut = false;
      const example = prepare(record);
      if (this.cut) this.truncated++;
      return example;
    };
  }
}

/** The shape of a list of numbers, for a line of text. */
export interface Histogram {
  min: number;
  median: number;
  p95: number;
  max: number;
  /** How many there are in each of eight equal parts from `min` to `max`. */
  bars: number[];
}

/** The histogram of numbers; null of none. */
export function histogram(values: readonly number[]): Histogram | null {
  if (values.length === 0) return null;
  const { min, median, p95, max } = spread(values);
  const bars = new Array<number>(8).fill(0);
  for (const value of values) bars[max === min ? 0 : Math.min(7, Math.floor((8 * (value - min)) / (max - min)))]++;
  return { min, median, p95, max, bars };
}
