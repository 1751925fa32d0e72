/** Results that a trainer has accepted, on its own disk: it asks for none of them again, whatever becomes of the server. */
import { fromBase64, toBase64 } from "../runtime/base64.ts";
import type { Files } from "../runtime/files.ts";
import { readText } from "../runtime/json-files.ts";
import { join } from "../runtime/paths.ts";
import type { ReadResult } from "./wire.ts";

/** Iterations whose results are kept, for a run that goes on from an older checkpoint. */
const KEPT = 64;
/** In place of a result that counts no more. */
const DROPPED = "-";

/** A folder with a file for each iteration; a line is a job's key and its result. What a killed run has cut is left out. */
export class ResultRecord {
  private readonly files: Files;
  private readonly folder: string;
  private readonly read = new Map<number, Map<string, Uint8Array>>();
  private writing: Promise<void> = Promise.resolve();

  constructor(files: Files, folder: string) {
    this.files = files;
    this.folder = folder;
  }

  /** The result of a job, or null where there is none, or a damaged one. */
  async get<R>(iteration: number, key: string, decode: (bytes: Uint8Array) => ReadResult<R>): Promise<R | null> {
    let rows = this.read.get(iteration);
    if (!rows) {
      rows = new Map();
      const text = await readText(this.files, this.path(iteration));
      for (const line of text?.split("\n").slice(0, -1) ?? []) {
        const [key, base64] = line.split(" ");
        const bytes = base64 === undefined || base64 === DROPPED ? null : fromBase64(base64);
        if (bytes) rows.set(key, bytes);
        else rows.delete(key);
      }
      this.read.set(iteration, rows);
    }
    const bytes = rows.get(key);
    if (!bytes) return null;
    try {
      const read = decode(bytes);
      return "result" in read ? read.result : null;
    } catch {
      return null;
    }
  }

  /** On the disk when the promise resolves, as far as the operating system is concerned. */
  add(iteration: number, key: string, bytes: Uint8Array): Promise<void> {
    return this.write(iteration, `${key} ${toBase64(bytes)}\n`);
  }

  private write(iteration: number, line: string): Promise<void> {
    const written = this.writing.then(() => this.files.append(this.path(iteration), line));
    this.writing = written.catch(() => {}); // whoever added it hears of it
    return written;
  }

  /** Forgets a result. */
  drop(iteration: number, key: string): Promise<void> {
    return this.write(iteration, `${key} ${DROPPED}\n`);
  }

  /** Removes what is older than the kept iterations. */
  async trim(iteration: number): Promise<void> {
    for (const known of this.read.keys()) if (known < iteration) this.read.delete(known);
    for (const name of await this.files.list(this.folder)) {
      const found = /^(\d+)\.results$/.exec(name);
      if (found && Number(found[1]) <= iteration - KEPT) await this.files.remove(join(this.folder, name));
    }
  }

  private path = (iteration: number): string => join(this.folder, `${iteration}.results`);
}
