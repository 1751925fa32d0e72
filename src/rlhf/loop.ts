/**
 * The rhythm of a run, which all trainers share: start or resume, step, evaluate, save, stop, end. A trainer describes its
 * steps; a run is an async generator of events that a terminal, a log file and a web page consume alike.
 */
import { Model } from "../nn/models.ts";
import type { SelfSavingModel } from "../nn/trained.ts";
import { isUserError, UserError } from "../runtime/errors.ts";
import { spelled } from "../settings/index.ts";
import { type CheckpointedModel, prune, type RunFolder, restoreModels, saveModels } from "./checkpoint.ts";
import type { Sample, TrainEvent } from "./events.ts";
import { Ledger } from "./ledger.ts";
import { recorded } from "./recorded.ts";
import { restoreRun } from "./resume.ts";
import type { RunOptions } from "./run-options.ts";
import { dueBy, type SaveRhythm, Saver } from "./saver.ts";
import { type CommonSettings, type EvaluationChoice, evaluationAsked } from "./settings.ts";

export type { RunOptions } from "./run-options.ts";

/** The result of a training step. */
export interface StepResult {
  metrics: Record<string, number>;
  /** Tokens that were sampled or learned from. */
  tokens: number;
  samples?: readonly Sample[];
  /** Why nothing was learned in the step; absent where something was. A run of which no step learns anything fails. */
  idle?: string | undefined;
  /** Rows of tables, warnings and what else is to be said after the step. */
  events?: readonly TrainEvent[];
}

/** The result of an evaluation during training. */
export interface EvalResult {
  metrics: Record<string, number>;
  /** Rows of a table to show beside the metrics. */
  rows?: Record<string, string | number>[];
}

/** Runs work with the models that it needs on the GPU; they may wait on the host before and after. */
export type ResidencyScope = <R>(work: () => Promise<R>) => Promise<R>;

/** A trainer's part of its run. `P` is what a step prepares before it learns. */
export interface TrainerSteps<P = void> {
  /** The method's name: "ppo". */
  stage: string;
  maxSteps: number;
  /** Trained parameters. */
  parameters: number;
  /** What checkpoints hold, by subfolder; "" for a single model. */
  kept: Record<string, CheckpointedModel>;
  /** What changes besides weights and moments: checkpoints keep it, as JSON. */
  state?: {
    save(): Record<string, unknown> | Promise<Record<string, unknown>>;
    load(saved: Record<string, unknown>): void;
  };
  /** Is called with the first step, once everything is restored and before anything is learned. */
  begun?(first: number): Promise<void>;
  /** What is said of the data once the run has started: see `dataEvents`. */
  data?: readonly TrainEvent[];
  /** Passes over the data that are complete after `done` steps. */
  epoch(done: number): number;
  /**
   * Does what a step needs of others before anything is learned in it: responses, rewards. Where it fails by a user's or a
   * server's mistake, what was learned before is saved.
   */
  prepare?(step: number): Promise<P>;
  /** Takes a step (0-based). Everything is enqueued when the call returns, where `ahead` says so. */
  step(step: number, prepared: P): Promise<StepResult>;
  /** The next step may be enqueued before this one's numbers are read, so that the GPU never waits. Default false. */
  ahead?: boolean;
  /** Metrics that must be finite: training on would only spread what is not. */
  finite: readonly string[];
  /** Measures on held-out data. Absent where there are none. */
  evaluate?(done: number): Promise<EvalResult>;
  /** Evaluates before the first step, too. Default false. */
  evaluateFirst?: boolean;
  /** The models of a finished run, by subfolder of its folder; "" is the folder itself. */
  finished(): Record<string, Model | SelfSavingModel>;
  /** Brings to the GPU what checkpoints read or write, and what a finished run writes. Default: all is there. */
  around?: { checkpoint: ResidencyScope; models: ResidencyScope };
  /** Gives back what the trainer made. Is called once, however the run ends. */
  close(): void;
}

/** A step that was taken, to be told of in its turn. */
interface Taken {
  event: TrainEvent & { type: "step" };
  others: TrainEvent[];
  idle: string | undefined;
}

/** Where checkpoints keep what the loop itself counts. */
const LEDGER = "ledger";

/** The settings that the loop looks at. */
export type LoopSettings = CommonSettings & EvaluationChoice;

const here: ResidencyScope = (work) => work();

