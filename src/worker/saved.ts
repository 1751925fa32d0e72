/**
 * A run as it is saved, in a folder of its own: `events.jsonl` as they come, the contents of its files under names that are never
 * used twice, and last of all `run.json`, which says which of these belong together. So a run is as it was at one moment, whenever
 * its worker is killed.
 */
import * as v from "valibot";
import { UserError } from "../runtime/errors.ts";
import { type Files, parseJson } from "../runtime/files.ts";
import { decode, encode } from "../runtime/typed-json.ts";
import type { RunSpec } from "./contract.ts";

const count = v.pipe(v.number(), v.integer(), v.minValue(0));
const recordSchema = v.object({
  version: v.literal(1),
  program: v.string(),
  /** As `encode` writes it. */
  input: v.string(),
  savedAt: v.number(),
  /** Events that were told by then, at least. */
  events: count,
  /** The last of them, as `encode` writes it. */
  last: v.nullable(v.string()),
  files: v.record(v.string(), v.pipe(v.string(), v.regex(/^b\d+$/))),
});

/** What is said of a run in its folder. */
export type SavedRecord = v.InferOutput<typeof recordSchema>;

/** A run as it was at one moment. */
export interface Moment {
  spec: RunSpec;
  events: readonly unknown[];
  contents: ReadonlyMap<string, Uint8Array>;
}

const RECORD = "run.json";
const EVENTS = "events.jsonl";

/** The record in a run's folder, or null where there is none. */
export async function readRecord(files: Files, folder: string): Promise<SavedRecord | null> {
  const path = `${folder}/${RECORD}`;
  const bytes = await files.read(path);
  if (!bytes) return null;
  const found = v.safeParse(recordSchema, parseJson(bytes, path));
  if (found.success) return found.output;
  throw new UserError(
    `${path} is no saved run of this version: ${v.getDotPath(found.issues[0]) ?? ""} ${found.issues[0].message}`,
  );
}

/** What a record says of its run. */
export const specOf = ({ program, input }: SavedRecord): RunSpec => ({ program, input: decode(input) });

/** The saved run of one folder. */
export class SavedFolder {
  /** Contents that are saved, by path, and under which names. */
  private readonly blobs = new Map<string, { bytes: Uint8Array; name: string }>();
  private nextName = 0;
  /** Events in the file. */
  private written = 0;
  /** The file may end in the middle of a line. */
  private torn = false;
  private readonly files: Files;
  private readonly folder: string;

  constructor(files: Files, folder: string) {
    this.files = files;
    this.folder = folder;
  }

  /** Reads what is saved; null where nothing is. */
  async load(): Promise<Moment | null> {
    const { files, folder } = this;
    const record = await readRecord(files, folder);
    if (!record) return null;
    const names = new Set(Object.values(record.files));
    for (const [path, name] of Object.entries(record.files)) {
      const bytes = await files.read(`${folder}/${name}`);
      if (!bytes)
        throw new UserError(`the saved run is damaged: ${folder}/${name} is missing. Delete it and begin anew`);
      this.blobs.set(path, { bytes, name });
    }
    for (const name of await files.list(folder)) {
      const number = /^b(\d+)$/.exec(name)?.[1];
      if (number === undefined) continue;
      this.nextName = Math.max(this.nextName, Number(number) + 1);
      if (!names.has(name)) await files.remove(`${folder}/${name}`); // of a save that was broken off
    }
    const events = await this.readEvents(record.events);
    this.written = events.length;
    this.torn = true;
    const contents = new Map([...this.blobs].map(([path, { bytes }]) => [path, bytes] as const));
    return { spec: specOf(record), events, contents };
  }

  /** The events in the order of their numbers; a line that was broken off is none. */
  private async readEvents(least: number): Promise<unknown[]> {
    const path = `${this.folder}/${EVENTS}`;
    const bytes = await this.files.read(path);
    const events: unknown[] = [];
    for (const line of new TextDecoder().decode(bytes ?? undefined).split("\n")) {
      const found = /^(\d+) (.+)$/.exec(line);
      if (!found || Number(found[1]) !== events.length) continue;
      try {
        events.push(decode(found[2]));
      } catch {
        break;
      }
    }
    if (events.length < least)
      throw new UserError(`the saved run is damaged: ${path} ends too early. Delete it and begin anew`);
    return events;
  }

  /** Saves a moment of the run. What fails leaves what was saved before. */
  async save({ spec, events, contents }: Moment): Promise<void> {
    const { files, folder } = this;
    const from = this.torn ? 0 : this.written;
    const lines = events.slice(from).map((event, i) => `${from + i} ${encode(event)}\n`);
    if (from === 0) await files.writeFile(`${folder}/${EVENTS}`, lines.join(""));
    else if (lines.length > 0) {
      this.torn = true;
      await files.append(`${folder}/${EVENTS}`, lines.join(""));
    }
    this.torn = false;
    this.written = events.length;
    const kept: Record<string, string> = {};
    for (const [path, bytes] of contents) {
      if (this.blobs.get(path)?.bytes !== bytes) {
        const name = `b${this.nextName++}`;
        await files.writeFile(`${folder}/${name}`, bytes);
        const old = this.blobs.get(path);
        this.blobs.set(path, { bytes, name });
        if (old) this.dead.add(old.name);
      }
      kept[path] = (this.blobs.get(path) as { name: string }).name;
    }
    const record: SavedRecord = {
      version: 1,
      program: spec.program,
      input: encode(spec.input),
      savedAt: Date.now(),
      events: events.length,
      last: events.length > 0 ? encode(events.at(-1)) : null,
      files: kept,
    };
    await files.writeFile(`${folder}/${RECORD}`, JSON.stringify(record));
    for (const [path, { name }] of this.blobs) {
      if (path in kept) continue;
      this.blobs.delete(path);
      this.dead.add(name);
    }
    for (const name of this.dead) {
      await files.remove(`${folder}/${name}`);
      this.dead.delete(name);
    }
  }

  /** Names of contents that no record has any more. */
  private readonly dead = new Set<string>();
}
