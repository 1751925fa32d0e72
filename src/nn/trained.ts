/** The files of what is trained: a whole model, or an adapter without its base. */
import { openWeights } from "../io/weights.ts";
import type { FileContent, Files } from "../runtime/files.ts";
import type { ParameterStore } from "../tensor/params.ts";
import { Model } from "./models.ts";
import { adapterFiles, restoreAdapter } from "./peft.ts";
import { loadWeights, modelFiles, type SaveOptions } from "./pretrained.ts";

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
  if (model.adapter) return restoreAdapter(model, files, folder);
  const weights = await openWeights(files, folder);
  await loadWeights(model, weights).finally(() => weights.close());
}
