/** Begins a training run in its folder, and keeps its record: written at the start, brought up to date at the end. */
import { UserError } from "../runtime/errors.ts";
import type { Files } from "../runtime/files.ts";
import { snakeCase } from "../runtime/names.ts";
import { VERSION } from "../runtime/version.ts";
import type { Best } from "./best.ts";
import { checkpointSteps, type RunFolder } from "./checkpoint.ts";
import type { TrainEvent } from "./events.ts";
import { RECORD, type RunFacts, type RunRecord, readRecord, recordOf, writeRecord } from "./record.ts";
import { sourceOf } from "./resume.ts";
import { admitFresh, admitResumed } from "./run-folder.ts";
import type { RunOptions } from "./run-options.ts";
import type { SaveRhythm } from "./saver.ts";
import { type BestChoice, bestModel } from "./settings.ts";

/** A training, so far as its trainer knows it by itself. */
export interface Training {
  /** The method's name. */
  stage: string;
  settings: object;
  /** Steps, where they are known before it begins. */
  maxSteps?: number;
  /**
   * Removes the checkpoints that only a run needs which may still break off; told how the run saved.
   * @param best the step whose checkpoint has the best weights, which stays
   */
  tidy?(saves: SaveRhythm, best: number | null): Promise<void>;
  /** Loads what a finished run left into the models, so that whoever resumes it holds what it trained. */
  restore(): Promise<void>;
}

/**
 * Passes a trainer's events on, and writes what becomes of the run into its folder, which nobody else has meanwhile. A finished
 * run that is to be resumed loads what it trained, and ends.
 * @throws UserError where the folder holds another run, or one that other settings would change
 */
export async function* recorded(
  run: RunOptions,
  training: Training,
  train: () => AsyncGenerator<TrainEvent>,
): AsyncGenerator<TrainEvent> {
  const { folder, record } = run;
  if (!folder || record === null) return yield* train();
  const { files, path } = folder;
  const release = await files.claim?.(path);
  try {
    const facts = record ?? factsOf(training);
    const source = await sourceOf(folder, run.resume);
    const before = await readRecord(files, recordOf(source));
    const said: string[] = [];
    if (run.resume) said.push(...admitResumed({ files, path: source, before, facts }, run.acceptChanges));
    if (source !== path || !run.resume) {
      const there = source === path ? before : await readRecord(files, recordOf(path));
      said.push(...(await admitFresh({ files, path, before: there, facts }, run.overwrite ?? false)));
    }
    for (const text of said) yield { type: "note", step: 0, text };
    const finished = run.resume && source === path && before?.state === "finished";
    if (finished && !(await hasMore(folder, before, facts, training))) {
      const { steps, best, stoppedEarly } = before;
      const early = stoppedEarly ? ` (it stopped early; a longer ${nameOf("earlyStoppingPatience")} goes on)` : "";
      yield { type: "note", step: steps ?? 0, text: `${path}: finished, nothing to do${early}` };
      await training.restore();
      const { save_steps: saveSteps = 0, save_strategy: saveStrategy = "steps" } = before.settings;
      await training.tidy?.({ saveSteps, saveStrategy } as SaveRhythm, sparedOf(best));
      const outcome = { ...(best && { best }), ...(stoppedEarly && { stoppedEarly }) };
      yield { type: "end", step: steps ?? 0, metrics: {}, ...outcome };
      return;
    }
    yield* kept(folder, facts, training, train);
  } finally {
    await release?.();
  }
}

/** Names of settings as records have them. */
const nameOf = snakeCase;

/** Whether a finished run is asked for more steps; it needs a checkpoint for that. One that stopped early needs another reason. */
async function hasMore(
  { files, path }: RunFolder,
  before: RunRecord,
  { settings }: RunFacts,
  { maxSteps }: Training,
): Promise<boolean> {
  const rounds = (of: Readonly<Record<string, unknown>>) => Number(of.iterations);
  const changed = (key: keyof BestChoice) => settings[nameOf(key)] !== before.settings[nameOf(key)];
  if (before.stoppedEarly && !(Object.keys(bestModel) as (keyof BestChoice)[]).some(changed)) return false;
  if (before.stoppedEarly && maxSteps === undefined) return true;
  if (maxSteps === undefined) return rounds(settings) > rounds(before.settings);
  if (before.steps === null || maxSteps <= before.steps) return false;
  if ((await checkpointSteps(files, path)).length > 0) return true;
  throw new UserError(
    `${path} is finished at step ${before.steps} and kept no checkpoint, so it cannot go on to step ${maxSteps}: train its model ` +
      "further as model_name_or_path of a run in another folder",
  );
}

async function* kept(
  { files, path }: RunFolder,
  facts: RunFacts,
  training: Training,
  train: () => AsyncGenerator<TrainEvent>,
): AsyncGenerator<TrainEvent> {
  const keep = (state: RunRecord["state"], end: Pick<RunRecord, "steps" | "best" | "stoppedEarly"> = { steps: null }) =>
    writeRecord(files, recordOf(path), { ...facts, state, ...end });
  let ended: (TrainEvent & { type: "end" }) | null = null;
  let begun = false;
  try {
    for await (const event of train()) {
      // Before its start a run may still be refused: the record is of what is there already.
      if (event.type === "start") {
        await keep("running");
        begun = true;
      }
      yield event;
      if (event.type === "end") ended = event;
    }
  } catch (error) {
    // The first error is the one to tell. Where nothing else is there, nothing was begun.
    if (begun) await ((await isAlone(files, path)) ? files.remove(recordOf(path)) : keep("failed")).catch(() => {});
    throw error;
  }
  if (!begun) return;
  if (ended === null) return keep("stopped");
  const { step: steps, best, stoppedEarly } = ended as TrainEvent & { type: "end" };
  await keep("finished", { steps, best, stoppedEarly });
  await training.tidy?.(training.settings as SaveRhythm, sparedOf(best));
}

/** The step whose checkpoint stays as the best. */
const sparedOf = (best: Best | undefined): number | null => (best?.checkpoint ? best.step : null);

/** Whether a record is all that a folder holds. */
const isAlone = async (files: Files, path: string): Promise<boolean> =>
  (await files.list(path)).every((name) => name === RECORD || name.startsWith("."));

/** The facts of a run whose trainer was called with nothing but its settings. */
const factsOf = ({ stage, settings }: Training): RunFacts => ({
  verb: stage,
  webrlhf: VERSION,
  adapter: null,
  settings: Object.fromEntries(Object.entries(settings).map(([key, value]) => [snakeCase(key), value])),
  inputs: [],
  parents: [],
});
