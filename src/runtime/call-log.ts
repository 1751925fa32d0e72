/** Answers that were paid for, kept by what was asked, in a file that only grows. */
import type { Files } from "./files.ts";
import { readText } from "./json-files.ts";

/**
 * A file of answers: one line `[key, answer]` each, added the moment the answer comes, so that a killed run has paid for nothing
 * twice. A line that was cut is passed over. Several programs may add to it; each knows what was there when it was opened.
 */
export class CallLog {
  readonly path: string;
  private readonly answers: Map<string, string>;
  private readonly files: Files;
  private writing: Promise<void> = Promise.resolve();
  /** The last line was cut, and the next one must not be written behind it. */
  private cut: boolean;

  private constructor(files: Files, path: string, answers: Map<string, string>, cut: boolean) {
    this.files = files;
    this.path = path;
    this.answers = answers;
    this.cut = cut;
  }

  /** Opens a log with what is in it; the file is made by the first answer. */
  static async open(files: Files, path: string): Promise<CallLog> {
    const text = (await readText(files, path)) ?? "";
    const answers = new Map<string, string>();
    for (const line of text.split("\n")) {
      const entry = parsed(line);
      if (entry) answers.set(...entry);
    }
    return new CallLog(files, path, answers, text !== "" && !text.endsWith("\n"));
  }

  get(key: string): string | undefined {
    return this.answers.get(key);
  }

  /** With the operating system when the promise resolves. */
  add(key: string, answer: string): Promise<void> {
    this.answers.set(key, answer);
    const line = `${this.cut ? "\n" : ""}${JSON.stringify([key, answer])}\n`;
    this.cut = false;
    const written = this.writing.then(() => this.files.append(this.path, line));
    this.writing = written.catch(() => {}); // whoever added the answer hears of it
    return written;
  }
}

function parsed(line: string): [string, string] | null {
  try {
    const value: unknown = JSON.parse(line);
    const right = Array.isArray(value) && value.length === 2 && value.every((part) => typeof part === "string");
    return right ? (value as [string, string]) : null;
  } catch {
    return null;
  }
}
