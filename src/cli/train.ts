/** The one training verb: it opens what a method's settings name, trains, and shows and logs what happens. */
import type { ClusterLearners } from "../cluster/learners.ts";
import { onCompileProgress } from "../gpu/compiling.ts";
import { foreignNames } from "../open/foreign.ts";
import { idleLogging, type LoggerChoice, loggerNames, openLoggers } from "../open/loggers.ts";
import { type Method, openRun } from "../open/method.ts";
import { methodLoaders } from "../open/methods/load.ts";
import type { MethodName } from "../open/methods/names.ts";
import { writeCard } from "../open/model-card.ts";
import { type HubTarget, openPush } from "../open/push.ts";
import { idlePushing, pushSettings } from "../open/push-settings.ts";
import { logSettings, overwriting } from "../open/settings.ts";
import { type Change, readChanges } from "../rlhf/changes.ts";
import { FolderControls } from "../rlhf/controls.ts";
import type { TrainEvent } from "../rlhf/events.ts";
import { Loggers } from "../rlhf/loggers/logger.ts";
import { RunLog, type StateSettings } from "../rlhf/run-log.ts";
import { logging } from "../rlhf/settings.ts";
import { UserError } from "../runtime/errors.ts";
import { diskFiles, type Files } from "../runtime/files.ts";
import { type SettingsTable, settings } from "../settings/index.ts";
import { openGpu } from "./gpu.ts";
import { type ClusterChoice, clusterSettingsOf, joinCluster } from "./join-cluster.ts";
import { joinLearners, type LearnerChoice, learnerSettingsOf } from "./join-learners.ts";
import { Progress } from "./progress.ts";
import { serveMetrics } from "./prometheus.ts";
import { surroundings, tenths } from "./surroundings.ts";
import { type Context, defineVerb, Interrupted, type Verb } from "./verb.ts";

/** Where a run goes and how it is told; what every training verb has. */
const runSettings = {
  resume: logging.switch(
    false,
    "Go on from the newest checkpoint in output_dir, if there is one, or from the checkpoint at this path",
    { aka: ["resume_from_checkpoint"] },
  ),
  resumeWithChanges: logging.bool(false, "Go on although settings or data have changed that make another run of it"),
  ...overwriting,
  ...logSettings,
  ...pushSettings,
  changesFrom: logging.path(
    null,
    "Make the changes of settings that another run's changes.jsonl lists, at the same steps",
  ),
  metricsPort: logging.int(
    null,
    "Serve the newest numbers to Prometheus at /metrics on this port of 127.0.0.1; 0 takes a free one; default: no",
    { min: 0, max: 65535 },
  ),
};

/** What these settings, and that of the folder, resolve to. */
interface RunChoice extends StateSettings, LoggerChoice, HubTarget {
  pushToHub: boolean;
  outputDir: string;
  resume: boolean | string;
  resumeWithChanges: boolean;
  overwriteOutputDir: boolean;
  metricsPort: number | null;
  changesFrom: string | null;
  saveTotalLimit: number;
}

/** Additions of a verb to its method: settings of the program's own, and files that it writes as events come. */
export interface TrainingExtras<T extends SettingsTable> {
  settings: T;
  also(events: AsyncGenerator<TrainEvent>, values: Record<string, unknown>): AsyncGenerator<TrainEvent>;
}

