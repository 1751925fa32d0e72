/**
 * Checkpoints: `checkpoint-<step>/` folders that hold each model as a Hugging Face folder (of an adapter, PEFT's files),
 * the optimizers' moments in training_state.safetensors, the rest of the trainer's state in trainer_state.json, and the
 * SHA-256 of all of these in checksums.json. A folder is written under a temporary name, synced and renamed, so a checkpoint that exists is whole.
 */
import { removeStaleWeights } from "../io/model-files.ts";
import { openSafetensors } from "../io/safetensors.ts";
import { streamSafetensors, type TensorToWrite } from "../io/safetensors-write.ts";
import type { Model } from "../nn/models.ts";
import type { AdamW } from "../nn/optimizer.ts";
import { restoreTrained, type SelfSavingModel, trainedFiles } from "../nn/trained.ts";
import { isUserError, UserError } from "../runtime/errors.ts";
import { type FileContent, type Files, isPartial, parseJson, readNeeded } from "../runtime/files.ts";
import { damageIn, snapshot, withChecksums } from "./checksums.ts";

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
  /** Is asked when a checkpoint is made: what the log adds to its trainer_state.json. The log's files are on disk by then. */
  log?(): Promise<Record<string, unknown>>;
}

const STATE = "training_state.safetensors";
const INFO = "trainer_state.json";
const PATTERN = /^checkpoint-(\d+)$/;

/** The checkpoints of a run that are kept. */
export interface Keeping {
  /** Says of which steps; those of others go when there is a newer one. */
  due(step: number): boolean;
  /** The step whose checkpoint stays beside the newest, whatever is due. */
  best?: number | null;
}

/** Saves everything a run needs to go on; `trainees` by subfolder name, "" for a single model. Returns the folder's name. */
export async function saveCheckpoint(
  run: RunFolder,
  step: number,
  trainees: Record<string, CheckpointedModel>,
  state: Record<string, unknown>,
  keeping: Keeping = { due: () => true },
): Promise<string> {
  return writeCheckpoint(run, step, await checkpointFiles(run, step, trainees, state), keeping);
}

/** Takes what a checkpoint is made of into memory, and gives what writes it while the models may change. */
export async function snapshotCheckpoint(
  run: RunFolder,
  step: number,
  trainees: Record<string, CheckpointedModel>,
  state: Record<string, unknown>,
  keeping: Keeping,
): Promise<() => Promise<string>> {
  const taken = await snapshot(await checkpointFiles(run, step, trainees, state));
  return () => writeCheckpoint(run, step, taken, keeping);
}

/** Everything a run needs to go on, as `restoreFrom` reads it. */
export async function checkpointFiles(
  run: RunFolder,
  step: number,
  trainees: Record<string, CheckpointedModel>,
  state: Record<string, unknown>,
): Promise<Record<string, FileContent>> {
  const folder: Record<string, FileContent> = {};
  const moments: TensorToWrite[] = [];
  for (const [name, { model, optimizer }] of Object.entries(trainees)) {
    const prefix = name ? `${name}/` : "";
    for (const [file, content] of Object.entries({ ...(await trainedFiles(model)), ...run.besides })) {
      folder[prefix + file] = content;
    }
    if (!optimizer) continue;
    const { m, v, codes = [], control } = await optimizer.state();
    const put = (key: string, data: Float32Array | Uint32Array) => {
      const dtype = data instanceof Uint32Array ? "U32" : "F32";
      moments.push({ name: `${name || "model"}.${key}`, shape: [data.length], dtype, read: async () => data });
    };
    for (const [i, data] of codes.entries()) put(`codes.${i}`, data);
    for (const [i, data] of m.entries()) put(`m.${i}`, data);
    for (const [i, data] of v.entries()) put(`v.${i}`, data);
    put("control", control);
  }
  folder[STATE] = streamSafetensors(moments);
  const told = (await run.log?.()) ?? {};
  // Where a run trains several times, its log counts the steps of all of them: here stands the one to go on from.
  const info = { global_step: step, state, ...told };
  folder[INFO] = `${JSON.stringify({ ...info, global_step: step }, null, 2)}\n`;
  return folder;
}

async function writeCheckpoint(
  run: RunFolder,
  step: number,
  content: Record<string, FileContent>,
  keeping: Keeping,
): Promise<string> {
  const name = `checkpoint-${step}`;
  await run.files.writeFolder(`${run.path}/${name}`, withChecksums(content));
  await prune(run, keeping);
  return name;
}

/**
 * Removes checkpoints: of those that are due the oldest, and of the others all but one that is the newest of all. The best one
 * stays and counts as one of those to keep, beside the newest.
 * @param finished nothing goes on from the newest either
 */
export async function prune(
  { files, path, keep = 1 }: RunFolder,
  { due, best = null }: Keeping,
  finished = false,
): Promise<void> {
  const steps = await checkpointSteps(files, path);
  const others = steps.filter((step) => step !== best);
  const kept = others.filter(due);
  const taken = others.length < steps.length ? 1 : 0;
  const room = Math.max(best === steps.at(-1) ? 0 : 1, keep - taken);
  const old = keep === 0 ? [] : kept.slice(0, Math.max(0, kept.length - room));
  const passing = others.filter((step) => !due(step) && (finished || step !== steps.at(-1)));
  for (const step of [...old, ...passing]) await files.remove(`${path}/checkpoint-${step}`);
}

