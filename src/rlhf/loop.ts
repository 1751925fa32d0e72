/**
 * The rhythm of a run, which all trainers share: start or resume, step, evaluate, save, stop, end. A trainer describes its
 * steps; a run is an async generator of events that a terminal, a log file and a web page consume alike.
 */
import { Model } from "../nn/models.ts";
import type { SelfSavingModel } from "../nn/trained.ts";
import { isUserError, UserError } from "../runtime/errors.ts";
import { type Best, BestEvaluation, bestFolder } from "./best.ts";
import { BestModels } from "./best-models.ts";
import { Changes, plannedChanges } from "./changes.ts";
import { type CheckpointedModel, prune, type RunFolder, restoreModels, saveModels } from "./checkpoint.ts";
import { Clock, memoryNumbers, timesOf } from "./clock.ts";
import { changed, Desk } from "./desk.ts";
import type { Sample, TrainEvent } from "./events.ts";
import { Ledger } from "./ledger.ts";
import { checkEvaluation, checkFinite } from "./loop-checks.ts";
import { recorded } from "./recorded.ts";
import { restoreRun, sourceOf } from "./resume.ts";
import type { RunOptions } from "./run-options.ts";
import { dueBy, type SaveRhythm, Saver } from "./saver.ts";
import type { BestChoice, CommonSettings, EvaluationChoice } from "./settings.ts";
import { type Tell, Telling } from "./telling.ts";

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
  /**
   * Takes over a setting that changes between two steps, by its name in code, before it stands in the settings, which are made by
   * `live`. Gives what stood where the trainer goes by another number, else null. Throws a UserError where the change cannot be.
   */
  adjust?(key: string, value: number): number | null;
  /** From which step on, where others may be further than what was restored, of which `first` steps are done. */
  from?(first: number): Promise<number>;
  /** Is called with the first step, once everything is restored and before anything is learned. */
  begun?(first: number): Promise<void>;
  /** What is said of the data once the run has started: see `dataEvents`. */
  data?: readonly TrainEvent[];
  /** Passes over the data that are complete after `done` steps. */
  epoch(done: number): number;
  /**
   * Does what a step needs of others before anything is learned in it: responses, rewards. Where it fails by a user's or a
   * server's mistake, what was learned before is saved. What it tells is an event at once. The clock has its time as `rollout`, less
   * that of parts which it measures itself.
   */
  prepare?(step: number, tell: Tell, clock: Clock): Promise<P>;
  /** Takes a step (0-based). Everything is enqueued when the call returns, where `ahead` says so; else it may tell, too. */
  step(step: number, prepared: P, tell: Tell, clock: Clock): Promise<StepResult>;
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
  close(): void | Promise<void>;
}

/** A step that was taken, to be told of in its turn. */
interface Taken {
  event: TrainEvent & { type: "step" };
  others: TrainEvent[];
  idle: string | undefined;
}

/** Where checkpoints keep what the loop itself counts, and which evaluation was the best. */
const LEDGER = "ledger";
const BEST = "best";

/** The settings that the loop looks at. */
export type LoopSettings = CommonSettings & EvaluationChoice & BestChoice;

const here: ResidencyScope = (work) => work();

/** Runs a trainer's steps as events. */
export async function* loop<P>(
  steps: TrainerSteps<P>,
  settings: LoopSettings,
  run: RunOptions = {},
): AsyncGenerator<TrainEvent> {
  const atWork = new Set<Promise<unknown>>();
  const telling = new Telling();
  const under: Under = (work) => {
    atWork.add(work);
    // What it throws is thrown where it is awaited, unless an earlier step threw first.
    const done = () => void atWork.delete(work);
    work.then(done, done);
  };
  try {
    checkEvaluation(settings, steps.evaluate !== undefined);
    const { stage, maxSteps } = steps;
    if (run.learners && !("diloco" in steps.kept)) {
      throw new UserError(
        `${stage} is trained by one learner: sft, grpo and its kin, and the trainers of preferences can have several`,
      );
    }
    const tidy = async (of: SaveRhythm, best: number | null) =>
      run.folder && prune(run.folder, { due: savesOf(steps, of), best }, true);
    const around = steps.around?.models ?? here;
    const restore = async () => run.folder && around(() => restoreModels(run.folder as RunFolder, steps.finished()));
    yield* recorded(run, { stage, settings, maxSteps, tidy, restore }, () =>
      takeSteps(steps, settings, { ...run, under, telling }),
    );
  } finally {
    telling.close();
    // What is read of a step that was under way is freed when it is there.
    await Promise.allSettled(atWork);
    await steps.close();
  }
}

/** Hears of work that is under way. */
type Under = (work: Promise<unknown>) => void;

/** A run, and what holds its steps together. */
type Running = RunOptions & { under: Under; telling: Telling };

/** When checkpoints are due that are kept. */
const savesOf = ({ epoch }: Pick<TrainerSteps, "epoch">, { saveSteps, saveStrategy }: SaveRhythm) =>
  dueBy(saveStrategy, saveSteps, epoch);

