/** Answers that were paid for, kept by what was asked, in a file that only grows. */
import { AppendLog, pairIn, pairLine } from "./append-log.ts";
import type { Files } from "./files.ts";
import { readText } from "./json-files.ts";

/**
 * A file of answers: one line `[key, answer]` each, added the moment the answer comes, so that a killed run has paid for nothing
 * twice. A line that was cut is passed over. Several programs may add to it; each knows what was there when it was opened.
 */
export class CallLog {
  private readonly answers: Map<string, string>;
  private readonly log: AppendLog;
  /** The last line was cut, and the next one must not be written behind it. */
  private cut: boolean;

  private constructor(log: AppendLog, answers: Map<string, string>, cut: boolean) {
    this.log = log;
    this.answers = answers;
    this.cut = cut;
  }

  /** Opens a log with what is in it; the file is made by the first answer. */
  static async open(files: Files, path: string): Promise<CallLog> {
    const text = (await readText(files, path)) ?? "";
    const answers = new Map<string, string>();
    for (const line of text.split("\n")) {
      const [key, answer] = pairIn(line) ?? [];
      if (typeof key === "string" && typeof answer === "string") answers.set(key, answer);
    }
    return new CallLog(new AppendLog(files, path), answers, text !== "" && !text.endsWith("\n"));
  }

  get path(): string {
    return this.log.path;
  }

  get(key: string): string | undefined {
    return this.answers.get(key);
  }

  /** With the operating system when the promise resolves. */
  add(key: string, answer: string): Promise<void> {
    this.answers.set(key, answer);
    const line = `${this.cut ? "\n" : ""}${pairLine([key, answer])}`;
    this.cut = false;
    return this.log.append(line);
  }
}
