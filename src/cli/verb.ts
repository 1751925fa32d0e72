/** What a command of the program is. */
import type { FoundInput } from "../open/inputs.ts";
import type { Product } from "../open/produce.ts";
import type { ResolvedSettings, Settings, SettingsTable } from "../settings/index.ts";
import type { Terminal } from "./terminal.ts";

/** The program around a verb that runs. */
export interface Context {
  readonly terminal: Terminal;
  /** Fires on Ctrl-C, SIGTERM and SIGHUP: save, then come to an end. */
  readonly signal: AbortSignal;
  /** Name for progress lines: the verb's, or the recipe stage's. */
  readonly label: string;
  /** True for a run that was killed: go on from the newest checkpoint if there is one. */
  readonly resume: boolean;
}

/** A command of the program, as `defineVerb` takes it. */
export interface TypedVerb<T extends SettingsTable> {
  readonly name: string;
  readonly summary: string;
  readonly settings: Settings<T>;
  /** Settings that bare arguments set, in their order (`webrlhf data describe <dataset_name>`). */
  readonly argument?: (keyof T & string) | readonly (keyof T & string)[];
  readonly examples: readonly string[];
  /** What the first Ctrl-C says; null says nothing. Default: that a checkpoint is written. */
  readonly interruptNote?: string | null;
  /** True where the work cannot be stopped in the middle: the first signal ends it, and it is done anew. Default false. */
  readonly endsAtOnce?: boolean;
  /** What is written, for a record beside it; null where nothing is. A verb that trains keeps its record by its trainer. */
  product?(values: ResolvedSettings<T>): Product | null;
  /** Finds what is read, for the record, where that is more than what the settings name. */
  inputs?(values: ResolvedSettings<T>): Promise<FoundInput[]>;
  /** Does the work; resolves when everything is on disk. Rejects with an Interrupted when the signal stopped it. */
  run(values: ResolvedSettings<T>, context: Context): Promise<void>;
}

/** One command of the program. Its `run` takes what its own `settings` resolved. */
export type Verb = Omit<TypedVerb<SettingsTable>, "run" | "product" | "inputs"> & {
  product?(values: object): Product | null;
  inputs?(values: object): Promise<FoundInput[]>;
  run(values: object, context: Context): Promise<void>;
};

/** Types a verb's `run` by its own settings; whoever calls it has resolved the values by them. */
export const defineVerb = <T extends SettingsTable>(verb: TypedVerb<T>): Verb => verb as unknown as Verb;

/** The work was stopped by a signal after its state was saved; exit code 130 (Ctrl-C), 143 (SIGTERM) or 129 (SIGHUP). */
export class Interrupted extends Error {
  override readonly name = "Interrupted";
}
