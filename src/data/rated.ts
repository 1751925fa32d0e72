/** Rows of answers with ratings: several number columns, any of which may be missing in a row. */
import { UserError } from "../runtime/errors.ts";
import { isNumber } from "./columns.ts";
import { asKind, type Entry } from "./readers.ts";
import type { PromptCompletion } from "./records.ts";
import { type Columns, columnsOf } from "./schemas.ts";

/** An answer with its ratings, in the order of the attributes; NaN where one is missing. */
export interface Rated extends PromptCompletion {
  ratings: number[];
}

/** The 19 objectives of ArmoRM's data (RLHFlow), in their order. */
export const ARMO_ATTRIBUTES: readonly string[] = [
  ...["helpfulness", "correctness", "coherence", "complexity", "verbosity"].map((name) => `helpsteer-${name}`),
  ...["overall_score", "instruction_following", "truthfulness", "honesty", "helpfulness"].map(
    (name) => `ultrafeedback-${name}`,
  ),
  ...["beavertails-is_safe", "prometheus-score", "argilla-overall_quality", "argilla-judge_lm"],
  ...["complexity", "style", "explanation", "instruction-following", "readability"].map((name) => `code-${name}`),
];

/** HelpSteer's 0 to 4 as ArmoRM's labels have it, and back. */
export const helpSteerLabel = (raw: number): number => (raw + 0.5) / 5;
export const helpSteerRaw = (label: number): number => 5 * label - 0.5;

/**
 * The rated answers among rows that were read: `messages`, or `prompt` with `completion` (or `response`), and number columns.
 * @param attributes which columns are ratings; null takes every column that holds numbers, and nulls at most besides
 * @param name of the dataset, for messages
 * @throws UserError naming file, line and column: no such column, a rating that is no finite number, a row without an answer
 */
export function ratedRows(
  entries: readonly Entry[],
  attributes: readonly string[] | null,
  name: string,
): { attributes: string[]; rows: Rated[] } {
  const found = attributes ?? numberColumns(entries.map(columns));
  if (found.length === 0) throw new UserError(`${name}: there is no column of numbers, and so nothing rated`);
  const twice = found.find((attribute, i) => found.indexOf(attribute) < i);
  if (twice !== undefined) throw new UserError(`the attribute ${twice} is named twice`);
  const never = found.find((attribute) => entries.every((entry) => columns(entry)[attribute] === undefined));
  if (never !== undefined) {
    const known = entries.length > 0 ? columnsOf(columns(entries[0])).join(", ") : "none";
    throw new UserError(`${name}: no row has the column "${never}" (found: ${known})`);
  }
  return { attributes: [...found], rows: entries.map((entry) => ratedRow(entry, found)) };
}

/** Rated rows with some of their attributes only, in the order asked for; null takes all. */
export function chosenColumns<R extends { ratings: number[] }>(
  rows: readonly R[],
  known: readonly string[],
  wanted: readonly string[] | null,
): { attributes: string[]; rows: R[] } {
  const attributes = [...(wanted ?? known)];
  const unknown = attributes.find((name) => !known.includes(name));
  if (unknown !== undefined) throw new UserError(`there is no attribute "${unknown}"; there are ${known.join(", ")}`);
  const columns = attributes.map((name) => known.indexOf(name));
  return { attributes, rows: rows.map((row) => ({ ...row, ratings: columns.map((k) => row.ratings[k]) })) };
}

/** The columns of a row; cells that hold a number are one, where they come from a table of texts. */
function columns({ row }: Entry): Columns {
  const value = (row.value ?? {}) as Columns;
  if (!row.cells) return value;
  const read = (cell: unknown) => (typeof cell === "string" && isNumber(cell) ? Number(cell) : cell);
  return Object.fromEntries(Object.entries(value).map(([name, cell]) => [name, read(cell)]));
}

function ratedRow(entry: Entry, attributes: readonly string[]): Rated {
  const { record } = entry;
  const row = columns(entry);
  const where = record.where ?? "a row";
  const answer =
    record.kind === "prompt" && !record.rendered && typeof row.response === "string"
      ? { ...record, kind: "prompt_completion" as const, completion: row.response }
      : asKind(record, "prompt_completion");
  if (!answer) {
    throw new UserError(`${where}: a rated row needs a prompt and an answer ("messages", or "prompt" and "response")`);
  }
  const ratings = attributes.map((name) => {
    const value = row[name] ?? null;
    if (value === null) return Number.NaN;
    if (typeof value === "number" && Number.isFinite(value)) return value;
    throw new UserError(
      `${where}: "${name}" must be a number, or null where it is missing, not ${JSON.stringify(value)}`,
    );
  });
  return { ...answer, ratings };
}

/** Columns that hold a number somewhere, and nothing else but null anywhere, in order of appearance. */
function numberColumns(rows: readonly Columns[]): string[] {
  const names = new Map<string, boolean>();
  for (const row of rows) {
    for (const [name, value] of Object.entries(row)) {
      if (value === null || value === undefined) continue;
      names.set(name, (names.get(name) ?? true) && typeof value === "number");
    }
  }
  return [...names].filter(([, numeric]) => numeric).map(([name]) => name);
}