async function* takeSteps<P>(steps: TrainerSteps<P>, settings: LoopSettings, run: Running): AsyncGenerator<TrainEvent> {
  const { folder } = run;
  const { kept } = steps;
  const around = steps.around ?? { checkpoint: here, models: here };
  const optimizers = Object.values(kept).flatMap(({ optimizer }) => optimizer ?? []);
  const ledger = new Ledger(optimizers, settings);
  const best = BestEvaluation.of(settings);
  const { first, changes } = yield* begin(steps, settings, run, around, ledger, best);
  const desk = new Desk(changes, run);
  await desk.begin(first);
  const state = async () => ({
    ...(await steps.state?.save()),
    [LEDGER]: ledger.save(),
    ...(best && { [BEST]: best.save() }),
  });
  const parts = { kept, state, around: around.checkpoint, best: () => best?.spared ?? null };
  const saver = folder ? new Saver(folder, savesOf(steps, settings), settings.saveMinutes, parts) : null;
  const bestModels = best?.loads ? new BestModels(folder, saver, parts) : null;
  try {
    const trained = yield* train(steps, settings, run, first, { saver, ledger, best, bestModels, desk });
    if (trained === null) return;
    const { step, metrics } = trained;
    if (saver) yield* await saver.settle();
    yield* await ledger.close(step);
    const early = best !== null && step < steps.maxSteps;
    if (early) yield { type: "note", step, text: best.reason };
    if (bestModels) yield await restoreBest(steps, step, best?.found ?? null, bestModels);
    if (folder) await around.models(() => saveModels(folder, steps.finished()));
    const outcome = { ...(best?.found && { best: best.found }), ...(early && { stoppedEarly: true }) };
    yield { type: "end", step, metrics, ...outcome };
  } finally {
    await saver?.close();
  }
}

/** Brings back the models of the best evaluation, and says so. */
async function restoreBest(
  { state }: Pick<TrainerSteps, "state">,
  step: number,
  best: Best | null,
  models: BestModels,
): Promise<TrainEvent> {
  if (best === null) {
    return { type: "warning", step, text: "no evaluation gave a finite number to compare: the last weights are kept" };
  }
  if (best.step !== step) {
    const { [LEDGER]: _, [BEST]: __, ...saved } = await models.restore(best);
    state?.load(saved);
  }
  const text = `the finished weights are those of step ${best.step}, which evaluated best: ${best.metric} ${best.value}`;
  return { type: "note", step, text };
}

/** Restores a checkpoint where the run is to go on from one, and says where it starts. Returns the steps that are done. */
async function* begin<P>(
  steps: TrainerSteps<P>,
  settings: LoopSettings,
  { folder, resume, changes: given = [] }: RunOptions,
  around: NonNullable<TrainerSteps<P>["around"]>,
  ledger: Ledger,
  best: BestEvaluation | null,
): AsyncGenerator<TrainEvent, { first: number; changes: Changes }> {
  const { stage, maxSteps, kept, parameters } = steps;
  const restored = folder && resume ? await around.checkpoint(() => restoreRun(folder, resume, kept)) : null;
  const done = restored?.step ?? 0;
  const note = (text: string): TrainEvent => ({ type: "note", step: done, text });
  for (const damage of restored?.damaged ?? []) yield note(`${damage}; an older checkpoint is taken`);
  if (restored) yield note(`resuming from checkpoint-${done} of ${maxSteps}`);
  else if (folder && resume) yield note(`no checkpoint in ${folder.path}: starting at step 1`);
  if (done > maxSteps) {
    throw new UserError(`checkpoint-${done} has taken more than ${maxSteps} steps: ask for at least as many`);
  }
  const source = folder && resume ? await sourceOf(folder, resume) : null;
  const planned = await plannedChanges(folder ?? null, { source, given });
  const changes = new Changes(folder ?? null, settings, planned, steps.adjust?.bind(steps));
  const made = changes.make(done); // before a state is loaded that knows of them
  let doubt: string | null = null;
  if (restored && folder) {
    const { [LEDGER]: counts, [BEST]: judged, ...state } = restored.state;
    await ledger.load(counts as ReturnType<Ledger["save"]> | undefined);
    steps.state?.load(state);
    const there = async (checkpoint: string) =>
      (await folder.files.list(bestFolder(folder.path, checkpoint))).length > 0;
    const saved = judged as ReturnType<BestEvaluation["save"]> | undefined;
    doubt = (await best?.load(saved, source === folder.path ? null : source, there)) ?? null;
  }
  const first = (await steps.from?.(done)) ?? done;
  if (first !== done) yield note(`the other learners are at step ${first}: going on from where they are`);
  await steps.begun?.(first);
  const totalParameters = parameters + frozen(kept);
  const known = best?.found && { best: best.found };
  yield { type: "start", stage, step: first, maxSteps, parameters, totalParameters, ...known };
  if (doubt !== null) yield { type: "warning", step: first, text: doubt };
  yield* steps.data ?? [];
  yield* made.map(changed);
  return { first, changes };
}

