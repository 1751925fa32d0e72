/** A model as files: what is read from a folder or a GGUF file, and what a folder is written from. */
import type { FileContent, Files } from "../runtime/files.ts";
import { parseJson, readNeeded } from "../runtime/files.ts";
import { type FloatType, sizeInFile, streamSafetensors, type TensorToWrite } from "./safetensors-write.ts";
import { shardName, shareOut } from "./shards.ts";
import { INDEX_FILE, openWeights, WEIGHTS_FILE, type WeightSource } from "./weights.ts";

/** A model that is open for reading. */
export interface ModelFiles {
  /** The content of config.json. */
  config: Record<string, unknown>;
  /** Where the config comes from, for messages. */
  configFile: string;
  weights: WeightSource;
}

export const isGguf = (path: string): boolean => path.toLowerCase().endsWith(".gguf");

/** Opens a GGUF file; its reader is loaded now, so that web pages without such files need not have it. */
const openGguf = async (files: Files, path: string) => (await import("./gguf-model.ts")).openGguf(files, path);

/** Opens a model folder, or a GGUF file as if it were one. The caller closes the weights. */
export async function openModel(files: Files, path: string): Promise<ModelFiles> {
  if (isGguf(path)) {
    const { config, weights } = await openGguf(files, path);
    return { config, configFile: path, weights };
  }
  const { config, configFile } = await readConfig(files, path);
  return { config, configFile, weights: await openWeights(files, path) };
}

/** The content of a model's config.json. */
export async function readConfig(files: Files, path: string): Promise<Pick<ModelFiles, "config" | "configFile">> {
  if (isGguf(path)) {
    const { config, weights } = await openGguf(files, path);
    await weights.close();
    return { config, configFile: path };
  }
  const configFile = `${path}/config.json`;
  const what = "a model folder holds config.json, model.safetensors and tokenizer.json";
  return { config: parseJson(await readNeeded(files, configFile, what), configFile), configFile };
}

/** How floats are called in config.json and on the command line. */
export type DtypeName = "float32" | "bfloat16" | "float16";

export const FLOAT_TYPES: Record<DtypeName, FloatType> = { float32: "F32", bfloat16: "BF16", float16: "F16" };

/** The largest file of weights, in bytes; what transformers writes by default. */
export const MAX_SHARD_SIZE = 5e9;

/** The files that hold these tensors: model.safetensors, or shards and their index where it would be over `limit` bytes. */
export function weightFiles(tensors: readonly TensorToWrite[], limit = MAX_SHARD_SIZE): Record<string, FileContent> {
  const shards = shareOut(tensors, limit);
  if (shards.length === 1) return { [WEIGHTS_FILE]: streamSafetensors(tensors) };
  const files: Record<string, FileContent> = {};
  const map: [string, string][] = [];
  for (const [i, shard] of shards.entries()) {
    const name = shardName(i, shards.length);
    files[name] = streamSafetensors(shard);
    for (const tensor of shard) map.push([tensor.name, name]);
  }
  const total = tensors.reduce((n, tensor) => n + sizeInFile(tensor), 0);
  const index = { metadata: { total_size: total }, weight_map: Object.fromEntries(map.sort()) };
  files[INDEX_FILE] = `${JSON.stringify(index, null, 2)}\n`;
  return files;
}

/** Removes the weights of an earlier model from a folder that a model was written into: they could be taken for its own. */
export async function removeStaleWeights(files: Files, folder: string, written: readonly string[]): Promise<void> {
  if (!written.includes(WEIGHTS_FILE) && !written.includes(INDEX_FILE)) return;
  for (const name of await files.list(folder)) {
    const isWeights = /^model(-\d{5}-of-\d{5})?\.safetensors(\.index\.json)?$/.test(name);
    if (isWeights && !written.includes(name)) await files.remove(`${folder}/${name}`);
  }
}
