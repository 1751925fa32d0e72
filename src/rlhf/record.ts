/** A run's record: what it was, from what it came, and whether it is finished. It lies beside what the run made. */
import type { Files } from "../runtime/files.ts";
import { readJson, writeJson } from "../runtime/json-files.ts";
import type { Best } from "./best.ts";

/** The part of a record that is known before the run begins. */
export interface RunFacts {
  /** The verb or trainer: "ppo". */
  readonly verb: string;
  /** Version of webrlhf. */
  readonly webrlhf: string;
  /** The adapter that computes; null where none is needed, or nobody said. */
  readonly adapter: string | null;
  /** Resolved settings by the names that people write, without secrets, and without where the results go. */
  readonly settings: Readonly<Record<string, unknown>>;
  /** Data and models that the settings name. */
  readonly inputs: readonly RunInput[];
  /** Runs that made inputs, so far as these have records. */
  readonly parents: readonly RunParent[];
}

/**
 * The content of `run.json` in the folder of a run, or of `<file>.run.json` beside a single file. It holds nothing that
 * depends on the clock: a run that was killed and resumed leaves the same bytes as one that was not.
 */
export interface RunRecord extends RunFacts {
  /** A run that was killed stays "running"; "stopped" was asked to stop and can go on; "failed" ended with an error. */
  readonly state: "running" | "stopped" | "failed" | "finished";
  /** Steps of a finished training; null before, and of what takes no steps. */
  readonly steps: number | null;
  /** The best evaluation of a finished training whose settings ask for it. */
  readonly best?: Best | undefined;
  /** A finished training stopped before all its steps, since evaluations did not improve. */
  readonly stoppedEarly?: boolean | undefined;
}

/** A dataset or a model that a run reads. */
export interface RunInput {
  /** The setting that names it: "dataset_name"; "base_model_name_or_path" of an adapter whose own folder names its base. */
  readonly setting: string;
  /** How it was named: a path, or `org/name`. */
  readonly name: string;
  /**
   * SHA-256 of a file; of a folder that of the lines "<sha256>  <file>" of its files by name. Null where there is nothing to
   * read: what is made, what a server has.
   */
  readonly sha256: string | null;
}

/** A run that made an input, in short. */
export interface RunParent extends Pick<RunRecord, "verb" | "webrlhf" | "settings" | "inputs" | "steps"> {
  /** The folder or file that it made. */
  readonly path: string;
  /** The folders and files that it came from in turn. */
  readonly parents: readonly string[];
}

/** The file of a folder's record. */
export const RECORD = "run.json";

/** The record's place: in a folder, or beside a file. */
export const recordOf = (folder: string): string => `${folder}/${RECORD}`;
/** The record's place for a run that makes a single file. */
export const recordBeside = (file: string): string => `${file}.${RECORD}`;

/** The record at a place that `recordOf` or `recordBeside` gives, or null where there is none. */
export async function readRecord(files: Files, place: string): Promise<RunRecord | null> {
  const found = await readJson<Partial<RunRecord>>(files, place);
  if (typeof found?.verb !== "string" || typeof found.settings !== "object" || found.settings === null) return null;
  return { ...UNKNOWN, ...(found as RunFacts & Partial<RunRecord>) };
}

const UNKNOWN = { state: "running", steps: null, webrlhf: "", adapter: null, inputs: [], parents: [] } as const;

/** Writes a record, synced. */
export function writeRecord(files: Files, place: string, record: RunRecord): Promise<void> {
  const { verb, state, steps, best, stoppedEarly, ...facts } = record;
  return writeJson(files, place, { verb, state, steps, best, stoppedEarly, ...facts });
}