/** The verb that starts a method by names. */
export function trainingVerb<T extends SettingsTable = Record<never, never>>(
  method: Method,
  extras?: TrainingExtras<T>,
): Verb {
  const outputDir = logging.path(`out/${method.name}`, "Folder for the model, checkpoints and logs");
  const cluster = { ...learnerSettingsOf(method.settings.table), ...clusterSettingsOf(method.name) };
  const table = { ...method.settings.table, ...extras?.settings, ...cluster, outputDir, ...runSettings };
  return defineVerb({
    name: method.name,
    summary: method.summary,
    examples: method.examples,
    settings: settings(method.name, table as SettingsTable, checked(method), foreignNames),
    async run(values, context) {
      const o = values as Record<string, unknown> & RunChoice & ClusterChoice & LearnerChoice;
      const idle = idleLogging(o);
      if (idle.length > 0) context.terminal.line(`no effect without report_to: ${idle.join(", ")}`);
      const unpushed = idlePushing(o);
      if (unpushed.length > 0) context.terminal.line(`no effect without push_to_hub: ${unpushed.join(", ")}`);
      const files = await diskFiles();
      const pusher = o.pushToHub ? await openPush(o.outputDir, o, surroundings(context)) : null;
      const served = o.metricsPort === null ? null : await serveMetrics(o.metricsPort);
      const changes = o.changesFrom === null ? [] : await changesIn(files, o.changesFrom);
      const controls = new FolderControls(files, o.outputDir);
      if (served) context.terminal.line(`the numbers are served at ${served.url}`);
      try {
        const joined = await joinCluster(o, { files, outputDir: o.outputDir, terminal: context.terminal });
        await openGpu(context.terminal);
        const around = {
          ...surroundings(context),
          work: tenths(context),
          files,
          outputDir: o.outputDir,
          ...(joined && { source: joined.source }),
        };
        const run = await openRun(method, o, around).catch((error: Error) => {
          if (!context.signal.aborted || error.name !== "AbortError") throw error;
          throw new Interrupted("stopped before the training; nothing was written");
        });
        let learners: ClusterLearners | null = null;
        try {
          learners = await joinLearners(o, context.terminal);
          const warn = (text: string) => context.terminal.line(context.terminal.style("yellow", text));
          const log = new RunLog(
            files,
            o.outputDir,
            o,
            new Loggers([...openLoggers({ ...o, files }), ...(served ? [served.logger] : [])], warn),
          );
          const folder = {
            files,
            path: o.outputDir,
            besides: run.besides,
            keep: o.saveTotalLimit,
            log: () => log.forCheckpoint(),
          };
          const events = run.train({
            folder,
            resume: o.resume || context.resume,
            acceptChanges: o.resumeWithChanges,
            overwrite: o.overwriteOutputDir,
            signal: AbortSignal.any([context.signal, controls.signal]),
            controls,
            changes,
            ...(learners && { learners }),
          });
          await consume(extras ? extras.also(events, o) : events, log, o, context);
          await joined?.ended();
          await writeCard(files, o.outputDir, { verb: method.name, table });
          await pusher?.push();
        } finally {
          run.close();
          await controls.close();
          await learners?.close();
        }
      } finally {
        await served?.close();
      }
    },
  });
}

/** The changes in a file that must be there. */
async function changesIn(files: Files, path: string): Promise<Change[]> {
  const changes = await readChanges(files, path);
  if (changes.length === 0) throw new UserError(`${path}: there is no change in it, or no such file`);
  return changes;
}

/** Checks what must be right of settings before anything is opened. */
const checked = (method: Method) => (o: object) => {
  method.settings.pick(o);
  loggerNames(o);
};

/** The verb of a method, by its name. */
export const methodVerb = async (name: MethodName): Promise<Verb> => trainingVerb(await methodLoaders[name]());

/**
 * Runs a trainer to its end, with its events on the terminal and in a log. After Ctrl-C the trainer,
 * which holds the same signal, saves and returns without an end: that is an Interrupted.
 */
export async function consume(
  events: AsyncGenerator<TrainEvent>,
  log: RunLog,
  o: StateSettings & { outputDir: string },
  context: Context,
): Promise<Record<string, number>> {
  const progress = new Progress(context.terminal, context.label, o.loggingSteps ?? 1);
  let ended: Record<string, number> | null = null;
  onCompileProgress((done, begun) => progress.compiling(done, begun));
  try {
    for await (const event of events) {
      await log.add(event);
      progress.add(event);
      if (event.type === "end") ended = event.metrics;
    }
  } catch (error) {
    // The first error is the one to tell: a full disk may well break this, too.
    await log.close().catch(() => {});
    throw error;
  } finally {
    onCompileProgress(null);
    progress.clear();
  }
  if (ended !== null) return ended;
  await log.close();
  throw new Interrupted(`stopped; go on with --resume --output_dir ${o.outputDir}`);
}
