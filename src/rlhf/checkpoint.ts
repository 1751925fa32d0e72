/**
 * Checkpoints: `checkpoint-<step>/` folders that hold each model as a Hugging Face folder (of an adapter, PEFT's files),
 * the optimizers' moments in training_state.safetensors, and the rest of the trainer's state in trainer_state.json. A
 * folder is written under a temporary name, synced and renamed, so a checkpoint that exists is whole.
 */
import { removeStaleWeights } from "../io/model-files.ts";
import { openSafetensors } from "../io/safetensors.ts";
import { streamSafetensors, type TensorToWrite } from "../io/safetensors-write.ts";
import type { Model } from "../nn/models.ts";
import type { AdamW } from "../nn/optimizer.ts";
import { restoreTrained, type SelfSavingModel, trainedFiles } from "../nn/trained.ts";
import { UserError } from "../runtime/errors.ts";
import { type FileContent, type Files, isPartial, parseJson, readNeeded } from "../runtime/files.ts";

/** A model in training. */
export interface Trainee {
  model: Model | SelfSavingModel;
  optimizer: AdamW;
}

/** A model that changes along with those in training; or one of these. */
export type CheckpointedModel = Trainee | { model: Model | SelfSavingModel; optimizer?: undefined };

/** Where a run keeps its checkpoints. */
export interface RunFolder {
  files: Files;
  /** The run's output folder. */
  path: string;
  /** Files that go beside every saved model: the tokenizer's. */
  besides?: Record<string, FileContent>;
  /** Keep only the newest so many checkpoints; 0 keeps all. Default 1. */
  keep?: number;
}

const STATE = "training_state.safetensors";
const INFO = "trainer_state.json";
const PATTERN = /^checkpoint-(\d+)$/;

/** Saves everything a run needs to go on; `trainees` by subfolder name, "" for a single model. Returns the folder's name. */
export async function saveCheckpoint(
  run: RunFolder,
  step: number,
  trainees: Record<string, CheckpointedModel>,
  state: Record<string, unknown>,
): Promise<string> {
  const folder: Record<string, FileContent> = {};
  const moments: TensorToWrite[] = [];
  for (const [name, { model, optimizer }] of Object.entries(trainees)) {
    const prefix = name ? `${name}/` : "";
    for (const [file, content] of Object.entries({ ...(await trainedFiles(model)), ...run.besides })) {
      folder[prefix + file] = content;
    }
    if (!optimizer) continue;
    const { m, v, control } = await optimizer.state();
    const put = (key: string, data: Float32Array) => {
      moments.push({ name: `${name || "model"}.${key}`, shape: [data.length], dtype: "F32", read: async () => data });
    };
    for (const [i, data] of m.entries()) put(`m.${i}`, data);
    for (const [i, data] of v.entries()) put(`v.${i}`, data);
    put("control", control);
  }
  folder[STATE] = streamSafetensors(moments);
  folder[INFO] = `${JSON.stringify({ global_step: step, state }, null, 2)}\n`;
  const name = `checkpoint-${step}`;
  await run.files.writeFolder(`${run.path}/${name}`, folder);
  await removeOld(run);
  return name;
}

async function removeOld({ files, path, keep = 1 }: RunFolder): Promise<void> {
  if (keep === 0) return;
  const steps = await checkpointSteps(files, path);
  for (const step of steps.slice(0, -keep)) await files.remove(`${path}/checkpoint-${step}`);
}

/** Steps of the checkpoints in a folder, ascending. */
export async function checkpointSteps(files: Files, path: string): Promise<number[]> {
  const names = await files.list(path);
  return names
    .flatMap((name) => PATTERN.exec(name)?.[1] ?? [])
    .map(Number)
    .sort((a, b) => a - b);
}

/**
 * How a run begins: from the newest checkpoint where `resume` says so, else from the start (null). A fresh start refuses a
 * folder with checkpoints, since a later resume could not tell which of them are its own.
 */
