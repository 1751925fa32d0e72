/** Tables as text: comma-separated values as RFC 4180 has them, or tab-separated ones. The parser is loaded only when needed. */
import { UserError } from "../runtime/errors.ts";
import type { Row } from "./row.ts";

/** The cells of a table's line, and the number of the line they begin in. */
interface CellRow {
  cells: string[];
  line: number;
}

/** The rows of a table whose first line names the columns. An empty cell is one that is not there. */
export async function* csvRows(text: string, file: string): AsyncGenerator<Row> {
  const rows = await parsed(text, file);
  const header = rows.shift();
  if (!header) return;
  const names = header.cells.map((name) => name.trim());
  const twice = names.find((name, i) => name !== "" && names.indexOf(name) < i);
  if (twice !== undefined) throw new UserError(`${file}:${header.line}: two columns are called "${twice}"`);
  for (const { cells, line } of rows) {
    const where = `${file}:${line}`;
    if (cells.length !== names.length) {
      throw new UserError(
        `${where}: a row of ${cells.length} cells under ${names.length} columns (${names.join(", ")}); a cell that ` +
          "holds the separator, quotes or line ends stands in quotes",
      );
    }
    // A column without a name is what pandas writes its row numbers to.
    const named = names.flatMap((name, i) => (name === "" ? [] : [[name, cells[i] === "" ? null : cells[i]]]));
    yield { value: Object.fromEntries(named), where, cells: true };
  }
}

async function parsed(text: string, file: string): Promise<CellRow[]> {
  const { default: Papa } = await import("papaparse");
  const rows: CellRow[] = [];
  let [begin, line] = [0, 1];
  const lineAt = (index: number) => line + lineEnds(text, begin, index);
  // papaparse keeps the return of "\r\n" in a line's last cell, where that is not in quotes.
  const parser = new Papa.Parser({
    delimiter: separatorOf(text, file),
    newline: "\n",
    step({ data: [cells], errors: [mistake], meta }: Step) {
      if (mistake) throw new UserError(`${file}:${lineAt(mistake.index - 1)}: ${inWords(mistake.code)}`);
      const end = text[meta.cursor - 1] === "\n" ? meta.cursor - 1 : meta.cursor;
      const last = cells.length - 1;
      if (text[end - 1] === "\r") cells[last] = cells[last].replace(/\r$/, "");
      if (cells.length > 1 || cells[0].trim() !== "") rows.push({ cells, line });
      line = lineAt(meta.cursor);
      begin = meta.cursor;
    },
  } as unknown as ConstructorParameters<typeof Papa.Parser>[0]);
  parser.parse(text, 0, false);
  return rows;
}

interface Step {
  data: [string[]];
  errors: readonly { code: string; index: number }[];
  meta: { cursor: number };
}

const inWords = (code: string): string =>
  code === "MissingQuotes"
    ? "a cell begins with a quote here, and none ends it"
    : 'a cell in quotes goes on behind its last quote; a quote within a cell is written twice ("")';

/** Tabs in .tsv; else the comma, unless the first line has only what spreadsheets write in its place. */
function separatorOf(text: string, file: string): string {
  if (/\.tsv(\.gz)?$/i.test(file)) return "\t";
  const first = text.slice(0, text.search(/\n|$/));
  return [",", ";", "\t"].find((separator) => first.includes(separator)) ?? ",";
}

function lineEnds(text: string, from: number, to: number): number {
  let count = 0;
  for (let at = text.indexOf("\n", from); at >= 0 && at < to; at = text.indexOf("\n", at + 1)) count++;
  return count;
}
