/** Weights in several files: the index that says which tensor is where, and how tensors are shared out. */
import { UserError } from "../runtime/errors.ts";
import { parseJson } from "../runtime/files.ts";
import { findDuplicateKey } from "./json-keys.ts";
import { sizeInFile, type TensorToWrite } from "./safetensors-write.ts";

/**
 * The tensors of each shard, by file name, as `model.safetensors.index.json` lists them.
 * An index comes from a stranger: a shard is a file of its own folder, and nothing else.
 * @param ending of the shards' names
 */
export function readShardIndex(content: Uint8Array, path: string, ending = ".safetensors"): Map<string, string[]> {
  const map = parseJson<{ weight_map?: unknown } | null>(content, path)?.weight_map;
  if (typeof map !== "object" || map === null || Array.isArray(map)) {
    throw new UserError(`${path}: weight_map, which says what file each tensor is in, is missing`);
  }
  const twice = findDuplicateKey(new TextDecoder().decode(content));
  if (twice !== undefined) throw new UserError(`${path}: ${JSON.stringify(twice)} occurs twice`);
  const shards = new Map<string, string[]>();
  for (const [tensor, file] of Object.entries(map)) {
    if (typeof file !== "string" || !/^\w[\w.-]*$/.test(file) || !file.endsWith(ending)) {
      throw new UserError(
        `${path}: tensor ${tensor} is said to be in ${JSON.stringify(file)}; ` +
          `a shard must be the plain name of a ${ending} file in the same folder`,
      );
    }
    const tensors = shards.get(file) ?? [];
    shards.set(file, tensors);
    tensors.push(tensor);
  }
  if (shards.size === 0) throw new UserError(`${path}: weight_map names no tensor`);
  return shards;
}

/** Tensors in the given order, as many in each shard as fit into `limit` bytes, at least one. */
export function shareOut<T extends Pick<TensorToWrite, "shape" | "dtype">>(
  tensors: readonly T[],
  limit: number,
): T[][] {
  const shards: T[][] = [[]];
  let used = 0;
  for (const tensor of tensors) {
    const size = sizeInFile(tensor);
    if (used > 0 && used + size > limit) {
      shards.push([]);
      used = 0;
    }
    shards[shards.length - 1].push(tensor);
    used += size;
  }
  return shards;
}

/** "model-00001-of-00003.safetensors", counting from 0. */
export const shardName = (index: number, count: number): string =>
  `model-${String(index + 1).padStart(5, "0")}-of-${String(count).padStart(5, "0")}.safetensors`;
