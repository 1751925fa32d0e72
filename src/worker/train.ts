/** The library's methods as a program: the page's recipe is the command line's. */

import { estimateWith, type RunEstimate } from "../open/estimate.ts";
import { foreignNames, logSettings, type Method, methods, openRun, overwriting } from "../open/index.ts";
import { type LoggerChoice, loggerNames, openLoggers } from "../open/loggers.ts";
import type { TrainEvent } from "../rlhf/events.ts";
import { Loggers } from "../rlhf/loggers/logger.ts";
import { RunLog } from "../rlhf/run-log.ts";
import { logging } from "../rlhf/settings.ts";
import { UserError } from "../runtime/errors.ts";
import type { Files } from "../runtime/files.ts";
import {
  didYouMean,
  inCode,
  type ResolvedSettings,
  type SettingsTable,
  settingNamed,
  settings,
} from "../settings/index.ts";
import type { Program, RunContext } from "./contract.ts";

/** A method by its name, with its settings. */
export interface TrainInput {
  /** The verb's name: "dpo". */
  method: string;
  /**
   * Settings by the names of the command line or of the library (`max_steps`, `maxSteps`), with models and data by paths, URLs,
   * or names on the hub.
   */
  settings?: Readonly<Record<string, unknown>>;
}

/**
 * Runs any of the library's methods by names, as the command line does. Its events are the trainer's; in the run's folder are the
 * files that the command line leaves: the model, `metrics.jsonl`, `run.json`.
 */
export const trainProgram: Program<TrainInput, TrainEvent> = {
  run({ method: name, settings: given = {} }, context) {
    const method = methodNamed(name);
    return trainIn(context.folder, method, settingsOf(method).resolve([inCode(given)]), context, context.resumed);
  },
};

/**
 * Says what a run of `trainProgram` would take before its model is loaded, for `estimates: { train: trainEstimate }`.
 * @throws UserError naming the method, setting or file that is wrong
 */
export async function trainEstimate(
  { method: name, settings: given = {} }: TrainInput,
  { files }: { files: Files },
): Promise<RunEstimate> {
  const method = methodNamed(name);
  const { modelNameOrPath, ...o } = settingsOf(method).resolve([inCode(given)]) as Partial<
    Record<string, string | null>
  >;
  if (!modelNameOrPath) throw new UserError("name the model whose training is to be estimated: model_name_or_path");
  const own = Object.entries(given).filter(([key]) => settingNamed(logSettings, key) === null);
  const { modelRevision, baseModelNameOrPath } = o;
  const offline = Boolean(o.offline);
  return estimateWith(name, modelNameOrPath, inCode(Object.fromEntries(own)), {
    ...{ files, modelRevision, offline, baseModelNameOrPath },
  });
}

/** A method by its name; a wrong one comes with the nearest right one. */
export function methodNamed(name: string): Method {
  if (Object.hasOwn(methods, name)) return methods[name as keyof typeof methods];
  throw new UserError(`there is no method "${name}"${didYouMean(name, Object.keys(methods))}`);
}

/** Settings of a recipe's stages that say where they write: there is one place in a worker. */
export const outputSettings = {
  ...overwriting,
  outputDir: logging.path(null, "Folder of the stage's results"),
};

/** All that may be set of a method's run in a worker. */
export const settingsOf = (method: Method, more: SettingsTable = {}) =>
  settings(
    method.name,
    { ...method.settings.table, ...logSettings, ...more } as SettingsTable,
    (o) => {
      method.settings.pick(o);
      loggerNames(o);
    },
    foreignNames,
  );

/**
 * Trains in a folder of the run's files.
 * @param resumed goes on with what the folder holds, if it holds something
 */
export async function* trainIn(
  path: string,
  method: Method,
  values: ResolvedSettings<SettingsTable>,
  { files, signal, told, progress }: RunContext,
  resumed: boolean,
): AsyncGenerator<TrainEvent> {
  const said: string[] = [];
  const run = await openRun(method, values, {
    files,
    signal,
    outputDir: path,
    say: (line) => said.push(line),
    progress: (file, received, total) => progress(`loading ${file}`, received, total),
    loading: (model, done, total) => progress(`loading ${model}`, done, total),
    work: progress,
  });
  try {
    for (const text of said.splice(0)) yield { type: "note", step: 0, text };
    const resume = resumed && (await files.list(path)).length > 0;
    const loggers = openLoggers({ ...(values as LoggerChoice), files, outputDir: path });
    const log = new RunLog(files, path, values, new Loggers(loggers, (text) => said.push(text)));
    const keep = Number((values as { saveTotalLimit?: number }).saveTotalLimit);
    const folder = { files, path, besides: run.besides, keep, log: () => log.forCheckpoint() };
    try {
      for await (const event of run.train({ folder, resume, signal })) {
        await log.add(event);
        const { step } = event as { step: number };
        for (const text of said.splice(0)) yield { type: "warning", step, text };
        yield whole(event, told as readonly TrainEvent[]);
      }
      await log.close();
    } catch (error) {
      await log.close().catch(() => {}); // the first error is the one to tell
      throw error;
    }
  } finally {
    run.close();
  }
}

/** The end of a run that went on after its last step, which does not know that step's numbers. */
function whole(event: TrainEvent, told: readonly TrainEvent[]): TrainEvent {
  if (event.type !== "end" || Object.keys(event.metrics).length > 0) return event;
  const last = told.findLast((one) => one.type === "step");
  if (last?.type !== "step" || last.step !== event.step) return event;
  const evaluated = told.findLast((one) => one.type === "eval" && one.step === event.step);
  return { ...event, metrics: { ...last.metrics, ...(evaluated?.type === "eval" && evaluated.metrics) } };
}