/** Steps of the checkpoints in a folder, ascending. */
export async function checkpointSteps(files: Files, path: string): Promise<number[]> {
  const names = await files.list(path);
  return names
    .flatMap((name) => PATTERN.exec(name)?.[1] ?? [])
    .map(Number)
    .sort((a, b) => a - b);
}

/** Removes what interrupted writes left in these folders. */
export async function removePartial(files: Files, folders: readonly string[]): Promise<void> {
  for (const folder of new Set(folders)) {
    for (const name of await files.list(folder)) if (isPartial(name)) await files.remove(`${folder}/${name}`);
  }
}

/** A checkpoint that was restored. */
export interface Restored {
  step: number;
  state: Record<string, unknown>;
  /** Newer checkpoints that were damaged, in words. */
  damaged: string[];
}

/**
 * Restores the newest checkpoint into the trainees and returns its step and state, or null when there is none. A damaged one is
 * removed where there is an older one that is whole.
 * @throws UserError naming the file that is damaged or belongs to another model
 */
export async function restoreCheckpoint(
  run: RunFolder,
  trainees: Record<string, CheckpointedModel>,
): Promise<Restored | null> {
  const { files, path } = run;
  await removePartial(files, [path]);
  const damaged: string[] = [];
  const newer: string[] = [];
  for (const step of (await checkpointSteps(files, path)).reverse()) {
    const folder = `${path}/checkpoint-${step}`;
    const damage = await damageIn(files, folder);
    if (!damage) {
      for (const one of newer) await files.remove(one);
      return { ...(await restoreFrom(files, folder, step, trainees)), damaged };
    }
    damaged.push(damage);
    newer.push(folder);
  }
  if (damaged.length === 0) return null;
  throw new UserError(`${damaged.join("; ")}: delete the checkpoint's folder, and the run begins anew`);
}

/** Restores the checkpoint in a folder of that name. */
export async function restoreFrom(
  files: Files,
  folder: string,
  step: number,
  trainees: Record<string, CheckpointedModel>,
): Promise<{ step: number; state: Record<string, unknown> }> {
  const info = await readInfo(files, folder, step);
  for (const [name, { model }] of Object.entries(trainees)) {
    const own = name ? `${folder}/${name}` : folder;
    await refuseOtherModel(files, own, model);
    await restoreTrained(model, files, own);
  }
  await restoreMoments(files, `${folder}/${STATE}`, trainees);
  return { step, state: info };
}

async function readInfo(files: Files, folder: string, step: number): Promise<Record<string, unknown>> {
  const file = `${folder}/${INFO}`;
  const content = await readNeeded(files, file, "the checkpoint is not whole; delete its folder");
  const info = parseJson<{ global_step?: unknown; state?: unknown }>(content, file);
  if (info.global_step !== step || typeof info.state !== "object" || info.state === null) {
    throw new UserError(`${file} does not describe step ${step}: delete the checkpoint's folder`);
  }
  return info.state as Record<string, unknown>;
}

/** Fields of a model's files that name versions and places, or are learned: the statistics of scores. */
const NAMES =
  /^(mean|var|count|_name_or_path|base_model_name_or_path|transformers_version|peft_version|torch_dtype|dtype|revision)$/;

/** Weights of the same shapes may be another function: of a model with twice as many heads, half as wide. */
async function refuseOtherModel(files: Files, folder: string, model: CheckpointedModel["model"]): Promise<void> {
  const now = await trainedFiles(model);
  for (const name of ["config.json", "adapter_config.json"]) {
    const path = `${folder}/${name}`;
    const saved = await files.read(path);
    if (!saved || typeof now[name] !== "string") continue;
    const [was, is] = [parseJson(saved, path), JSON.parse(now[name]) as Record<string, unknown>];
    const differs = (key: string) => key in was && JSON.stringify(was[key]) !== JSON.stringify(is[key]);
    const changed = Object.keys(is).filter((key) => !NAMES.test(key) && differs(key));
    if (changed.length === 0) continue;
    const words = changed.map((key) => `${key} was ${JSON.stringify(was[key])} and is ${JSON.stringify(is[key])}`);
    throw new UserError(`${path} is of another model: ${words.join(", ")}`);
  }
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
      const prefix = `${name || "model"}.codes.`;
      const count = moments.names.filter((one) => one.startsWith(prefix)).length;
      const raw = Array.from({ length: count }, async (_, i) => (await moments.getRaw(`${prefix}${i}`)).data);
      const codes = count > 0 ? { codes: (await Promise.all(raw)) as Uint32Array<ArrayBuffer>[] } : {};
      optimizer.load({ m: await all("m"), v: await all("v"), ...codes, control: await get("control") });
    }
  } finally {
    await file.close();
  }
}

/**
 * Overwrites models with what `saveModels` saved of them.
 * @throws UserError where the folder does not hold them any more
 */
export async function restoreModels(run: RunFolder, models: Record<string, Model | SelfSavingModel>): Promise<void> {
  const { files, path } = run;
  // What is saved twice is read once.
  const places = new Map(Object.entries(models).map(([name, model]) => [model, name ? `${path}/${name}` : path]));
  for (const [model, folder] of places) {
    try {
      await refuseOtherModel(files, folder, model);
      await restoreTrained(model, files, folder);
    } catch (cause) {
      if (!isUserError(cause)) throw cause;
      const why = `${path} is finished, but what it trained cannot be loaded: ${cause.message}`;
      throw new UserError(`${why}: bring it back, or overwrite the run`, { cause });
    }
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
