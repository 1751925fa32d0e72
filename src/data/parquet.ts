/** Parquet files, as Hugging Face datasets are stored, a group of rows at a time. The reader is loaded only when needed. */
import { UserError } from "../runtime/errors.ts";
import type { OpenFile } from "../runtime/open.ts";
import type { Row } from "./row.ts";

/** Rows that are turned into objects at once. */
const BLOCK = 1000;
/** A group of rows is read into memory, so it must fit. */
const LARGEST_GROUP = 4 * 2 ** 30;

/** @throws UserError for a file that is no Parquet, or is damaged */
export async function* parquetRows(opened: OpenFile, file: string): AsyncGenerator<Row> {
  const [{ parquetMetadataAsync, parquetReadObjects }, { compressors }] = await Promise.all([
    import("hyparquet"),
    import("hyparquet-compressors"),
  ]);
  const source = {
    byteLength: opened.size,
    async slice(start: number, end = opened.size): Promise<ArrayBuffer> {
      const from = start < 0 ? Math.max(0, opened.size + start) : start;
      const length = Math.max(0, Math.min(end, opened.size) - from);
      if (length > LARGEST_GROUP) throw new Error(`a part of ${length} bytes is too large`);
      const bytes = await opened.read(from, length);
      if (bytes.length !== length) throw new Error(`the file ends at byte ${from + bytes.length}`);
      return new Uint8Array(bytes).buffer;
    },
  };
  const damaged = (error: Error) =>
    new UserError(`${file}: not a Parquet file that can be read (${error.message})`, { cause: error });
  const metadata = await parquetMetadataAsync(source).catch((error: Error) => {
    throw damaged(error);
  });
  let first = 0;
  for (const { num_rows: rows } of metadata.row_groups) {
    const end = first + Number(rows);
    for (let at = first; at < end; at += BLOCK) {
      const rowEnd = Math.min(at + BLOCK, end);
      const block = await parquetReadObjects({ file: source, metadata, compressors, rowStart: at, rowEnd }).catch(
        (error: Error) => {
          throw damaged(error);
        },
      );
      if (block.length !== rowEnd - at) throw damaged(new Error(`row ${at + block.length + 1} is missing`));
      for (const [i, value] of block.entries()) yield { value: plain(value), where: `${file}, row ${at + i + 1}` };
    }
    first = end;
  }
}

/** Whole numbers of 64 bits as numbers, bytes as text: what a JSON file would have. */
function plain(value: unknown): unknown {
  if (typeof value === "bigint") return Number(value);
  if (value instanceof Uint8Array) return new TextDecoder().decode(value);
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== "object" || value === null || value instanceof Date) return value;
  return Object.fromEntries(Object.entries(value).map(([key, field]) => [key, plain(field)]));
}
