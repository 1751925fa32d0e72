/**
 * File formats: how a stream of bytes becomes rows. The door for further ones is `registerFormat`.
 */
import { UserError } from "../runtime/errors.ts";
import { LONGEST_JSON, readJson } from "../runtime/json.ts";
import type { OpenFile } from "../runtime/open.ts";
import { csvRows } from "./csv.ts";
import { containerRows, isContainer } from "./lmflow.ts";
import { parquetRows } from "./parquet.ts";
import type { Row, RowOptions } from "./row.ts";

/** A kind of file and how its rows are read. */
export interface FileFormat {
  name: string;
  /** Endings of file names without ".gz", e.g. ".jsonl". */
  extensions: readonly string[];
  /** The rows of a file. `bytes` is already decompressed. */
  rows?(bytes: ReadableStream<Uint8Array>, file: string, options: RowOptions): AsyncIterable<Row>;
  /** Instead, for formats that are read from several places. */
  rowsOf?(opened: OpenFile, file: string, options: RowOptions): AsyncIterable<Row>;
}

const formats: FileFormat[] = [];

/** Adds a file format; one registered later wins over an earlier one with the same extension. */
export function registerFormat(format: FileFormat): void {
  formats.unshift(format);
}

/** Whether a file's name says that it holds rows in a known format. */
export const isDataFile = (file: string): boolean =>
  formats.some(({ extensions }) =>
    extensions.some((extension) => file.replace(/\.gz$/i, "").toLowerCase().endsWith(extension)),
  );

/** The format of a file by its name, or by the name the user gave ("jsonl"). */
export function formatOf(file: string, name?: string): FileFormat {
  const plain = file.replace(/\.gz$/i, "").toLowerCase();
  const found = formats.find((format) =>
    name ? format.name === name : format.extensions.some((extension) => plain.endsWith(extension)),
  );
  if (found) return found;
  const known = formats.map((format) => `${format.name} (${format.extensions.join(", ")})`).join("; ");
  throw new UserError(`${file}: ${name ? `unknown format "${name}"` : "unknown kind of file"}; known are ${known}`);
}

registerFormat({ name: "text", extensions: [".txt", ".text", ".md"], rows: textRows });
registerFormat({ name: "csv", extensions: [".csv", ".tsv"], rows: tableRows });
registerFormat({ name: "json", extensions: [".json"], rows: jsonRows });
registerFormat({ name: "parquet", extensions: [".parquet"], rowsOf: parquetRows });
registerFormat({ name: "jsonl", extensions: [".jsonl", ".ndjson"], rows: jsonlRows });

async function* jsonlRows(bytes: ReadableStream<Uint8Array>, file: string): AsyncGenerator<Row> {
  for await (const { text, line } of textLines(bytes, file)) {
    if (text.trim() !== "") yield parseLine(text, `${file}:${line}`);
  }
}

const parseLine = (text: string, where: string): Row => ({ value: readJson(text, where), where });

/** A list of rows, or LMFlow's container. Many files called .json hold one row per line instead: they are read as such. */
async function* jsonRows(bytes: ReadableStream<Uint8Array>, file: string): AsyncGenerator<Row> {
  const lines: { text: string; line: number }[] = [];
  let length = 0;
  for await (const line of textLines(bytes, file)) {
    length += line.text.length + 1;
    if (length > LONGEST_JSON) {
      // What begins with whole rows need not be held at once.
      if (lines.length === 0 || !isRow(lines[0].text)) {
        throw new UserError(
          `${file}: a JSON list of more than ${LONGEST_JSON} characters cannot be read as a whole: write it as JSON lines, ` +
            `one row a line, for example with jq -c '.[]' ${file} > rows.jsonl`,
        );
      }
      for (const { text, line } of lines.splice(0)) if (text.trim() !== "") yield parseLine(text, `${file}:${line}`);
      length = 0;
    }
    lines.push(line);
  }
  const text = lines.map((line) => line.text).join("\n");
  if (text.trim() === "") return;
  let json: unknown;
  try {
    json = readJson(text, file);
  } catch (error) {
    if (!lines.some(({ text }) => text.trim() !== "") || !isRow(lines[0].text) || lines.length < 2) throw error;
    for (const { text, line } of lines) if (text.trim() !== "") yield parseLine(text, `${file}:${line}`);
    return;
  }
  if (isContainer(json)) {
    yield* containerRows(json, file);
    return;
  }
  // A single row, written on one line, is a file of one row.
  const rows = Array.isArray(json) ? json : [json];
  for (const [i, value] of rows.entries()) yield { value, where: `${file}, row ${i + 1}` };
}

/** Whether a line looks like a whole row. */
const isRow = (line: string): boolean => /^\s*\{.*\}\s*$/.test(line);

async function* textRows(bytes: ReadableStream<Uint8Array>, file: string, options: RowOptions): AsyncGenerator<Row> {
  let lines: string[] = [];
  let start = 1;
  for await (const { text, line } of textLines(bytes, file)) {
    if (options.textSplit !== "whole" && text.trim() === "") {
      if (lines.length > 0) yield { value: { text: lines.join("\n") }, where: `${file}:${start}` };
      lines = [];
    } else {
      if (lines.length === 0) start = line;
      lines.push(text);
    }
  }
  const rest = lines.join("\n");
  if (rest.trim() !== "") yield { value: { text: rest }, where: `${file}:${start}` };
}