/** Runs a trainer's steps as events. */
export async function* loop<P>(
  steps: TrainerSteps<P>,
  settings: LoopSettings,
  run: RunOptions = {},
): AsyncGenerator<TrainEvent> {
  let newest: Promise<unknown> | null = null;
  const under: Under = (taken) => {
    newest = taken;
    taken.catch(() => {}); // thrown where it is awaited, unless an earlier step threw first
  };
  try {
    const asked = evaluationAsked(settings);
    if (asked !== null && !steps.evaluate) {
      const held = ["evalDatasetName", "datasetTestSplit", "testSize"].map((key) => spelled(settings, key)).join(", ");
      throw new UserError(`${asked} needs held-out data: name some (${held}), or leave it out`);
    }
    const { stage, maxSteps } = steps;
    const tidy = async (of: SaveRhythm) => run.folder && prune(run.folder, savesOf(steps, of), true);
    const around = steps.around?.models ?? here;
    const restore = async () => run.folder && around(() => restoreModels(run.folder as RunFolder, steps.finished()));
    yield* recorded(run, { stage, settings, maxSteps, tidy, restore }, () => takeSteps(steps, settings, run, under));
  } finally {
    // What is read of a step that was under way is freed when it is there.
    await (newest as Promise<unknown> | null)?.catch(() => {});
    steps.close();
  }
}

/** Hears of a step that is under way. */
type Under = (taken: Promise<unknown>) => void;

/** When checkpoints are due that are kept. */
const savesOf = ({ epoch }: Pick<TrainerSteps, "epoch">, { saveSteps, saveStrategy }: SaveRhythm) =>
  dueBy(saveStrategy, saveSteps, epoch);

async function* takeSteps<P>(
  steps: TrainerSteps<P>,
  settings: LoopSettings,
  run: RunOptions,
  under: Under,
): AsyncGenerator<TrainEvent> {
  const { folder } = run;
  const { kept } = steps;
  const around = steps.around ?? { checkpoint: here, models: here };
  const optimizers = Object.values(kept).flatMap(({ optimizer }) => optimizer ?? []);
  const ledger = new Ledger(optimizers, settings);
  const first = yield* begin(steps, run, around, ledger);
  const state = async () => ({ ...(await steps.state?.save()), [LEDGER]: ledger.save() });
  const saver = folder
    ? new Saver(folder, savesOf(steps, settings), settings.saveMinutes, { kept, state, around: around.checkpoint })
    : null;
  try {
    const metrics = yield* train(steps, settings, { ...run, under }, first, saver, ledger);
    if (metrics === null) return;
    if (saver) yield* await saver.settle();
    yield* await ledger.close(steps.maxSteps);
    if (folder) await around.models(() => saveModels(folder, steps.finished()));
    yield { type: "end", step: steps.maxSteps, metrics };
  } finally {
    await saver?.close();
  }
}

/** Restores a checkpoint where the run is to go on from one, and says where it starts. Returns the steps that are done. */
async function* begin<P>(
  steps: TrainerSteps<P>,
  { folder, resume }: RunOptions,
  around: NonNullable<TrainerSteps<P>["around"]>,
  ledger: Ledger,
): AsyncGenerator<TrainEvent, number> {
  const { stage, maxSteps, kept, parameters } = steps;
  const restored = folder && resume ? await around.checkpoint(() => restoreRun(folder, resume, kept)) : null;
  const first = restored?.step ?? 0;
  const note = (text: string): TrainEvent => ({ type: "note", step: first, text });
  for (const damage of restored?.damaged ?? []) yield note(`${damage}; an older checkpoint is taken`);
  if (restored) yield note(`resuming from checkpoint-${first} of ${maxSteps}`);
  else if (folder && resume) yield note(`no checkpoint in ${folder.path}: starting at step 1`);
  if (first > maxSteps) {
    throw new UserError(`checkpoint-${first} has taken more than ${maxSteps} steps: ask for at least as many`);
  }
  if (restored) {
    const { [LEDGER]: counts, ...state } = restored.state;
    await ledger.load(counts as ReturnType<Ledger["save"]> | undefined);
    steps.state?.load(state);
  }
  await steps.begun?.(first);
  yield { type: "start", stage, step: first, maxSteps, parameters, totalParameters: parameters + frozen(kept) };
  yield* steps.data ?? [];
  return first;
}

