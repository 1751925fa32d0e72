/** Columns under the names that readers know, whatever they are called in a file. */
import { UserError } from "../runtime/errors.ts";
import type { Row } from "./row.ts";

/** A row's columns by the names that readers know: pairs of such a name and the file's own. */
export type ColumnNames = readonly (readonly [known: string, own: string])[];

/**
 * Reads `prompt=question` as "the prompt stands in the column question".
 * @throws UserError for anything else, and for a name that is given twice
 */
export function columnNames(given: readonly string[]): ColumnNames {
  const pairs = given.map((text) => {
    const [, known = "", own = ""] = /^\s*([^=]*?)\s*=\s*(.*?)\s*$/.exec(text) ?? [];
    if (known !== "" && own !== "") return [known, own] as const;
    throw new UserError(
      `column must be like prompt=question, where the prompts stand in the column question; not ${JSON.stringify(text)}`,
    );
  });
  const twice = pairs.find(([known], i) => pairs.findIndex(([other]) => other === known) < i);
  if (twice) throw new UserError(`column names "${twice[0]}" twice: ${given.join(", ")}`);
  return pairs;
}

/**
 * Rows with their columns under the names that readers know, too. Cells of tables that hold messages or labels become such.
 * @throws UserError naming the row that lacks a column, or whose columns have their meaning from its file
 */
export async function* renamed(rows: AsyncIterable<Row>, names: ColumnNames): AsyncGenerator<Row> {
  for await (const row of rows) yield named(row, names);
}

function named(row: Row, names: ColumnNames): Row {
  const { value, where } = row;
  if (typeof value !== "object" || value === null || Array.isArray(value)) return row;
  const own = value as Record<string, unknown>;
  if (names.length > 0 && row.schema) {
    throw new UserError(`${where}: this is a file of the type ${row.schema.name}, which says what its columns are`);
  }
  const taken = names.map(([known, column]) => {
    if (Object.hasOwn(own, column)) return [known, own[column]];
    const found = Object.keys(own).join(", ") || "none";
    throw new UserError(`${where}: there is no column "${column}" to take "${known}" from (found: ${found})`);
  });
  const columns = { ...own, ...Object.fromEntries(taken) };
  return { ...row, value: row.cells ? typed(columns) : columns };
}

const numbers = ["label", "margin"];
const truths = ["label", "chosen_is_safe", "rejected_is_safe"];

/** A table's row: its texts, and what readers take for numbers, truths and messages. */
function typed(row: Record<string, unknown>): Record<string, unknown> {
  const cell = (name: string, value: unknown): unknown => {
    if (typeof value !== "string") return value;
    if (truths.includes(name) && /^(true|false)$/i.test(value.trim())) return /^true$/i.test(value.trim());
    if (numbers.includes(name) && isNumber(value)) return Number(value);
    return messagesIn(value) ?? value;
  };
  return Object.fromEntries(Object.entries(row).map(([name, value]) => [name, cell(name, value)]));
}

/** Whether a cell holds a number and nothing else. */
export const isNumber = (text: string): boolean => text.trim() !== "" && Number.isFinite(Number(text));

/** Messages that are written as JSON; undefined for any other text. */
function messagesIn(text: string): unknown {
  if (!/^\s*\[\s*\{\s*"(role|content|from|value)"/.test(text)) return undefined;
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
