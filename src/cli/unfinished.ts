/** Output files that a broken command leaves unfinished, for the same command to go on with. */
import { isUserError, UserError } from "../runtime/errors.ts";
import type { Files } from "../runtime/files.ts";
import { RowLog } from "../runtime/row-log.ts";
import { hasher } from "../runtime/sha256.ts";
import type { Terminal } from "./terminal.ts";

/** What is written, in words and in full. */
export interface Output {
  files: Files;
  /** Where it goes when it is complete. */
  path: string;
  /** Everything that decides what is written: only the same command goes on with what a broken one left. */
  decidedBy: Iterable<unknown>;
  /** Whether to go on with what is there. */
  resume: boolean;
  prompts: number;
  /** What is done to a prompt: "scored". */
  done: string;
}

/**
 * What is done of an output file, prompt by prompt. It is kept in `<path>.partial-<key>` from the moment it comes; the file
 * itself is written when nothing is missing.
 */
export class Unfinished<R> {
  readonly log: RowLog<R>;
  private readonly output: Output;

  private constructor(output: Output, log: RowLog<R>) {
    this.output = output;
    this.log = log;
  }

  /** Opens it, and says what there is already. */
  static async open<R>(output: Output, terminal: Terminal): Promise<Unfinished<R>> {
    const hash = await hasher();
    for (const part of output.decidedBy) hash.add(JSON.stringify(part, plainMaps));
    const path = `${output.path}.partial-${(await hash.end()).slice(0, 12)}`;
    const log = await RowLog.open<R>(output.files, path, !output.resume);
    if (log.rows.size > 0) {
      terminal.line(`${log.rows.size} of ${output.prompts} prompts were ${output.done} before`);
    }
    return new Unfinished(output, log);
  }

  /** Where the work goes on. */
  get left(): string {
    const { rows, path } = this.log;
    return `${rows.size} prompts are ${this.output.done} in ${path}; the same command goes on there`;
  }

  /** The error, with where the work is that it did not undo. Where there is none, nothing is left behind. */
  async after(error: unknown): Promise<unknown> {
    if (this.log.rows.size === 0) await this.log.remove();
    else if (isUserError(error)) return new UserError(`${error.message} (${this.left})`, { cause: error });
    return error;
  }

  /** Writes the file: everything is there. */
  async finish(content: string): Promise<void> {
    await this.output.files.writeFile(this.output.path, content);
    await this.log.remove();
  }
}

const plainMaps = (_: string, value: unknown) => (value instanceof Map ? [...value] : value);
