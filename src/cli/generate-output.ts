/** Where `generate` puts its answers: a file that is either complete or clearly unfinished, or the terminal. */
import { createHash } from "node:crypto";
import { appendFile, mkdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { UserError } from "../runtime/errors.ts";

/**
 * Answers in the order of the jobs, whatever the order in which they come. They go to `<file>.partial-<key>`, which takes
 * the file's name when the last one is there. The key stands for everything that decides what is answered, so that only
 * the same command goes on with what a broken one left.
 */
export class OrderedOutput {
  /** Jobs that were answered before this run. */
  readonly done: number;
  private readonly file: string;
  private readonly partial: string;
  private readonly early = new Map<number, string[]>();
  private next: number;
  private writing: Promise<void> = Promise.resolve();

  private constructor(file: string, partial: string, done: number) {
    this.file = file;
    this.partial = partial;
    this.done = done;
    this.next = done;
  }

  /**
   * @param settings everything that decides what is answered
   * @param lines lines per job
   * @param resume whether to go on with what is there
   */
  static async open(
    file: string,
    settings: unknown,
    lines: readonly number[],
    resume: boolean,
  ): Promise<OrderedOutput> {
    const key = createHash("sha256").update(JSON.stringify(settings, plainMaps)).digest("hex").slice(0, 12);
    const partial = `${file}.partial-${key}`;
    try {
      await mkdir(dirname(file), { recursive: true });
      const before = resume ? await readFile(partial, "utf8").catch(() => "") : "";
      // A line without its end was cut, and so was the job that it belongs to.
      const found = before.split("\n").slice(0, -1);
      let done = 0;
      let kept = 0;
      while (done < lines.length && kept + lines[done] <= found.length) kept += lines[done++];
      await writeFile(
        partial,
        found
          .slice(0, kept)
          .map((line) => `${line}\n`)
          .join(""),
      );
      return new OrderedOutput(file, partial, done);
    } catch (error) {
      throw explained(error, file);
    }
  }

  /** The lines of one job. */
  put(job: number, lines: string[]): Promise<void> {
    this.early.set(job, lines);
    const ready: string[] = [];
    for (let lines = this.early.get(this.next); lines; lines = this.early.get(this.next)) {
      this.early.delete(this.next++);
      ready.push(...lines);
    }
    if (ready.length > 0) {
      const text = ready.map((line) => `${line}\n`).join("");
      this.writing = this.writing.then(() => appendFile(this.partial, text));
    }
    return this.writing.catch((error) => {
      throw explained(error, this.file);
    });
  }

  /** Everything is there. */
  async finish(): Promise<void> {
    await this.writing;
    try {
      await rename(this.partial, this.file);
    } catch (error) {
      throw explained(error, this.file);
    }
  }

  /** Nothing was written, so nothing is left behind. */
  async abandon(): Promise<void> {
    await this.writing.catch(() => {});
    if (this.next === 0) await rm(this.partial, { force: true });
  }

  /** Where the unfinished answers are. */
  get unfinished(): { path: string; jobs: number } {
    return { path: this.partial, jobs: this.next };
  }
}

const plainMaps = (_: string, value: unknown) => (value instanceof Map ? [...value] : value);

function explained(error: unknown, file: string): unknown {
  const reasons: Record<string, string> = {
    ENOSPC: "the disk is full",
    EACCES: "permission denied",
    EISDIR: "it is a folder",
    ENOTDIR: "a part of the path is not a folder",
    EEXIST: "a part of the path is not a folder",
    EROFS: "the file system is read-only",
  };
  const reason = reasons[(error as NodeJS.ErrnoException).code ?? ""];
  return reason ? new UserError(`cannot write ${file}: ${reason}`, { cause: error }) : error;
}
