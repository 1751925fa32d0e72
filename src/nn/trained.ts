/** The files of what is trained: a whole model, or an adapter without its base. */
import { openWeights } from "../io/weights.ts";
import { type FileContent, type Files, parseJson } from "../runtime/files.ts";
import type { ParameterStore } from "../tensor/params.ts";
import { Model, ScoreModel } from "./models.ts";
import { adapterFiles, restoreAdapter, SCORE_CONFIG } from "./peft.ts";
import { loadWeights, modelFiles, type SaveOptions } from "./pretrained.ts";
import { readScoring } from "./scoring.ts";

/** A trained model that is no language model or scorer, and writes and reads its own files. */
export interface SelfSavingModel {
  readonly store: ParameterStore;
  files(): Promise<Record<string, FileContent>>;
  /** Overwrites it with what `files` gave. */
  restore(files: Files, folder: string): Promise<void>;
}

/** The model's folder, or its adapter's. Adapters are always stored as f32. */
export async function trainedFiles(
  model: Model | SelfSavingModel,
  options?: SaveOptions,
): Promise<Record<string, FileContent>> {
  if (!(model instanceof Model)) return model.files();
  return model.adapter ? adapterFiles(model) : modelFiles(model, options);
}

/** Overwrites a model with what `trainedFiles` saved of it. */
export async function restoreTrained(model: Model | SelfSavingModel, files: Files, folder: string): Promise<void> {
  if (!(model instanceof Model)) return model.restore(files, folder);
  if (model.adapter) await restoreAdapter(model, files, folder);
  else {
    const weights = await openWeights(files, folder);
    await loadWeights(model, weights).finally(() => weights.close());
  }
  if (model instanceof ScoreModel) await restoreScoring(model, files, folder);
}

/** What a scorer's numbers mean, with the statistics that training has kept of them. */
async function restoreScoring(model: ScoreModel, files: Files, folder: string): Promise<void> {
  const path = `${folder}/${model.adapter ? SCORE_CONFIG : "config.json"}`;
  const content = await files.read(path);
  if (!content) return; // an adapter's plain head has nothing to say
  const json = parseJson<Record<string, unknown>>(content, path);
  Object.assign(model.scoring, readScoring(json, path, model.scoring.labels.length));
}