async function* tableRows(bytes: ReadableStream<Uint8Array>, file: string): AsyncGenerator<Row> {
  const decoder = new TextDecoder("utf-8", { fatal: true });
  const parts: string[] = [];
  try {
    let length = 0;
    for await (const chunk of chunksOf(bytes)) {
      length += chunk.length;
      if (length > LONGEST_JSON) {
        throw new UserError(`${file}: a table of more than ${LONGEST_JSON} bytes: cut it into several files`);
      }
      parts.push(decoder.decode(chunk, { stream: true }));
    }
    parts.push(decoder.decode());
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    throw new UserError(`${file}: not UTF-8 text (at line ${parts.join("").split("\n").length} or soon after)`);
  }
  yield* csvRows(parts.join(""), file);
}

/**
 * Says which line is no UTF-8.
 * @param line the one that is open where the bytes begin
 */
function notUtf8(file: string, line: number, bytes: Uint8Array = new Uint8Array()): UserError {
  let at = line;
  for (let start = 0; start < bytes.length; at++) {
    const end = bytes.indexOf(10, start);
    const text = bytes.subarray(start, end < 0 ? bytes.length : end);
    // The first line may begin within a character, the last one end in one.
    const first = at === line ? text.findIndex((byte) => byte < 0x80 || byte > 0xbf) : 0;
    try {
      new TextDecoder("utf-8", { fatal: true }).decode(text.subarray(Math.max(0, first)), { stream: end < 0 });
    } catch {
      break;
    }
    if (end < 0) break;
    start = end + 1;
  }
  return new UserError(
    `${file}:${at}: not UTF-8 text; if it is Latin-1, convert it: iconv -f latin1 -t utf-8 ${file} > converted`,
  );
}

/** The lines of UTF-8 text, without their line ends, numbered from 1. */
async function* textLines(
  bytes: ReadableStream<Uint8Array>,
  file: string,
): AsyncGenerator<{ text: string; line: number }> {
  const decoder = new TextDecoder("utf-8", { fatal: true });
  let line = 1;
  const decode = (chunk?: Uint8Array) => {
    try {
      return chunk ? decoder.decode(chunk, { stream: true }) : decoder.decode();
    } catch {
      throw notUtf8(file, line, chunk);
    }
  };
  // Pieces of a line that has not ended yet; joined once, so that a very long line costs no more than its length.
  let open: string[] = [];
  let length = 0;
  for await (const chunk of chunksOf(bytes)) {
    const parts = decode(chunk).split("\n");
    for (let i = 0; i < parts.length; i++) {
      open.push(parts[i]);
      length += parts[i].length;
      if (length > LONGEST_JSON) {
        throw new UserError(
          `${file}:${line}: a line of more than ${LONGEST_JSON} characters: is this one file of JSON rather than of lines?`,
        );
      }
      if (i === parts.length - 1) break;
      yield { text: withoutReturn(open.join("")), line: line++ };
      open = [];
      length = 0;
    }
  }
  open.push(decode());
  const last = open.join("");
  if (last !== "") yield { text: withoutReturn(last), line };
}

function withoutReturn(text: string): string {
  return text.endsWith("\r") ? text.slice(0, -1) : text;
}

/** The chunks of a stream; not every browser can iterate over one. Leaving the loop early closes the stream. */
async function* chunksOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<Uint8Array> {
  const reader = stream.getReader();
  let done = false;
  try {
    for (;;) {
      const result = await reader.read();
      done = result.done;
      if (result.done) return;
      yield result.value;
    }
  } finally {
    if (!done) await reader.cancel().catch(() => {});
  }
}

/** Text shrinks to a tenth or so; what grows more than this, beyond what is harmless anyway, was made to fill memory. */
const MOST_EXPANSION = 300;
const MOST_UNSEEN = 2 ** 28;

/** The stream itself, decompressed when its first bytes say gzip. */
export async function decompressed(
  stream: ReadableStream<Uint8Array>,
  file: string,
): Promise<ReadableStream<Uint8Array>> {
  const chunks = chunksOf(stream);
  // The mark is two bytes, and a first chunk may be shorter.
  const start: Uint8Array[] = [];
  while (start.reduce((n, chunk) => n + chunk.length, 0) < 2) {
    const next = await chunks.next();
    if (next.done) break;
    start.push(next.value);
  }
  const [a, b] = start.flatMap((chunk) => [...chunk.subarray(0, 2)]);
  let read = 0;
  const whole = new ReadableStream<Uint8Array<ArrayBuffer>>({
    async pull(controller) {
      const chunk = start.shift() ?? (await chunks.next()).value;
      read += chunk?.length ?? 0;
      if (chunk) controller.enqueue(chunk as Uint8Array<ArrayBuffer>);
      else controller.close();
    },
    async cancel() {
      await chunks.return(undefined);
    },
  });
  if (a !== 0x1f || b !== 0x8b) return whole;
  const inflated = chunksOf(whole.pipeThrough(new DecompressionStream("gzip")));
  let size = 0;
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      const next = await inflated.next().catch((error: Error) => {
        throw new UserError(`${file}: damaged or truncated gzip data (${error.message})`, { cause: error });
      });
      if (next.done) return controller.close();
      size += next.value.length;
      if (size > MOST_UNSEEN && size > MOST_EXPANSION * read) {
        throw new UserError(
          `${file}: its gzip data grows to more than ${MOST_EXPANSION} times its size: this is no dataset`,
        );
      }
      controller.enqueue(next.value);
    },
    async cancel() {
      await inflated.return(undefined);
    },
  });
}
