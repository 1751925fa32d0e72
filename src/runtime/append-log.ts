/** A file that only grows, by lines `[key, value]`. */
import type { Files } from "./files.ts";

/** Adds to a file in the order in which it is asked to, whoever waits for it. */
export class AppendLog {
  readonly path: string;
  private readonly files: Files;
  private writing: Promise<void> = Promise.resolve();

  /** The file is made by the first text. */
  constructor(files: Files, path: string) {
    this.files = files;
    this.path = path;
  }

  /** With the operating system when the promise resolves. One that fails does not stop those behind it. */
  append(text: string): Promise<void> {
    const written = this.writing.then(() => this.files.append(this.path, text));
    this.writing = written.catch(() => {}); // whoever added the text hears of it
    return written;
  }

  /** Waits for what is being written, then deletes the file. */
  async remove(): Promise<void> {
    await this.writing;
    await this.files.remove(this.path);
  }
}

/** A line of such a file. */
export const pairLine = (pair: readonly [unknown, unknown]): string => `${JSON.stringify(pair)}\n`;

/** What stands in a line; null where it is none: a disk that was full, or a program that was killed, leaves half a line. */
export function pairIn(line: string): [unknown, unknown] | null {
  try {
    const value: unknown = JSON.parse(line);
    return Array.isArray(value) && value.length === 2 ? (value as [unknown, unknown]) : null;
  } catch {
    return null;
  }
}
