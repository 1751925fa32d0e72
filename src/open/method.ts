/** A training method by names: everything a person may set, what that opens, and the run that comes of it. */
import type { TrainEvent } from "../rlhf/events.ts";
import type { RunOptions } from "../rlhf/loop.ts";
import type { Sampler } from "../rlhf/sampler.ts";
import type { RolloutSource } from "../rlhf/source.ts";
import type { FileContent } from "../runtime/files.ts";
import { type ResolvedSettings, type Settings, type SettingsTable, settings, spelled } from "../settings/index.ts";
import { factsOf, refuseInputs } from "./facts.ts";
import { foreignNames } from "./foreign.ts";
import { ModelOpener } from "./opener.ts";
import type { Surroundings } from "./surroundings.ts";
import { surviving } from "./surviving.ts";

/** Surroundings of a run. */
export interface RunSurroundings extends Surroundings {
  /** Where the run will be saved, for what is named after it. */
  outputDir?: string;
  /** Hears how far longer work has come that is no step of a trainer. Default: nobody. */
  work?: (what: string, done: number, total: number) => void;
  /** Draws the responses instead of whom the settings name: other machines. */
  source?: RolloutSource;
  /** Draws the responses instead of a source, as a function: a rehearsal. */
  sampler?: Sampler;
}

/** A run whose models and data are open. */
export interface OpenedRun {
  /** Files that belong beside every model that the run saves: the tokenizer's. */
  besides: Record<string, FileContent>;
  /** Trains. Call it once. */
  train(run?: RunOptions): AsyncGenerator<TrainEvent>;
}

/** A training method, as `defineMethod` takes it. */
export interface TypedMethod<T extends SettingsTable> {
  /** The method's name, which is the verb's: "ppo". */
  name: string;
  /** One line for lists of methods. */
  summary: string;
  /** The trainer's settings, and the names of what it needs. */
  settings: Settings<T>;
  /** Command lines to begin with. */
  examples: readonly string[];
  /** Opens models and data; what the opener opened is freed when the run is closed. */
  open(o: ResolvedSettings<T>, opener: ModelOpener, around: RunSurroundings): Promise<OpenedRun>;
}

/** A training method that anybody can start by names. */
export interface Method extends Omit<TypedMethod<SettingsTable>, "open"> {
  open(o: object, opener: ModelOpener, around: RunSurroundings): Promise<OpenedRun>;
}

/**
 * Defines a method.
 * @param names settings that name models and data; they come first in `--help`
 * @param trainer the trainer's own record, whose checks hold here, too
 */
export function defineMethod<N extends SettingsTable, T extends SettingsTable>(
  trainer: Settings<T>,
  names: N,
  method: Omit<TypedMethod<N & T>, "settings" | "name"> & { name?: string },
  check?: (o: ResolvedSettings<N & T>, spell: (key: string) => string) => void,
): Method {
  const { name = trainer.title } = method;
  const table = { ...names, ...trainer.table } as N & T;
  const checkAll = (o: ResolvedSettings<N & T>, spell: (key: keyof (N & T) & string) => string) => {
    trainer.pick(o);
    check?.(o, spell as (key: string) => string);
  };
  const record = settings(name, table, checkAll, foreignNames);
  return { ...method, name, settings: record } as unknown as Method;
}

/**
 * Opens a run by names, and says how to end it. A run that loses its GPU device goes on from its last checkpoint on a new
 * one, see `surviving`.
 * @param values settings of the method, resolved by its record or not
 * @throws UserError naming the setting, model, file or record that is wrong
 */
export async function openRun(
  method: Method,
  values: object,
  around: RunSurroundings = {},
): Promise<OpenedRun & { close(): void }> {
  const o = method.settings.pick(values);
  const about = { verb: method.name, table: method.settings.table, values: { ...values, ...o }, around };
  if (around.outputDir !== undefined) await refuseInputs(about, around.outputDir);
  const quiet: RunSurroundings = { ...around };
  delete quiet.say; // all of it was said the first time
  const opened = await surviving(async (again) => {
    const surroundings = again ? quiet : around;
    const opener = new ModelOpener({ ...(o as object), ...surroundings });
    try {
      const run = await method.open(o, opener, surroundings);
      opener.refuseUnusedBase();
      return { ...run, close: () => opener.destroy() };
    } catch (error) {
      opener.destroy();
      throw error;
    }
  }, lessMemory(o));
  async function* train(run: RunOptions = {}): AsyncGenerator<TrainEvent> {
    const record = run.folder && run.record === undefined ? await factsOf(about) : run.record;
    yield* opened.train({ ...run, ...(record !== undefined && { record }) });
  }
  return { ...opened, train };
}

/** What a method's settings can do against a lack of memory. */
function lessMemory(o: object): string {
  const named = (keys: readonly string[]) => keys.filter((key) => key in o).map((key) => spelled(o, key));
  const lower = named(["perDeviceTrainBatchSize", "maxLength", "responseLength", "maxPromptLength"]);
  const more = named(["gradientCheckpointing", "usePeft"]);
  return `lower ${lower.join(", ") || "the size of the model"}${more.length > 0 ? `, or set ${more.join(" or ")}` : ""}`;
}
