/**
 * A run as one JSON file that a page replays: curves, samples and settings, no model. It comes from anybody, so what is read is
 * bounded and checked, and an error names the file with the line or the key.
 */
import * as v from "valibot";
import { UserError } from "../runtime/errors.ts";
import { readJson } from "../runtime/json.ts";

/** The mark of a recording, with the version of its form. */
export const RECORDING_FORMAT = "webrlhf recording 1";

/** Bounds of a recording: what holds more is refused. */
export const recordingLimits = {
  /** Bytes of a recording, or of a table that one is made of. */
  bytes: 2 ** 26,
  runs: 64,
  /** Rows of metrics, and samples, of one run. */
  rows: 10_000,
  samples: 1_000,
  /** Numbers in a row, and settings of a run. */
  keys: 400,
  /** Characters of a name, and of a text. */
  name: 200,
  text: 10_000,
} as const;

/** A row of metrics.jsonl: `step`, and numbers by name; null where one was not finite. */
export type RecordedMetrics = Record<string, number | null>;

/** A sample in a recording, with the step after which it was taken. */
export interface RecordedSample {
  step: number;
  prompt: string;
  response: string;
  reward?: number | null | undefined;
  gold?: number | null | undefined;
}

/** One training in a recording. */
export interface RecordedRun {
  name: string;
  title: string;
  /** The method; null: nobody said. */
  verb: string | null;
  settings: Record<string, unknown>;
  metrics: RecordedMetrics[];
  /** Rows that the run logged: of very long ones every so many-th is here. */
  logged: number;
  samples: RecordedSample[];
}

/** A run, or the stages of a recipe, to be replayed. */
export interface Recording {
  format: typeof RECORDING_FORMAT;
  title: string;
  /** The version that made it; null: nobody said. */
  webrlhf: string | null;
  /** The adapter that computed; null: nobody said. */
  adapter: string | null;
  runs: RecordedRun[];
}

const { runs, rows, samples, keys, name: nameLength, text: textLength } = recordingLimits;

const few = <T>(schema: v.GenericSchema<unknown, T>, most: number, what: string) =>
  v.pipe(v.array(schema), v.maxLength(most, `has more than ${most} ${what}`));
const table = <T>(schema: v.GenericSchema<unknown, T>, what: string) =>
  v.pipe(
    v.record(
      v.pipe(v.string(), v.maxLength(nameLength, `is a name of more than ${nameLength} characters`)),
      schema,
      "is no object",
    ),
    v.check((record) => Object.keys(record).length <= keys, `has more than ${keys} ${what}`),
  );
const name = v.pipe(v.string("is no text"), v.maxLength(nameLength, `has more than ${nameLength} characters`));
const text = v.pipe(v.string("is no text"), v.maxLength(textLength, `has more than ${textLength} characters`));
const number = v.pipe(v.number("is no number"), v.finite("is not finite"));
const step = v.pipe(number, v.minValue(0, "is below 0"));

const metricsSchema = v.pipe(
  table(v.nullable(number, null), "numbers"),
  v.check((row) => v.is(step, row.step), "has no step"),
);

const sampleSchema = v.object(
  {
    step,
    prompt: text,
    response: text,
    reward: v.optional(v.nullable(number)),
    gold: v.optional(v.nullable(number)),
  },
  "is no object",
);

const runSchema = v.object({
  name,
  title: name,
  verb: v.nullable(name),
  settings: table(v.unknown(), "settings"),
  metrics: few(metricsSchema, rows, "rows"),
  logged: v.pipe(v.number(), v.integer(), v.minValue(0)),
  samples: few(sampleSchema, samples, "samples"),
});

const recordingSchema: v.GenericSchema<unknown, Recording> = v.object({
  format: v.literal(RECORDING_FORMAT, `is not "${RECORDING_FORMAT}"`),
  title: name,
  webrlhf: v.nullable(name),
  adapter: v.nullable(name),
  runs: v.pipe(few(runSchema, runs, "runs"), v.minLength(1, "is empty")),
});

/**
 * Reads a recording.
 * @param where what it is called, for errors
 * @throws UserError naming the key that is wrong
 */
export function readRecording(content: string, where: string): Recording {
  checkSize(content.length, where);
  return checked(recordingSchema, readJson(content, where), where);
}

/** A recording as a file's text. */
export const recordingText = (recording: Recording): string => `${JSON.stringify(recording)}\n`;

