/** Begins a training run in its folder, and keeps its record: written at the start, brought up to date at the end. */
import { UserError } from "../runtime/errors.ts";
import type { Files } from "../runtime/files.ts";
import { snakeCase } from "../runtime/names.ts";
import { VERSION } from "../runtime/version.ts";
import { checkpointSteps, type RunFolder } from "./checkpoint.ts";
import type { TrainEvent } from "./events.ts";
import { RECORD, type RunFacts, type RunRecord, readRecord, recordOf, writeRecord } from "./record.ts";
import { sourceOf } from "./resume.ts";
import { admitFresh, admitResumed } from "./run-folder.ts";
import type { RunOptions } from "./run-options.ts";
import type { SaveRhythm } from "./saver.ts";

/** A training, so far as its trainer knows it by itself. */
export interface Training {
  /** The method's name. */
  stage: string;
  settings: object;
  /** Steps, where they are known before it begins. */
  maxSteps?: number;
  /** Removes the checkpoints that only a run needs which may still break off; told how the run saved. */
  tidy?(saves: SaveRhythm): Promise<void>;
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
      yield { type: "note", step: before.steps ?? 0, text: `${path}: finished, nothing to do` };
      await training.restore();
      const { save_steps: saveSteps = 0, save_strategy: saveStrategy = "steps" } = before.settings;
      await training.tidy?.({ saveSteps, saveStrategy } as SaveRhythm);
      yield { type: "end", step: before.steps ?? 0, metrics: {} };
      return;
    }
    yield* kept(folder, facts, training, train);
  } finally {
    await release?.();
  }
}

/** Whether a finished run is asked for more steps; it needs a checkpoint for that. */
async function hasMore(
  { files, path }: RunFolder,
  before: RunRecord,
  { settings }: RunFacts,
  { maxSteps }: Training,
): Promise<boolean> {
  const rounds = (of: Readonly<Record<string, unknown>>) => Number(of.iterations);
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
  const keep = (state: RunRecord["state"], steps: number | null = null) =>
    writeRecord(files, recordOf(path), { ...facts, state, steps });
  let steps: number | null = null;
  let begun = false;
  try {
    for await (const event of train()) {
      // Before its start a run may still be refused: the record is of what is there already.
      if (event.type === "start") {
        await keep("running");
        begun = true;
      }
      yield event;
      if (event.type === "end") steps = event.step;
    }
  } catch (error) {
    // The first error is the one to tell. Where nothing else is there, nothing was begun.
    if (begun) await ((await isAlone(files, path)) ? files.remove(recordOf(path)) : keep("failed")).catch(() => {});
    throw error;
  }
  if (!begun) return;
  await keep(steps === null ? "stopped" : "finished", steps);
  if (steps !== null) await training.tidy?.(training.settings as SaveRhythm);
}

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
