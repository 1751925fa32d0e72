/** Where `generate` puts its answers: a file that is either complete or clearly unfinished, or the terminal. */
import { createHash } from "node:crypto";
import type { Files } from "../../runtime/files.ts";
import { RowLog } from "../../runtime/row-log.ts";

/**
 * Answers in the order of the jobs, whatever the order in which they come. As they come they go to `<file>.partial-<key>`,
 * a log of finished jobs; when the last one is there, the file is written. The key stands for everything that decides what
 * is answered, so that only the same command goes on with what a broken one left.
 */
export class OrderedOutput {
  /** Jobs that were answered before this run. */
  readonly done: ReadonlySet<number>;
  private readonly files: Files;
  private readonly file: string;
  private readonly log: RowLog<string[]>;

  private constructor(files: Files, file: string, log: RowLog<string[]>) {
    this.files = files;
    this.file = file;
    this.log = log;
    this.done = new Set(log.rows.keys());
  }

  /**
   * @param settings everything that decides what is answered
   * @param resume whether to go on with what is there
   */
  static async open(files: Files, file: string, settings: unknown, resume: boolean): Promise<OrderedOutput> {
    const key = createHash("sha256").update(JSON.stringify(settings, plainMaps)).digest("hex").slice(0, 12);
    return new OrderedOutput(files, file, await RowLog.open(files, `${file}.partial-${key}`, !resume));
  }

  /** The lines of one job. On disk when the promise resolves. */
  put(job: number, lines: string[]): Promise<void> {
    return this.log.add([[job, lines]]);
  }

  /** Everything is there. */
  async finish(): Promise<void> {
    const jobs = [...this.log.rows].sort(([a], [b]) => a - b);
    await this.files.writeFile(this.file, jobs.flatMap(([, lines]) => lines.map((line) => `${line}\n`)).join(""));
    await this.log.remove();
  }

  /** Nothing was written, so nothing is left behind. */
  async abandon(): Promise<void> {
    if (this.log.rows.size === 0) await this.log.remove();
  }

  /** Where the unfinished answers are. */
  get unfinished(): { path: string; jobs: number } {
    return { path: this.log.path, jobs: this.log.rows.size };
  }
}

const plainMaps = (_: string, value: unknown) => (value instanceof Map ? [...value] : value);