/** Tables that a recorded run is made of, of any length. */
export type RunTables = Pick<RecordedRun, "name" | "metrics"> & Partial<RecordedRun>;

/**
 * Makes a recording of tables as runs leave them. Of long ones every so many-th row is taken.
 * @param where what they were read from, for errors
 * @throws UserError where they are more, or larger, than a recording holds
 */
export function recordingOf(
  { runs, ...given }: Partial<Omit<Recording, "runs">> & { runs: readonly RunTables[] },
  where: string,
): Recording {
  const recording = {
    ...{ format: RECORDING_FORMAT, title: runs[0]?.name, webrlhf: null, adapter: null },
    ...given,
    runs: runs.map((run) => ({
      ...{ title: run.name, verb: null, settings: {}, logged: run.metrics.length },
      ...run,
      metrics: thinned(run.metrics, recordingLimits.rows),
      samples: thinned(run.samples ?? [], recordingLimits.samples),
    })),
  };
  return checked(recordingSchema, recording, where);
}

/**
 * The rows of a metrics.jsonl. Blank lines, and a last line that a kill cut short, are none.
 * @throws UserError naming the line that is no such row
 */
export const readMetrics = (content: string, where: string): RecordedMetrics[] => rowsOf(content, where, metricsOf);

/**
 * The rows of a samples.jsonl, likewise; long texts are cut.
 * @throws UserError naming the line that is no such row
 */
export const readSamples = (content: string, where: string): RecordedSample[] => rowsOf(content, where, sampleOf);

/** A row of metrics: what is not finite is null. @throws UserError where it is none */
export const metricsOf = (row: unknown, where: string): RecordedMetrics =>
  checked(metricsSchema, mapped(row, shownNumber), where);

/** A sample, its texts cut to size. @throws UserError where it is none */
export const sampleOf = (row: unknown, where: string): RecordedSample =>
  checked(
    sampleSchema,
    mapped(row, (value, key) => (isText(key) ? shortened(value) : shownNumber(value))),
    where,
  );

function rowsOf<T>(content: string, where: string, read: (row: unknown, where: string) => T): T[] {
  checkSize(content.length, where);
  const lines = content.split("\n");
  const found: T[] = [];
  for (const [i, line] of lines.entries()) {
    const place = `${where} line ${i + 1}`;
    if (line.trim() === "") continue;
    try {
      found.push(read(readJson(line, place), place));
    } catch (error) {
      if (i < lines.length - 1 || found.length === 0) throw error;
    }
  }
  if (found.length === 0) throw new UserError(`${where} has no rows: nothing was logged`);
  return found;
}

const mapped = (row: unknown, change: (value: unknown, key: string) => unknown): unknown =>
  typeof row === "object" && row !== null && !Array.isArray(row)
    ? Object.fromEntries(Object.entries(row).map(([key, value]) => [key, change(value, key)]))
    : null;

const isText = (key: string): boolean => key === "prompt" || key === "response";
const shortened = (value: unknown): unknown =>
  typeof value === "string" && value.length > textLength ? `${value.slice(0, textLength - 1)}…` : value;

/** Numbers that are not finite stand in files by name. */
const shownNumber = (value: unknown): unknown =>
  value === "NaN" ||
  value === "Infinity" ||
  value === "-Infinity" ||
  (typeof value === "number" && !Number.isFinite(value))
    ? null
    : value;

/** Every so many-th row, so that few enough are left, and the last. */
function thinned<T>(all: readonly T[], most: number): T[] {
  const every = Math.ceil(all.length / most);
  return every <= 1 ? [...all] : all.filter((_, i) => i % every === every - 1 || i === all.length - 1);
}

/** @throws UserError where a file is larger than any recording */
export function checkSize(size: number, where: string): void {
  if (size <= recordingLimits.bytes) return;
  throw new UserError(`${where} is larger than ${recordingLimits.bytes / 2 ** 20} MiB: it is no recording`);
}

function checked<T>(schema: v.GenericSchema<unknown, T>, value: unknown, where: string): T {
  const { success, output, issues } = v.safeParse(schema, value);
  if (success) return output;
  const place = v.getDotPath(issues[0])?.slice(0, 120);
  throw new UserError(`${where}: ${place ? `${place} ` : ""}${issues[0].message.slice(0, 200)}`);
}
