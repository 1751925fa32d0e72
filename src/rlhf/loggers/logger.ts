/** Whoever hears a run's numbers besides metrics.jsonl: TensorBoard, a server, a function of one's own. */

/** Numbers of a step by name; an evaluation's begin with `eval_`. Numbers that are not finite are told as they are. */
export type LoggedMetrics = Readonly<Record<string, number>>;

/** Hears the numbers of a step. Those of one step may come in several calls: the step's own, and its evaluation's. */
export type LogMetrics = (step: number, metrics: LoggedMetrics) => void | Promise<void>;

/** The run that is logged, as it begins or goes on. */
export interface LoggedRun {
  /** 0, or the step of the checkpoint that the run goes on from: what was logged past it is void. */
  readonly step: number;
  /** Resolved settings by the names that people write, without secrets; none where the run keeps no record. */
  readonly settings: Readonly<Record<string, unknown>>;
}

/** A logger with a beginning and an end. What it rejects with is told once, and it hears no more of the run. */
export interface MetricsLogger {
  /** For messages: "tensorboard". */
  readonly name: string;
  /** Comes before the first numbers of every attempt. */
  start?(run: LoggedRun): Promise<void>;
  log: LogMetrics;
  /** Comes once, unless the process is killed. */
  end?(state: "finished" | "stopped"): Promise<void>;
}

/** A logger: a function of step and numbers is enough. */
export type Logger = LogMetrics | MetricsLogger;

/** A logger that takes longer than this for a line is taken for dead. */
const PATIENCE_MS = 10_000;

/** All the loggers of a run; none of them can stop it. */
export class Loggers {
  #living: MetricsLogger[];
  readonly #warn: (text: string) => void;
  readonly #patience: number;

  /**
   * @param warn hears of a logger that failed, once
   * @param patience milliseconds that a logger may take. Default 10,000
   */
  constructor(loggers: readonly Logger[], warn: (text: string) => void, patience = PATIENCE_MS) {
    this.#living = loggers.map((logger) =>
      typeof logger === "function" ? { name: logger.name || "a logger", log: logger } : logger,
    );
    this.#warn = warn;
    this.#patience = patience;
  }

  start(run: LoggedRun): Promise<void> {
    return this.#each(async (logger) => logger.start?.(run));
  }

  log(step: number, metrics: LoggedMetrics): Promise<void> {
    return this.#each(async (logger) => logger.log(step, metrics));
  }

  async end(state: "finished" | "stopped"): Promise<void> {
    await this.#each(async (logger) => logger.end?.(state));
    this.#living = [];
  }

  async #each(tell: (logger: MetricsLogger) => Promise<void>): Promise<void> {
    const heard = await Promise.all(
      this.#living.map(async (logger) => {
        try {
          await withinTime(tell(logger), this.#patience);
          return [logger];
        } catch (error) {
          const why = error instanceof Error ? error.message : String(error);
          this.#warn(`${logger.name} hears no more of this run, whose numbers are in metrics.jsonl: ${why}`);
          return [];
        }
      }),
    );
    this.#living = heard.flat();
  }
}

async function withinTime(work: Promise<void>, ms: number): Promise<void> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer in ${ms / 1000} s`)), ms);
  });
  try {
    await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Names as transformers' callbacks give them to trackers: "train/loss", "eval/loss". */
export const trackedNames = (metrics: LoggedMetrics): [name: string, value: number][] =>
  Object.entries(metrics).map(([name, value]) => [
    name.startsWith("eval_") ? `eval/${name.slice("eval_".length)}` : `train/${name}`,
    value,
  ]);
