/** Rows that a program has already, or that a module of one's own gives. */
import type { Row } from "../data/readers.ts";
import { UserError } from "../runtime/errors.ts";
import { failed, importCode } from "../runtime/own-code.ts";

/** Rows as a program has them: objects with columns, or plain texts. */
export type Rows = Iterable<unknown> | AsyncIterable<unknown>;

/** The `default` export of a dataset's module: rows, or a function that gives those of a split. */
export type RowsExport = Rows | ((part: { split: string }) => Rows | Promise<Rows>);

/** Rows as readers take them; a text is a row with the column "text". */
export async function* rowsOf(rows: Rows, name: string): AsyncGenerator<Row> {
  let number = 0;
  for (const row of await listOf(rows)) {
    number++;
    yield { value: typeof row === "string" ? { text: row } : row, where: `${name}, row ${number}` };
  }
}

/** What was read of rows that can be read only once, for who reads them again: for evaluation, or another model. */
const lists = new WeakMap<Rows, Promise<unknown[]>>();

async function listOf(rows: Rows): Promise<readonly unknown[]> {
  if (Array.isArray(rows)) return rows;
  const known = lists.get(rows);
  if (known) return known;
  const reading = collected(rows);
  lists.set(rows, reading);
  return reading;
}

async function collected(rows: Rows): Promise<unknown[]> {
  const all: unknown[] = [];
  for await (const row of rows) all.push(row);
  return all;
}

/**
 * The rows of a module.
 * @param chosen whether a person chose the split
 * @throws UserError naming the module, where it exports no rows or fails
 */
export async function* codeRows(path: string, split: string, chosen: boolean): AsyncGenerator<Row> {
  const { default: exported } = (await importCode(path)) as { default?: RowsExport };
  if (chosen && split !== "train" && typeof exported === "object") {
    throw new UserError(
      `split "${split}" cannot be chosen from ${path}: it exports rows; export a function ({ split }) => rows instead`,
    );
  }
  try {
    const rows = typeof exported === "function" ? await exported({ split }) : exported;
    if (!areRows(rows)) {
      throw new UserError(
        `${path}: a module of a dataset exports as "default" a list of rows, an iterable of them, or a function that ` +
          `returns one; this one has ${rows === undefined ? "no default export" : typeof rows}`,
      );
    }
    yield* rowsOf(rows, path);
  } catch (error) {
    throw failed(path, error);
  }
}

const areRows = (value: unknown): value is Rows =>
  typeof value === "object" && value !== null && (Symbol.iterator in value || Symbol.asyncIterator in value);
