/** Reading datasets: file formats (formats.ts) and row schemas (schemas.ts) put together. */
import { UserError } from "../runtime/errors.ts";
import { bytesFile, hasDisk, type OpenFile, openFile, openStream, streamOf, urlFile } from "../runtime/open.ts";
import { permutation, streamId } from "../runtime/rng.ts";
import { columnNames, renamed } from "./columns.ts";
import { decompressed, formatOf } from "./formats.ts";
import { isMessages } from "./messages.ts";
import { Reasons } from "./reasons.ts";
import { type DataRecord, lastTurn, type Preference, type RecordKind, type RecordOf } from "./records.ts";
import type { Row, RowOptions } from "./row.ts";
import { type Columns, columnsOf, type RowSchema, type SchemaOptions, schemaOf } from "./schemas.ts";

export { type FileFormat, registerFormat } from "./formats.ts";
export type { Row } from "./row.ts";
export { type Columns, type RowSchema, registerSchema } from "./schemas.ts";

/**
 * A path (in a browser a URL), or anything with a name and either a stream of bytes, such as a browser's File, or a way to be
 * opened for reading at any offset.
 */
export type DataSource =
  | string
  | { name: string; stream(): ReadableStream<Uint8Array> }
  | { name: string; open(): Promise<OpenFile> };

/** How dataset files are read. */
export interface ReadOptions extends RowOptions, SchemaOptions {
  /** Name of the file format when the file's name does not tell. */
  format?: string;
  /** Columns that are called otherwise: `prompt=question` takes prompts from the column question. */
  column?: readonly string[] | null | undefined;
  /** Read at most this many records. */
  limit?: number;
  /** Told about every row that is left out, and why. */
  onSkip?: (where: string, reason: string) => void;
}

/** A record and the row it was made of. */
export interface Entry {
  row: Row;
  record: DataRecord;
}

/**
 * The records of a JSON, JSONL, Parquet or text file, compressed with gzip or not.
 * @throws UserError naming file and line: malformed JSON, missing columns, values of the wrong type, an empty dataset
 */
export async function* readRecords(source: DataSource, options: ReadOptions = {}): AsyncGenerator<DataRecord> {
  for await (const { record } of readEntries([source], options)) yield record;
}

/** The records of several files that are one dataset, with their rows. LMFlow's containers must be of one type. */
export async function* readEntries(sources: readonly DataSource[], options: ReadOptions = {}): AsyncGenerator<Entry> {
  let limit = options.limit ?? Number.POSITIVE_INFINITY;
  let first: { type: string; name: string } | undefined;
  for (const source of sources) {
    const name = typeof source === "string" ? source : source.name;
    for await (const entry of entriesOf(readRows(source, options), name, { ...options, limit })) {
      const type = entry.row.schema?.name ?? "untyped";
      first ??= { type, name };
      if (first.type !== type) {
        throw new UserError(
          `${name} is ${type}, but ${first.name} is ${first.type}: a dataset's files must be of one type`,
        );
      }
      limit--;
      yield entry;
    }
    if (limit <= 0) return;
  }
}

/**
 * Rows as records. Rows that bring no schema have that of the first one's columns.
 * @param name of the dataset, for messages
 */
export async function* entriesOf(
  found: AsyncIterable<Row>,
  name: string,
  options: ReadOptions = {},
): AsyncGenerator<Entry> {
  const limit = options.limit ?? Number.POSITIVE_INFINITY;
  const names = columnNames(options.column ?? []);
  const known = names.map(([name]) => name);
  let common: RowSchema | undefined;
  let rows = 0;
  let records = 0;
  const reasons = new Reasons();
  for await (const source of renamed(found, names)) {
    if (records >= limit) return;
    const { value, where } = source;
    rows++;
    if (typeof value !== "object" || value === null || Array.isArray(value)) {
      throw new UserError(
        `${where}: a row must be an object with columns, this is ${JSON.stringify(value).slice(0, 60)}`,
      );
    }
    const row = value as Columns;
    const schema = source.schema ?? common ?? schemaOf(row, where, known);
    common ??= schema;
    const columns = columnsOf(row);
    const missing = schema.columns.find((column) => !columns.includes(column));
    if (missing !== undefined) {
      throw new UserError(`${where}: column "${missing}" is missing (found: ${columns.join(", ") || "none"})`);
    }
    const made = schema.read(row, where, options);
    if ("skip" in made) {
      reasons.add(made.skip);
      options.onSkip?.(where, made.skip);
    } else {
      for (const record of [made].flat().slice(0, limit - records)) {
        records++;
        yield { row: source, record };
      }
    }
  }
  if (rows === 0) throw new UserError(`${name}: the dataset is empty`);
  if (records === 0) throw new UserError(`${name}: none of its ${rows} rows can be used: ${reasons}`);
}

/** The rows of a file as they are, before anything is made of their columns. */
export async function* readRows(
  source: DataSource,
  options: RowOptions & { format?: string } = {},
): AsyncGenerator<Row> {
  const name = typeof source === "string" ? source : source.name;
  const format = formatOf(name, options.format);
  if (format.rows) {
    yield* format.rows(await decompressed(await streamed(source), name), name, options);
  } else if (format.rowsOf) {
    const opened = await openedAt(source);
    try {
      yield* format.rowsOf(opened, name, options);
    } finally {
      await opened.close();
    }
  }
}

async function streamed(source: DataSource): Promise<ReadableStream<Uint8Array>> {
  if (typeof source === "string") return openStream(source);
  return "open" in source ? streamOf(await source.open()) : source.stream();
}

async function openedAt(source: DataSource): Promise<OpenFile> {
  if (typeof source === "string") return openAt(source);
  return "open" in source ? source.open() : bytesFile(await collected(source.stream()));
}

