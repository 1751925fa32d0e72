/** From which checkpoint a run goes on. */
import { UserError } from "../runtime/errors.ts";
import { basename, dirname } from "../runtime/paths.ts";
import {
  type CheckpointedModel,
  checkpointSteps,
  type Restored,
  type RunFolder,
  restoreCheckpoint,
  restoreFrom,
} from "./checkpoint.ts";
import { damageIn } from "./checksums.ts";

/** The folder of the run that goes on: the own one, or that of a checkpoint that is named. */
export async function sourceOf({ files, path }: RunFolder, resume: boolean | string | undefined): Promise<string> {
  if (typeof resume !== "string") return path;
  if (stepOf(resume) === null || (await files.list(resume)).length === 0) {
    throw new UserError(
      `${resume} is no checkpoint: name a folder checkpoint-<step>, or the newest is taken without a name`,
    );
  }
  const source = dirname(resume);
  if (!files.real) return source;
  return (await files.real(source)) === (await files.real(path)) ? path : source;
}

const stepOf = (path: string): number | null => {
  const step = /^checkpoint-(\d+)$/.exec(basename(path))?.[1];
  return step === undefined ? null : Number(step);
};

/** Restores the newest checkpoint of a run's folder, or the one that is named; null where there is none. */
export async function restoreRun(
  run: RunFolder,
  resume: boolean | string,
  trainees: Record<string, CheckpointedModel>,
): Promise<Restored | null> {
  if (typeof resume !== "string") return restoreCheckpoint(run, trainees);
  const step = stepOf(resume) as number;
  const damage = await damageIn(run.files, resume);
  if (damage) throw new UserError(damage);
  const restored = await restoreFrom(run.files, resume, step, trainees);
  // Of the own folder's the later ones belong to what is not to be gone on with.
  if ((await sourceOf(run, resume)) === run.path) {
    const later = (await checkpointSteps(run.files, run.path)).filter((other) => other > step);
    for (const other of later) await run.files.remove(`${run.path}/checkpoint-${other}`);
  }
  return { ...restored, damaged: [] };
}