/** Takes the steps from `first` on. Returns the last metrics, or null where the run was stopped and saved. */
async function* train<P>(
  steps: TrainerSteps<P>,
  settings: LoopSettings,
  { signal, under }: RunOptions & { under: Under },
  first: number,
  saver: Saver | null,
  ledger: Ledger,
): AsyncGenerator<TrainEvent, Record<string, number> | null> {
  const { maxSteps } = steps;
  const { evalSteps = 0, evalStrategy = "steps" } = settings;
  const byRhythm = dueBy(evalStrategy, evalSteps, steps.epoch);
  const evalDue = (done: number) => evalStrategy !== "no" && (done === maxSteps || byRhythm(done));
  const evaluated = async (done: number): Promise<TrainEvent & { type: "eval" }> => ({
    type: "eval",
    step: done,
    ...(await steps.evaluate!(done)),
  });
  if (first === 0 && steps.evaluate && steps.evaluateFirst && evalStrategy !== "no") yield await evaluated(0);

  const prepared = async (step: number): Promise<P> => {
    try {
      return (await steps.prepare?.(step)) as P;
    } catch (error) {
      if (!saver || !isUserError(error) || step === first || saver.due(step)) throw error;
      const saved = await saver.save(step).catch(() => null); // the first error is the one to tell
      if (!saved) throw error;
      throw new UserError(`${error.message}. What was learned before is in checkpoint-${step}: resume from it`, {
        cause: error,
      });
    }
  };
  let ended = 0;
  const take = async (step: number, own: P, started: number): Promise<Taken> => {
    const { metrics, tokens, samples, idle, events = [] } = await steps.step(step, own);
    const done = step + 1;
    checkFinite(done, metrics, steps.finite, settings);
    // A step that was enqueued ahead has the GPU to itself only once the one before it is done.
    const begun = Math.max(started, ended);
    ended = now();
    const seconds = ended - begun;
    const shown: TrainEvent[] = samples?.length ? [{ type: "samples", step: done, samples: [...samples] }] : [];
    const event = { type: "step", step: done, maxSteps, epoch: steps.epoch(done), metrics, tokens, seconds } as const;
    return { event, others: [...events, ...shown], idle };
  };
  const told = ({ event, others, idle }: Taken): TrainEvent[] => [
    event,
    ...ledger.note(event.step, event.metrics, idle),
    ...others,
  ];

  let pending: Promise<Taken> | null = null;
  let last: Record<string, number> = {};
  for (let step = first; step < maxSteps; step++) {
    const started = now();
    const taken: Promise<Taken> = take(step, await prepared(step), started);
    under(taken);
    if (pending) yield* told(await pending);
    if (saver) yield* saver.news();
    pending = taken;
    const done = step + 1;
    let stop = signal?.aborted === true;
    const evaluate = steps.evaluate && evalDue(done);
    const save = saver?.due(done) || saver?.late;
    if (steps.ahead && !stop && !evaluate && !save && done < maxSteps) continue;

    const settled: Taken = await pending;
    pending = null;
    last = settled.event.metrics;
    yield* told(settled);
    if (evaluate) {
      const event = await evaluated(done);
      last = { ...last, ...event.metrics };
      yield event;
    }
    stop ||= signal?.aborted === true; // whoever takes the events may have stopped at this step
    if (saver && (stop || saver.due(done))) yield* await saver.save(done);
    else if (saver?.late && done < maxSteps) await saver.saveBeside(done);
    if (stop) return null;
  }
  return last;
}

/** Parameters of the models that trained adapters stand on, each model counted once. */
function frozen(kept: Record<string, CheckpointedModel>): number {
  const bases = new Set<Model>();
  for (const { model } of Object.values(kept)) {
    let base = model instanceof Model ? model.baseModel : null;
    for (; base; base = base.baseModel) bases.add(base);
  }
  return [...bases].reduce((sum, { store }) => sum + store.count, 0);
}

/** Throws where a number that must be finite is not. */
function checkFinite(step: number, metrics: Record<string, number>, names: readonly string[], settings: object): void {
  for (const name of names) {
    if (metrics[name] === undefined || Number.isFinite(metrics[name])) continue;
    throw new UserError(
      `${name} became ${metrics[name]} at step ${step}: lower ${spelled(settings, "learningRate")} or ` +
        `${spelled(settings, "maxGradNorm")}; the last checkpoint is untouched`,
    );
  }
}

/** Seconds since some moment, for events; never an input to a result. */
const now = (): number => performance.now() / 1000;
