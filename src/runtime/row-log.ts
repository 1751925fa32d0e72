/** Rows that come in any order and are kept from the moment they come. */
import type { Files } from "./files.ts";
import { readText } from "./json-files.ts";

/**
 * A file of finished rows: one line `[id, row]` each. What a killed or failed run leaves is there for the next one; a line
 * that was cut is dropped. The caller writes the finished file and then removes this one.
 */
export class RowLog<R> {
  /** Finished rows by their numbers. */
  readonly rows: Map<number, R>;
  readonly path: string;
  private readonly files: Files;
  private writing: Promise<void> = Promise.resolve();

  private constructor(files: Files, path: string, rows: Map<number, R>) {
    this.files = files;
    this.path = path;
    this.rows = rows;
  }

  /**
   * Opens a log, with the rows that an earlier run left.
   * @param fresh forgets what is there
   */
  static async open<R>(files: Files, path: string, fresh = false): Promise<RowLog<R>> {
    const before = fresh ? null : await readText(files, path);
    const whole = before?.split("\n").slice(0, -1) ?? [];
    const rows = new Map<number, R>();
    for (const line of whole) {
      const [id, row] = parsed(line) ?? [];
      if (typeof id === "number") rows.set(id, row as R);
    }
    const log = new RowLog(files, path, rows);
    await files.writeFile(path, [...rows].map(lineOf).join(""));
    return log;
  }

  /** On disk when the promise resolves, as far as the operating system is concerned. */
  add(rows: readonly (readonly [id: number, row: R])[]): Promise<void> {
    for (const [id, row] of rows) this.rows.set(id, row);
    const text = rows.map(lineOf).join("");
    const written = this.writing.then(() => this.files.append(this.path, text));
    this.writing = written.catch(() => {}); // whoever added the row hears of it
    return written;
  }

  /** Waits for what is being written, then deletes the file. */
  async remove(): Promise<void> {
    await this.writing;
    await this.files.remove(this.path);
  }
}

const lineOf = (entry: readonly [number, unknown]): string => `${JSON.stringify(entry)}\n`;

/** A disk that was full may have left half a line in the middle. */
function parsed(line: string): [unknown, unknown] | null {
  try {
    const value: unknown = JSON.parse(line);
    return Array.isArray(value) && value.length === 2 ? (value as [unknown, unknown]) : null;
  } catch {
    return null;
  }
}
