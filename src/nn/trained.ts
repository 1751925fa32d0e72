/** The files of what is trained: a whole model, or an adapter without its base. */
import { openWeights } from "../io/weights.ts";
import type { FileContent, Files } from "../runtime/files.ts";
import type { Model } from "./models.ts";
import { adapterFiles, restoreAdapter } from "./peft.ts";
import { loadWeights, modelFiles, type SaveOptions } from "./pretrained.ts";

/** The model's folder, or its adapter's. Adapters are always stored as f32. */
export const trainedFiles = (model: Model, options?: SaveOptions): Promise<Record<string, FileContent>> =>
  model.adapter ? adapterFiles(model) : modelFiles(model, options);

/** Overwrites a model with what `trainedFiles` saved of it. */
export async function restoreTrained(model: Model, files: Files, folder: string): Promise<void> {
  if (model.adapter) return restoreAdapter(model, files, folder);
  const weights = await openWeights(files, folder);
  await loadWeights(model, weights).finally(() => weights.close());
}
