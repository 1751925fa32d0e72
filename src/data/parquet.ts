/** Parquet files, as Hugging Face datasets are stored, a group of rows at a time. */
import { UserError } from "../runtime/errors.ts";
import type { OpenFile } from "../runtime/open.ts";
import { rowsOf } from "./parquet/assemble.ts";
import { readFooter } from "./parquet/footer.ts";
import { type ColumnData, readColumn } from "./parquet/pages.ts";
import type { Row } from "./row.ts";

/** Bytes of a group of rows, which is read into memory as a whole. */
const LARGEST_GROUP = 4 * 2 ** 30;

/** @throws UserError for a file that is no Parquet, or is damaged: with its column and group of rows */
export async function* parquetRows(opened: OpenFile, file: string): AsyncGenerator<Row> {
  const damaged = (what: unknown, where = ""): UserError => {
    const reason = what instanceof Error ? what.message : String(what);
    return new UserError(`${file}: not a Parquet file that can be read (${where}${reason})`, { cause: what });
  };
  const { root, groups } = await readFooter(opened).catch((error) => {
    throw damaged(error);
  });
  let first = 0;
  for (const [at, { rows, chunks }] of groups.entries()) {
    const bytes = chunks.reduce((sum, chunk) => sum + chunk.length, 0);
    if (bytes > LARGEST_GROUP) throw damaged(`row group ${at + 1} has ${bytes} bytes, which is too large`);
    const columns: ColumnData[] = [];
    for (const [i, chunk] of chunks.entries()) {
      const leaf = root.leaves[i];
      try {
        columns.push(await readColumn(await opened.read(chunk.start, chunk.length), leaf, chunk, rows));
      } catch (error) {
        throw damaged(error, `column ${leaf.path}, row group ${at + 1}: `);
      }
    }
    const values = rowsOf(
      root,
      columns,
      chunks.map((chunk) => chunk.values),
      rows,
    );
    for (let row = first; ; row++) {
      let next: IteratorResult<unknown>;
      try {
        next = values.next();
      } catch (error) {
        throw damaged(error, `row group ${at + 1}, row ${row + 1}: `);
      }
      if (next.done) break;
      yield { value: next.value, where: `${file}, row ${row + 1}` };
    }
    first += rows;
  }
}
