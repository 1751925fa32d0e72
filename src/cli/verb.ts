import { locateModels, withHubOptions } from "./models/hub.ts";
import type { Table, Values } from "./option.ts";
import type { Terminal } from "./terminal.ts";

/** What a verb gets besides its options. */
export interface Context {
  readonly terminal: Terminal;
  /** Fires on Ctrl-C: save, then come to an end. */
  readonly signal: AbortSignal;
  /** Name for progress lines: the verb's, or the recipe stage's. */
  readonly label: string;
  /** True for a run that was killed: go on from the newest checkpoint if there is one. */
  readonly resume: boolean;
}

interface TypedVerb<T extends Table, V> {
  readonly name: string;
  readonly summary: string;
  readonly options: T;
  /** A bare argument that sets this option (`webrlhf report <input_dir>`). */
  readonly argument?: string;
  readonly examples: readonly string[];
  /** What the first Ctrl-C says; null says nothing. Default: that a checkpoint is written. */
  readonly interruptNote?: string | null;
  /** Does the work; resolves when everything is on disk. Rejects with an Interrupted when the signal stopped it. */
  run(options: V, context: Context): Promise<void>;
}

/** One command of the program. */
export type Verb = TypedVerb<Table, Record<string, unknown>>;

/**
 * Types a verb's `run` by its own options table; whoever calls it has checked the values against that table. A verb that
 * opens models takes them by name as well: it gets the paths.
 */
export function defineVerb<T extends Table>(verb: TypedVerb<T, Values<T>>): Verb {
  const options = withHubOptions(verb.options);
  const run: Verb["run"] = async (values, context) =>
    verb.run((await locateModels(options, values, context)) as Values<T>, context);
  return { ...verb, options, run };
}

/** The work was stopped by Ctrl-C after its state was saved; exit code 130. */
export class Interrupted extends Error {
  override readonly name = "Interrupted";
}
