/** Rows that come in any order and are kept from the moment they come. */
import { AppendLog, pairIn, pairLine } from "./append-log.ts";
import type { Files } from "./files.ts";
import { readText } from "./json-files.ts";

/**
 * A file of finished rows: one line `[id, row]` each. What a killed or failed run leaves is there for the next one; a line
 * that was cut is dropped. The caller writes the finished file and then removes this one.
 */
export class RowLog<R> {
  /** Finished rows by their numbers. */
  readonly rows: Map<number, R>;
  private readonly log: AppendLog;

  private constructor(log: AppendLog, rows: Map<number, R>) {
    this.log = log;
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
      const [id, row] = pairIn(line) ?? [];
      if (typeof id === "number") rows.set(id, row as R);
    }
    await files.writeFile(path, [...rows].map(pairLine).join(""));
    return new RowLog(new AppendLog(files, path), rows);
  }

  get path(): string {
    return this.log.path;
  }

  /** On disk when the promise resolves, as far as the operating system is concerned. */
  add(rows: readonly (readonly [id: number, row: R])[]): Promise<void> {
    for (const [id, row] of rows) this.rows.set(id, row);
    return this.log.append(rows.map(pairLine).join(""));
  }

  /** Waits for what is being written, then deletes the file. */
  remove(): Promise<void> {
    return this.log.remove();
  }
}
