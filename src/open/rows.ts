/** Rows that a program has already, or that a module of one's own gives. */
import type { Row } from "../data/readers.ts";
import { isUserError, UserError } from "../runtime/errors.ts";
import { importCode, placeIn } from "../runtime/own-code.ts";

/** Rows as a program has them: objects with columns, or plain texts. Only a list can be read several times. */
export type Rows = Iterable<unknown> | AsyncIterable<unknown>;

/** What a module of a dataset exports as `default`: rows, or a function that gives those of a split. */
export type RowsExport = Rows | ((part: { split: string }) => Rows | Promise<Rows>);

/** Rows as readers take them; a text is a row with the column "text". */
export async function* rowsOf(rows: Rows, name: string): AsyncGenerator<Row> {
  let number = 0;
  for await (const row of rows) {
    number++;
    yield { value: typeof row === "string" ? { text: row } : row, where: `${name}, row ${number}` };
  }
}

/**
 * The rows of a module.
 * @throws UserError naming the module, where it exports no rows or fails
 */
export async function* codeRows(path: string, split: string): AsyncGenerator<Row> {
  const { default: exported } = (await importCode(path)) as { default?: RowsExport };
  try {
    const rows = typeof exported === "function" ? await exported({ split }) : exported;
    if (!areRows(rows)) {
      throw new UserError(
        `${path}: a module of a dataset exports as "default" a list of rows, an iterable of them, or a function that ` +
          `returns one; this one has ${rows === undefined ? "no default export" : typeof rows}`,
      );
    }
    yield* rowsOf(await kept(path, split, rows, typeof exported !== "function"), path);
  } catch (error) {
    if (isUserError(error)) throw error;
    const { name, message } = error as Error;
    const place = placeIn(error as Error, path);
    throw new UserError(`${path} failed: ${name}: ${message}${place && ` (${place})`}`, { cause: error });
  }
}

const read = new Map<string, unknown[]>();

/** The rows of a module as a list, so that what can be iterated only once can be read for training and for evaluation. */
async function kept(path: string, split: string, rows: Rows, whatever: boolean): Promise<Rows> {
  if (Array.isArray(rows)) return rows;
  const key = whatever ? path : `${path} ${split}`;
  const known = read.get(key);
  if (known) return known;
  const all: unknown[] = [];
  for await (const row of rows) all.push(row);
  read.set(key, all);
  return all;
}

const areRows = (value: unknown): value is Rows =>
  typeof value === "object" && value !== null && (Symbol.iterator in value || Symbol.asyncIterator in value);