/** Who hears of a run's steps. */
interface Hearers {
  saver: Saver | null;
  ledger: Ledger;
  best: BestEvaluation | null;
  bestModels: BestModels | null;
  desk: Desk;
}

/** Takes the steps from `first` on. Returns the last step and its metrics, or null where the run was stopped and saved. */
async function* train<P>(
  steps: TrainerSteps<P>,
  settings: LoopSettings,
  { signal, under, telling }: Running,
  first: number,
  { saver, ledger, best, bestModels, desk }: Hearers,
): AsyncGenerator<TrainEvent, { step: number; metrics: Record<string, number> } | null> {
  const { maxSteps } = steps;
  const { evalSteps = 0, evalStrategy = "steps" } = settings;
  const byRhythm = dueBy(evalStrategy, evalSteps, steps.epoch);
  const evalDue = (done: number) => evalStrategy !== "no" && (done === maxSteps || byRhythm(done));
  const evaluated = async (done: number): Promise<TrainEvent & { type: "eval" }> => {
    const begun = now();
    const found = await steps.evaluate!(done);
    return { type: "eval", step: done, ...found, seconds: now() - begun };
  };
  if (first === 0 && steps.evaluate && steps.evaluateFirst && evalStrategy !== "no") {
    const start = await evaluated(0);
    best?.metricOf(start.metrics); // a wrong name shows at once; the start itself is none of the models to choose from
    yield start;
  }

  const prepared = async (step: number, clock: Clock): Promise<P> => {
    try {
      const { prepare } = steps;
      if (!prepare) return undefined as P;
      return await clock.during("rollout", () => prepare.call(steps, step, telling.on(clock), clock));
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
  const take = async (step: number, own: P, started: number, held: number, clock: Clock): Promise<Taken> => {
    const { metrics, tokens, samples, idle, events = [] } = await steps.step(step, own, telling.on(clock), clock);
    const done = step + 1;
    checkFinite(done, metrics, steps.finite, settings);
    // A step that was enqueued ahead has the GPU to itself only once the one before it is done.
    const begun = Math.max(started, ended);
    ended = now();
    const seconds = ended - begun - (telling.held - held);
    const shown: TrainEvent[] = samples?.length ? [{ type: "samples", step: done, samples: [...samples] }] : [];
    const usage = { ...timesOf(clock.parts, seconds), ...memoryNumbers() };
    const epoch = steps.epoch(done);
    const event = { type: "step", step: done, maxSteps, epoch, metrics, tokens, seconds, usage } as const;
    return { event, others: [...events, ...shown], idle };
  };
  const told = ({ event, others, idle }: Taken): TrainEvent[] => [
    event,
    ...ledger.note(event.step, event.metrics, idle),
    ...others,
  ];

  let pending: Promise<Taken> | null = null;
  let last: Record<string, number> = {};
  let reached = first;
  yield* desk.upcoming(first);
  for (let step = first; step < maxSteps && !best?.exhausted; step++) {
    const [started, held, clock] = [now(), telling.held, new Clock()];
    const preparing = prepared(step, clock);
    under(preparing);
    const taken: Promise<Taken> = take(step, yield* telling.during(preparing), started, held, clock);
    under(taken);
    if (pending) yield* told(await pending);
    if (saver) yield* saver.news();
    pending = taken;
    const done = step + 1;
    const asked = await desk.look(done);
    let stop = signal?.aborted === true || desk.stops;
    const evaluate = steps.evaluate && evalDue(done);
    const save = saver?.due(done) || saver?.late;
    if (steps.ahead && !stop && !evaluate && !save && !asked && done < maxSteps) continue;

    const settled: Taken = yield* telling.during(taken);
    pending = null;
    reached = done;
    last = settled.event.metrics;
    yield* told(settled);
    let better = false;
    if (evaluate) {
      const event = await evaluated(done);
      better = best?.take(done, event.metrics, saver ? `checkpoint-${done}` : undefined) ?? false;
      last = { ...last, ...event.metrics };
      yield { ...event, ...(best?.found && { best: best.found }) };
    }
    stop ||= signal?.aborted === true; // whoever takes the events may have stopped at this step
    const keep = better && bestModels;
    if (saver && (stop || keep || saver.due(done))) {
      yield* await saver.save(done);
      desk.saved(done);
    } else if (saver?.late && done < maxSteps) await saver.saveBeside(done);
    if (keep) await bestModels.keep(done);
    // What was asked for before a stop is granted, too.
    if ((stop || done < maxSteps) && (yield* desk.between(done, saver))) return null;
    if (stop) return null;
  }
  return { step: reached, metrics: last };
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

/** Seconds since some moment, for events; never an input to a result. */
const now = (): number => performance.now() / 1000;