async function openAt(path: string): Promise<OpenFile> {
  const opened = hasDisk ? await openFile(path) : await urlFile(path);
  if (!opened) throw new UserError(`cannot read ${path}: no such file`);
  return opened;
}

async function collected(stream: ReadableStream<Uint8Array>): Promise<Uint8Array> {
  return new Uint8Array(await new Response(stream as ReadableStream<Uint8Array<ArrayBuffer>>).arrayBuffer());
}

/**
 * All records of a file as the kind a trainer needs. A richer record serves a simpler need: of a preference the chosen
 * answer is a completion, and whatever has a prompt is a prompt; a text is a prompt as a whole.
 * @throws UserError when the file holds another kind
 */
export async function loadRecords<K extends RecordKind>(
  source: DataSource,
  kind: K,
  options: ReadOptions = {},
): Promise<RecordOf<K>[]> {
  const records: RecordOf<K>[] = [];
  for await (const record of readRecords(source, options)) {
    records.push(mustBe(record, kind));
  }
  return records;
}

/** The record as another kind. @throws UserError if it has not what that takes */
export function mustBe<K extends RecordKind>(record: DataRecord, kind: K): RecordOf<K> {
  const converted = asKind(record, kind);
  if (converted) return converted;
  throw new UserError(`${record.where}: this is a ${label(record.kind)}, but a ${label(kind)} is needed`);
}

/** A pair that says which of its answers are safe. @throws UserError if the record does not */
export function mustBeSafetyPair(record: DataRecord): Preference {
  const pair = mustBe(record, "preference");
  if (pair.safety) return pair;
  throw new UserError(
    `${pair.where ?? "a pair"}: it does not say which of its answers are safe: the columns "chosen_is_safe" and ` +
      '"rejected_is_safe" are needed, and the safer answer as "chosen"',
  );
}

/** Messages, or LMFlow's object around them. */
const holdsMessages = (value: unknown): boolean =>
  isMessages(value) || isMessages((value as { messages?: unknown } | null | undefined)?.messages);

/** @throws UserError if the record was not made of messages: then nothing tells what the assistant says in it */
export function mustBeConversation(record: DataRecord): void {
  const written = record.kind !== "text" && record.rendered;
  const marked = record.kind === "prompt_completion" && record.answers;
  if (written || marked || Object.values(record.row ?? {}).some(holdsMessages)) return;
  const { where = "a record", kind } = record;
  const way =
    kind === "text"
      ? "leave it off, and all of a text is learned"
      : "leave it off: of a prompt and an answer only the answer is learned anyway";
  throw new UserError(
    `${where}: this is a ${label(kind)}, in strings, and assistant_only_loss (assistantOnlyLoss) needs messages, which say ` +
      `who speaks; ${way}`,
  );
}

/** The record as another kind, or undefined if it has not what that takes. */
export function asKind<K extends RecordKind>(record: DataRecord, kind: K): RecordOf<K> | undefined {
  const convert = (): DataRecord | undefined => {
    const { where, row } = record;
    const origin = { where, ...(row && { row }) };
    if (record.kind === kind) return record;
    if (kind === "prompt" && record.kind === "prompt_completion") {
      const { prompt, completion } = lastTurn(record);
      return { kind: "prompt", prompt, target: completion, ...rendered(record), ...origin };
    }
    if (kind === "prompt")
      return {
        kind: "prompt",
        prompt: record.kind === "text" ? record.text : record.prompt,
        ...rendered(record),
        ...origin,
      };
    if (kind === "prompt_completion" && record.kind === "preference") {
      return {
        kind: "prompt_completion",
        prompt: record.prompt,
        completion: record.chosen,
        ...rendered(record),
        ...origin,
      };
    }
    if (kind === "text" && record.kind === "prompt_completion") {
      return { kind: "text", text: record.prompt + record.completion, ...origin };
    }
    if (kind === "text" && record.kind === "preference")
      return { kind: "text", text: record.prompt + record.chosen, ...origin };
    return undefined;
  };
  return convert() as RecordOf<K> | undefined;
}

const rendered = (record: DataRecord) => ("rendered" in record && record.rendered ? { rendered: true } : {});

function label(kind: RecordKind): string {
  return {
    text: "text",
    prompt: "prompt",
    prompt_completion: "prompt with a completion",
    preference: "preference pair (chosen and rejected)",
    labelled: "completion with a label",
  }[kind];
}

/** A random order of 0..n-1 by seed. */
export function shuffled(n: number, seed: number): Uint32Array {
  return permutation(n, seed, streamId("shuffled"));
}

/**
 * Splits records by seed. Records with the same prompt (or text) stay together, so nothing that is tested was trained on.
 * @param testShare the share of different prompts that goes to the test set, at least one when the share is positive
 */
export function splitRecords<R extends DataRecord>(
  records: readonly R[],
  testShare: number,
  seed: number,
): { train: R[]; test: R[] } {
  if (!(testShare >= 0 && testShare < 1))
    throw new UserError(`the test share must be at least 0 and below 1, not ${testShare}`);
  const keyOf = (record: DataRecord) => (record.kind === "text" ? record.text : record.prompt);
  const keys = [...new Set(records.map(keyOf))];
  const count = testShare === 0 ? 0 : Math.max(1, Math.round(keys.length * testShare));
  if (count >= keys.length && count > 0)
    throw new UserError(`${keys.length} different prompts are too few to split off a test set`);
  const held = new Set(
    Array.from(permutation(keys.length, seed, streamId("split")).subarray(0, count), (i) => keys[i]),
  );
  const train: R[] = [];
  const test: R[] = [];
  for (const record of records) (held.has(keyOf(record)) ? test : train).push(record);
  return { train, test };
}
