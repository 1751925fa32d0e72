/** Where a model's tensors come from, whatever the files look like. Names are those of Hugging Face's models. */
import { UserError } from "../runtime/errors.ts";
import type { Files } from "../runtime/files.ts";
import type { OpenFile } from "../runtime/open.ts";
import { type LazySafeTensors, openSafetensors, type TensorInfo } from "./safetensors.ts";
import { readShardIndex } from "./shards.ts";

/** The type and shape of a tensor in a file. */
export interface WeightInfo {
  /** As the file calls it: "BF16", "Q4_K". */
  readonly dtype: string;
  readonly shape: readonly number[];
  /** In the file. */
  readonly bytes: number;
}

/** Tensors that are read one by one, as f32. */
export interface WeightSource {
  /** What holds them, for messages. */
  readonly label: string;
  readonly names: readonly string[];
  info(name: string): WeightInfo;
  read(name: string): Promise<Float32Array>;
  /** Entries first .. last - 1 of the first dimension. */
  readRows(name: string, first: number, last: number): Promise<Float32Array>;
  close(): Promise<void>;
}

export const WEIGHTS_FILE = "model.safetensors";
export const INDEX_FILE = "model.safetensors.index.json";

/** What PyTorch's own files are called, where a folder has no safetensors. */
export const TORCH_FILE = "pytorch_model.bin";
export const TORCH_INDEX = "pytorch_model.bin.index.json";

/**
 * Opens the weights of a model folder: model.safetensors, or the shards that its index names; or, where it has neither,
 * pytorch_model.bin or its shards.
 */
export async function openWeights(files: Files, folder: string): Promise<WeightSource> {
  for (const [file, index] of [
    [WEIGHTS_FILE, INDEX_FILE],
    [TORCH_FILE, TORCH_INDEX],
  ]) {
    const path = `${folder}/${file}`;
    const single = await files.open(path);
    if (single) return closingOnError([single], async () => fromShards(path, [await openShard(single, path)]));
    const content = await files.read(`${folder}/${index}`);
    if (content) return openShards(files, folder, `${folder}/${index}`, content);
  }
  throw await noWeights(files, folder);
}

async function openShards(files: Files, folder: string, index: string, content: Uint8Array): Promise<WeightSource> {
  const shards = readShardIndex(content, index, index.endsWith(INDEX_FILE) ? ".safetensors" : ".bin");
  const opened: OpenFile[] = [];
  return closingOnError(opened, async () => {
    const parts: Shard[] = [];
    for (const [name, tensors] of shards) {
      const file = `${folder}/${name}`;
      const handle = await files.open(file);
      if (!handle) throw new UserError(`${file} is missing: ${index} says that it holds ${tensors[0]}`);
      opened.push(handle);
      const shard = await openShard(handle, file);
      compareWithIndex(shard, tensors, index);
      parts.push(shard);
    }
    return fromShards(index, parts);
  });
}

interface Shard {
  file: string;
  handle: OpenFile;
  tensors: LazySafeTensors;
}

/** PyTorch's reader is loaded now, so that web pages without such files need not have it. */
const openShard = async (handle: OpenFile, file: string): Promise<Shard> => ({
  file,
  handle,
  tensors: file.endsWith(".bin")
    ? await (await import("./torch-weights.ts")).openTorchFile(handle, file)
    : await openSafetensors(handle, file),
});

/** The index and the shard must agree on what the shard holds. */
function compareWithIndex({ file, tensors }: Shard, listed: readonly string[], index: string): void {
  const present = new Set(tensors.names);
  const missing = listed.find((name) => !present.has(name));
  if (missing !== undefined) throw new UserError(`${file} has no tensor ${missing}, but ${index} says that it has`);
  const known = new Set(listed);
  const extra = tensors.names.find((name) => !known.has(name));
  if (extra !== undefined) throw new UserError(`${file} holds tensor ${extra}, which ${index} does not place there`);
}

function fromShards(label: string, shards: readonly Shard[]): WeightSource {
  const where = new Map<string, Shard>();
  for (const shard of shards) for (const name of shard.tensors.names) where.set(name, shard);
  const shardOf = (name: string): Shard => {
    const shard = where.get(name);
    if (!shard) throw new UserError(`${label}: there is no tensor ${name}`);
    return shard;
  };
  return {
    label,
    names: [...where.keys()],
    info(name) {
      const { dtype, shape, begin, end } = shardOf(name).tensors.infos.get(name) as TensorInfo;
      return { dtype, shape, bytes: end - begin };
    },
    read: async (name) => (await shardOf(name).tensors.get(name)).data,
    readRows: async (name, first, last) => (await shardOf(name).tensors.getRows(name, first, last)).data,
    close: async () => {
      for (const { handle } of shards) await handle.close();
    },
  };
}

async function closingOnError<R>(opened: readonly OpenFile[], work: () => Promise<R>): Promise<R> {
  try {
    return await work();
  } catch (error) {
    for (const file of opened) await file.close();
    throw error;
  }
}

async function noWeights(files: Files, folder: string): Promise<UserError> {
  const names = await files.list(folder);
  const path = `${folder}/${WEIGHTS_FILE}`;
  const gguf = names.find((name) => name.endsWith(".gguf"));
  if (gguf) return new UserError(`${path} is missing, but there is ${gguf}: name that file as the model`);
  const other = names.find((name) => /\.(bin|pt|pth|ckpt|h5|msgpack)$/.test(name));
  if (other) {
    return new UserError(
      `${path} is missing: weights are read from safetensors files and ${TORCH_FILE}, not from ${other}; ` +
        "save the model again with transformers' save_pretrained",
    );
  }
  return new UserError(`${path} is missing: the weights of the model`);
}
