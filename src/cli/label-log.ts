/** Labels that people have given, on the disk from the moment they come. */
import { randomUUID } from "node:crypto";
import { tokenOf } from "../cluster/names.ts";
import type { Files } from "../runtime/files.ts";
import { basename } from "../runtime/paths.ts";
import { RowLog } from "../runtime/row-log.ts";
import { hasher } from "../runtime/sha256.ts";

/** The log's own row: which run of the cluster its labels are of. Labels have numbers from 0. */
const RUN = -1;

/** The labels of an unfinished file, with the name of the cluster's run that they are given in. */
export class LabelLog<V> {
  /** The run's name: another one whenever labels are collected anew, so that nobody's old ones come in. */
  readonly run: string;
  /** Labels by their numbers. */
  readonly votes: Map<number, V>;
  private readonly log: RowLog<V | string>;

  private constructor(log: RowLog<V | string>, run: string) {
    this.log = log;
    this.run = run;
    this.votes = new Map([...log.rows].filter(([number]) => number !== RUN)) as Map<number, V>;
  }

  /**
   * Opens it, with what is there.
   * @param output the file that they are for
   * @param decidedBy all that makes labels those of the same work
   * @param resume goes on with what is there; else it is forgotten
   */
  static async open<V>(
    files: Files,
    output: string,
    decidedBy: Iterable<unknown>,
    resume: boolean,
  ): Promise<LabelLog<V>> {
    const hash = await hasher();
    for (const part of decidedBy) hash.add(JSON.stringify(part));
    const path = `${output}.partial-${(await hash.end()).slice(0, 12)}`;
    const log = await RowLog.open<V | string>(files, path, !resume);
    const known = log.rows.get(RUN);
    if (typeof known === "string") return new LabelLog(log, known);
    const run = `${tokenOf(basename(output)).slice(0, 40)}-${randomUUID().slice(0, 13)}`;
    await log.add([[RUN, run]]);
    return new LabelLog(log, run);
  }

  get path(): string {
    return this.log.path;
  }

  /** On the disk when the promise resolves, as far as the operating system is concerned. */
  async add(number: number, vote: V): Promise<void> {
    await this.log.add([[number, vote]]);
    this.votes.set(number, vote);
  }

  /** The file is written: the log goes. */
  remove(): Promise<void> {
    return this.log.remove();
  }
}
