/** A run as one zip file, and back: from anybody, so nothing that it says is believed. */
import * as v from "valibot";
import { isUserError, UserError } from "../runtime/errors.ts";
import { memoryFiles, parseJson } from "../runtime/files.ts";
import { decode, encode } from "../runtime/typed-json.ts";
import { unzipFiles } from "../runtime/unzip.ts";
import { zipFiles } from "../runtime/zip.ts";
import type { Moment } from "./saved.ts";

const RECORD = "webrlhf-run.json";
const EVENTS = "events.jsonl";
const FILES = "files/";

/** Bytes that the files of a snapshot may have, unpacked: they are held in memory. */
const MOST_BYTES = 2 ** 31;
/** Bytes of all events. */
const MOST_EVENTS = 2 ** 28;
const MOST_FILES = 10_000;

const recordSchema = v.object({
  version: v.literal(1),
  program: v.pipe(v.string(), v.maxLength(200)),
  input: v.unknown(),
  events: v.pipe(v.number(), v.integer(), v.minValue(0)),
  done: v.boolean(),
});

/** A run, and whether it has come to its end. */
export interface Snapshot extends Moment {
  done: boolean;
}

/**
 * Packs a run.
 * @param besides texts that `fromZip` does not read, by their paths
 * @throws UserError where one of them has the place of what it reads
 */
export async function toZip(
  { spec, events, contents, done }: Snapshot,
  besides: Readonly<Record<string, string>> = {},
): Promise<Blob> {
  for (const path of Object.keys(besides)) {
    if (path === RECORD || path === EVENTS || `${path}/`.startsWith(FILES))
      throw new UserError(`${path} cannot be packed with a run: that is the name of a part of it`);
  }
  const store = new Map([...contents].map(([path, bytes]) => [FILES + path, bytes] as const));
  const files = memoryFiles(store);
  const record = {
    version: 1,
    program: spec.program,
    input: JSON.parse(encode(spec.input)),
    events: events.length,
    done,
  };
  await files.writeFile(RECORD, `${JSON.stringify(record, null, 2)}\n`);
  await files.writeFile(EVENTS, events.map((event) => `${encode(event)}\n`).join(""));
  for (const [path, content] of Object.entries(besides)) await files.writeFile(path, content);
  return zipFiles(files, [...Object.keys(besides), RECORD, EVENTS, ...(contents.size > 0 ? [FILES.slice(0, -1)] : [])]);
}

/**
 * Reads a snapshot.
 * @throws UserError where it is none, is damaged, or is too large
 */
export async function fromZip(blob: Blob): Promise<Snapshot> {
  const files = await unzipFiles(blob, { maxFiles: MOST_FILES, maxBytes: MOST_BYTES, maxCompressed: MOST_EVENTS });
  const bytes = await files.read(RECORD);
  if (!bytes) throw new UserError(`this zip file is no snapshot of a run: ${RECORD} is missing`);
  const found = v.safeParse(recordSchema, parseJson(bytes, RECORD));
  if (!found.success) {
    const [issue] = found.issues;
    throw new UserError(`${RECORD} is no snapshot of this version: ${v.getDotPath(issue) ?? ""} ${issue.message}`);
  }
  const { program, input, events: count, done } = found.output;
  const lines = new TextDecoder().decode((await files.read(EVENTS)) ?? undefined).split("\n");
  lines.pop();
  if (lines.length !== count) throw new UserError(`${EVENTS} has ${lines.length} events, and ${RECORD} says ${count}`);
  const events = lines.map((line, i) => decoded(line, `${EVENTS} line ${i + 1}`));
  const contents = new Map<string, Uint8Array>();
  const collect = async (folder: string): Promise<void> => {
    for (const name of await files.list(folder)) {
      const path = `${folder}/${name}`;
      const content = await files.read(path);
      if (content) contents.set(path.slice(FILES.length), content);
      else await collect(path);
    }
  };
  await collect(FILES.slice(0, -1));
  return { spec: { program, input: decoded(JSON.stringify(input ?? null), RECORD) }, events, contents, done };
}

function decoded(text: string, where: string): unknown {
  try {
    return decode(text);
  } catch (cause) {
    throw new UserError(`${where} is damaged: ${isUserError(cause) ? cause.message : "it is too deep"}`, { cause });
  }
}
