/** Loggers by the names that transformers and TRL have for them. */

import type { MetricsLogger } from "../rlhf/loggers/logger.ts";
import { tensorboardLogger } from "../rlhf/loggers/tensorboard.ts";
import { trackioLogger } from "../rlhf/loggers/trackio.ts";
import { wandbLogger } from "../rlhf/loggers/wandb.ts";
import { environment } from "../runtime/environment.ts";
import { UserError } from "../runtime/errors.ts";
import type { Files } from "../runtime/files.ts";
import { basename } from "../runtime/paths.ts";
import { didYouMean } from "../settings/index.ts";

/** Who besides metrics.jsonl hears a run's numbers, and how; what settings resolve to. */
export interface LoggerChoice {
  reportTo?: readonly string[] | null;
  loggingDir?: string | null;
  runName?: string | null;
  project?: string | null;
  /** Default: the variable TRACKIO_SERVER_URL. */
  trackioServerUrl?: string | null;
}

/** A run's place, and who hears its numbers. */
export interface LoggedPlace extends LoggerChoice {
  files: Files;
  outputDir: string;
}

const makers: Readonly<Record<string, (run: LoggedPlace & { runName: string }) => MetricsLogger>> = {
  tensorboard: ({ files, ...run }) => tensorboardLogger(files, run),
  wandb: ({ files, ...run }) => wandbLogger(files, run),
  trackio: ({ files, ...run }) => trackioLogger(files, { ...run, serverUrl: serverOf(run) as string }),
};

/** The address of Trackio's server. */
const serverOf = ({ trackioServerUrl }: LoggerChoice): string | null =>
  trackioServerUrl ?? environment("TRACKIO_SERVER_URL") ?? null;

/** Other programs' names that stand for no logger. */
const silent = ["none", "jsonl"];

/**
 * The names of loggers that `reportTo` asks for: "all" is all of them that can be had, "none" and "jsonl" are what a run has
 * anyway.
 * @throws UserError for a name that nobody has, and for Trackio without a server
 */
export function loggerNames(choice: LoggerChoice): string[] {
  const server = serverOf(choice);
  if (server !== null && !/^https?:/.test(server)) {
    throw new UserError("trackio_server_url is no address of a server: it begins with http:// or https://");
  }
  const { reportTo } = choice;
  const known = Object.keys(makers);
  const asked = (reportTo ?? []).flatMap((name) => {
    if (name === "all") return known.filter((one) => one !== "trackio" || server !== null);
    if (silent.includes(name)) return [];
    if (name === "trackio" && server === null) {
      throw new UserError(
        "report_to trackio needs a server: give the address that `trackio show` prints as trackio_server_url, or in the " +
          "variable TRACKIO_SERVER_URL",
      );
    }
    if (known.includes(name)) return [name];
    const all = [...known, ...silent, "all"];
    throw new UserError(
      `report_to: nobody here is called ${JSON.stringify(name)}${didYouMean(name, all)}: there are ${all.join(", ")}`,
    );
  });
  return [...new Set(asked)];
}

/** Those of the settings that were given for loggers that are not asked for, as people write them. */
export function idleLogging(choice: LoggerChoice): string[] {
  const names = loggerNames(choice);
  return [
    ...(choice.runName && names.length === 0 ? ["run_name"] : []),
    ...(choice.loggingDir && !names.includes("tensorboard") ? ["logging_dir"] : []),
  ];
}

/**
 * Opens the loggers that `reportTo` names; nothing is written before the run begins.
 * @throws UserError for a name that nobody has, and for Trackio without a server
 */
export function openLoggers(run: LoggedPlace): MetricsLogger[] {
  const runName = run.runName ?? basename(run.outputDir);
  return loggerNames(run).map((name) => makers[name]({ ...run, runName }));
}
