/** What stands in a dataset: counts, lengths, duplicates, the balance of labels. */
import { sequenceLength, textsOf } from "./raw/filters.ts";
import type { RawSample } from "./raw/sample.ts";
import type { Entry } from "./readers.ts";

/** How numbers spread: the smallest, mean, median, 95th percentile and largest. */
export interface Spread {
  min: number;
  mean: number;
  median: number;
  /** 95 of 100 are no greater. */
  p95: number;
  max: number;
}

/** A summary of a dataset: how many records of which kind, and how long they are. */
export interface Description {
  records: number;
  /** Records by kind: preference, prompt_completion, ... */
  kinds: Record<string, number>;
  /** Characters (UTF-16 units) of the texts by name, and of `sequence`, the longest that a model would see of a record. */
  characters: Record<string, Spread>;
  /** The same in tokens, given a tokenizer; without the tokens that a model adds. */
  tokens?: Record<string, Spread>;
  duplicates: {
    /** Records whose prompt (or text) another one before them has. */
    prompts: number;
    /** Records that are the same as one before them. */
    records: number;
  };
  /** Pairs by which answer is longer. */
  longer?: { chosen: number; rejected: number; equal: number };
  /** How often each value of a column with few different ones occurs. */
  columns: Record<string, Record<string, number>>;
}

/** Columns with more different values than this are no labels. */
const MOST_VALUES = 30;

/**
 * Summarises a dataset.
 * @param count tokens of a text
 */
export function describe(entries: readonly Entry[], count?: (text: string) => number): Description {
  const kinds: Record<string, number> = {};
  const prompts = new Set<string>();
  const records = new Set<string>();
  const longer = { chosen: 0, rejected: 0, equal: 0 };
  for (const { record } of entries) {
    kinds[record.kind] = (kinds[record.kind] ?? 0) + 1;
    const texts = textsOf(record);
    prompts.add(texts.prompt ?? texts.text);
    records.add(JSON.stringify(texts));
    if (record.kind !== "preference") continue;
    const difference = record.chosen.length - record.rejected.length;
    longer[difference > 0 ? "chosen" : difference < 0 ? "rejected" : "equal"]++;
  }
  return {
    records: entries.length,
    kinds,
    characters: lengths(entries, (text) => text.length),
    ...(count && { tokens: lengths(entries, count) }),
    duplicates: { prompts: entries.length - prompts.size, records: entries.length - records.size },
    ...(kinds.preference && { longer }),
    columns: balance(entries.map(({ row }) => row.value)),
  };
}

/** How often the labels of raw samples are true: which answer is better, safer, and which are safe. */
export function labelBalance(samples: Iterable<RawSample>): Record<string, Record<string, number>> {
  const labels = ["better", "safer", "is_safe", "is_other_safe"] as const;
  return balance(Array.from(samples, (sample) => Object.fromEntries(labels.map((name) => [name, sample[name]]))));
}

function lengths(entries: readonly Entry[], lengthOf: (text: string) => number): Record<string, Spread> {
  const found: Record<string, number[]> = {};
  const add = (name: string, length: number) => {
    found[name] ??= [];
    found[name].push(length);
  };
  for (const { record } of entries) {
    const known = new Map<string, number>();
    for (const [name, text] of Object.entries(textsOf(record))) {
      known.set(text, lengthOf(text));
      add(name, known.get(text) as number);
    }
    add(
      "sequence",
      sequenceLength(record, (text) => known.get(text) ?? lengthOf(text)),
    );
  }
  return Object.fromEntries(Object.entries(found).map(([name, values]) => [name, spread(values)]));
}

/**
 * Summarises how numbers spread.
 * @param values at least one
 */
export function spread(values: readonly number[]): Spread {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (share: number) => sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)];
  const middle = sorted.length / 2;
  return {
    min: sorted[0],
    mean: values.reduce((sum, value) => sum + value, 0) / values.length,
    median: Number.isInteger(middle) ? (sorted[middle - 1] + sorted[middle]) / 2 : sorted[Math.floor(middle)],
    p95: at(0.95),
    max: sorted[sorted.length - 1],
  };
}

function balance(rows: readonly unknown[]): Record<string, Record<string, number>> {
  const counts = new Map<string, Map<string, number> | null>();
  for (const row of rows) {
    for (const [column, value] of Object.entries((row ?? {}) as Record<string, unknown>)) {
      if (value === undefined || counts.get(column) === null) continue;
      const isLabel = value === null || typeof value === "boolean" || typeof value === "number";
      const values = counts.get(column) ?? new Map<string, number>();
      const name = String(value);
      if ((!isLabel && typeof value !== "string") || name.length > 40) counts.set(column, null);
      else {
        values.set(name, (values.get(name) ?? 0) + 1);
        counts.set(column, values.size > MOST_VALUES ? null : values);
      }
    }
  }
  // A column with a value of its own for every row is a text or a number, not a label.
  const isLabel = (values: Map<string, number> | null): values is Map<string, number> =>
    values !== null && (values.size <= rows.length / 2 || values.has("true") || values.has("false"));
  return Object.fromEntries(
    [...counts].flatMap(([column, values]) =>
      isLabel(values) ? [[column, Object.fromEntries([...values].sort(([a], [b]) => (a < b ? -1 : 1)))]] : [],
    ),
  );
}

/** A description as lines of text for people. */
export function descriptionLines({
  records,
  kinds,
  characters,
  tokens,
  duplicates,
  longer,
  columns,
}: Description): string[] {
  const percent = (n: number) => `${((100 * n) / records).toFixed(1)} %`;
  const counts = Object.entries(kinds).map(([kind, count]) => `${kind} ${count}`);
  const lines = [`records     ${records} (${counts.join(", ")})`];
  lines.push(`duplicates  ${duplicates.prompts} repeat a prompt, ${duplicates.records} a whole record`);
  if (longer) {
    const { chosen, rejected, equal } = longer;
    lines.push(`longer      chosen ${percent(chosen)}, rejected ${percent(rejected)}, neither ${percent(equal)}`);
  }
  const table = (title: string, spreads: Record<string, Spread>) => {
    const numbers = ["min", "mean", "median", "p95", "max"] as const;
    lines.push("", title.padEnd(12) + numbers.map((name) => name.padStart(9)).join(""));
    for (const [name, spread] of Object.entries(spreads)) {
      lines.push(name.padEnd(12) + numbers.map((key) => rounded(spread[key]).padStart(9)).join(""));
    }
  };
  table("characters", characters);
  if (tokens) table("tokens", tokens);
  for (const [column, values] of Object.entries(columns)) {
    const total = Object.values(values).reduce((sum, n) => sum + n, 0);
    const shares = Object.entries(values).map(([value, n]) => `${value} ${n} (${((100 * n) / total).toFixed(1)} %)`);
    lines.push("", `${column}: ${shares.join(", ")}`);
  }
  return lines;
}

const rounded = (n: number) => (Number.isInteger(n) ? String(n) : n.toFixed(1));