export async function begin(
  run: RunFolder | undefined,
  resume: boolean | undefined,
  trainees: Record<string, CheckpointedModel>,
): Promise<{ step: number; state: Record<string, unknown> } | null> {
  if (!run) return null;
  if (resume) return restoreCheckpoint(run, trainees);
  const step = (await checkpointSteps(run.files, run.path)).at(-1);
  if (step !== undefined) {
    throw new UserError(
      `${run.path} holds checkpoint-${step} of an earlier run: resume from it, choose another output folder, or delete it`,
    );
  }
  await removeLeftovers(run, []);
  return null;
}

/** Removes what interrupted writes left: in the output folder, in its models' folders and in its checkpoints. */
async function removeLeftovers({ files, path }: RunFolder, models: readonly string[]): Promise<void> {
  const checkpoints = (await checkpointSteps(files, path)).map((step) => `${path}/checkpoint-${step}`);
  const folders = [path, ...checkpoints].flatMap((folder) => [folder, ...models.map((name) => `${folder}/${name}`)]);
  await removePartial(files, folders);
}

/** Removes what interrupted writes left in these folders. */
export async function removePartial(files: Files, folders: readonly string[]): Promise<void> {
  for (const folder of new Set(folders)) {
    for (const name of await files.list(folder)) if (isPartial(name)) await files.remove(`${folder}/${name}`);
  }
}

/**
 * Restores the newest checkpoint into the trainees and returns its step and state, or null when there is none.
 * Leftovers of interrupted writes are removed.
 */
export async function restoreCheckpoint(
  run: RunFolder,
  trainees: Record<string, CheckpointedModel>,
): Promise<{ step: number; state: Record<string, unknown> } | null> {
  await removeLeftovers(run, Object.keys(trainees).filter(Boolean));
  const step = (await checkpointSteps(run.files, run.path)).at(-1);
  if (step === undefined) return null;
  const folder = `${run.path}/checkpoint-${step}`;
  const needed = (file: string) =>
    readNeeded(run.files, `${folder}/${file}`, "the checkpoint is not whole; delete its folder");
  for (const [name, { model }] of Object.entries(trainees)) {
    await restoreTrained(model, run.files, name ? `${folder}/${name}` : folder);
  }
  await restoreMoments(run.files, `${folder}/${STATE}`, trainees);
  const info = parseJson<{ global_step?: unknown; state?: unknown }>(await needed(INFO), `${folder}/${INFO}`);
  if (info.global_step !== step || typeof info.state !== "object" || info.state === null) {
    throw new UserError(`${folder}/${INFO} does not describe step ${step}: delete the checkpoint's folder`);
  }
  return { step, state: info.state as Record<string, unknown> };
}

async function restoreMoments(files: Files, path: string, trainees: Record<string, CheckpointedModel>): Promise<void> {
  const file = await files.open(path);
  if (!file) throw new UserError(`${path} is missing: the checkpoint is not whole; delete its folder`);
  try {
    const moments = await openSafetensors(file, path);
    for (const [name, { model, optimizer }] of Object.entries(trainees)) {
      if (!optimizer) continue;
      const get = async (key: string) => (await moments.get(`${name || "model"}.${key}`)).data;
      const all = (key: string) => Promise.all(model.store.chunks.map((_, i) => get(`${key}.${i}`)));
      optimizer.load({ m: await all("m"), v: await all("v"), control: await get("control") });
    }
  } finally {
    await file.close();
  }
}

/** Saves the finished models beside the checkpoints: "" into the output folder itself, others into subfolders. */
export async function saveModels(run: RunFolder, models: Record<string, Model | SelfSavingModel>): Promise<void> {
  for (const [name, model] of Object.entries(models)) {
    const folder = name ? `${run.path}/${name}` : run.path;
    const written = { ...(await trainedFiles(model)), ...run.besides };
    await run.files.writeFiles(folder, written);
    await removeStaleWeights(run.files, folder, Object.keys(written));
  }
}
