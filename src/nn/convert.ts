/** Rewrites a model's files: another float type, shards of another size, a folder out of a GGUF file. Needs no GPU. */
import { openGguf, openGgufTokenizer } from "../io/gguf-model.ts";
import {
  type DtypeName,
  FLOAT_TYPES,
  isGguf,
  MAX_SHARD_SIZE,
  type ModelFiles,
  openModel,
  weightFiles,
} from "../io/model-files.ts";
import { firstUnstorable, type TensorToWrite } from "../io/safetensors-write.ts";
import { UserError } from "../runtime/errors.ts";
import type { FileContent, Files } from "../runtime/files.ts";
import { configText, fileTensors, fromHfConfig, isExtra, nameIn, toHfConfig } from "./huggingface.ts";
import { scoreHeadIn } from "./pretrained.ts";
import { readScoring, scoringFields } from "./scoring.ts";

/** How `convertModel` writes the weights. */
export interface ConvertOptions {
  /** Default: what the weights are stored in now, where that is one of these; else float32. */
  dtype?: DtypeName;
  /** Bytes of the largest file of weights; default 5 GB. */
  maxShardSize?: number;
}

/** The result of `convertModel`. */
export interface Converted {
  dtype: DtypeName;
  tensors: number;
  files: string[];
}

/**
 * Writes the model at `path`, a folder or a GGUF file, as a new Hugging Face folder, a few tensors at a time.
 * Tensor names become the usual ones, and a tied LM head is left out. Throws `UserError` naming the tensor that the
 * architecture lacks, or that the float type cannot hold.
 */
export async function convertModel(
  files: Files,
  path: string,
  output: string,
  options: ConvertOptions = {},
): Promise<Converted> {
  const there = await files.list(output);
  // A record says that whoever wrote it has looked at the folder: a conversion that was killed is done again.
  if (!there.includes("run.json") && there.some((name) => !name.startsWith(".")))
    throw new UserError(`${output} is not empty: choose another output folder`);
  const model = await openModel(files, path);
  try {
    const dtype = options.dtype ?? storedType(model);
    const tensors = tensorsOf(model, dtype);
    const content: Record<string, FileContent> = {
      ...weightFiles(tensors, options.maxShardSize ?? MAX_SHARD_SIZE),
      "config.json": configText({ ...model.config, ...headFields(model), dtype, torch_dtype: dtype }),
      ...(await besides(files, path)),
    };
    await files.writeFiles(output, content);
    return { dtype, tensors: tensors.length, files: Object.keys(content).sort() };
  } finally {
    await model.weights.close();
  }
}

const json = (value: unknown) => `${JSON.stringify(value, null, 2)}\n`;

/** The float type that every tensor has, if there is one. */
function storedType({ weights }: ModelFiles): DtypeName {
  const types = new Set(weights.names.map((name) => weights.info(name).dtype));
  const known = Object.entries(FLOAT_TYPES).find(([, type]) => types.size === 1 && types.has(type));
  return (known?.[0] as DtypeName | undefined) ?? "float32";
}

/** What config.json says of the head: scorers of other projects become sequence classifiers. */
function headFields({ config, configFile, weights }: ModelFiles): Record<string, unknown> {
  const read = fromHfConfig(config, configFile);
  const head = scoreHeadIn(weights);
  if (!head) return { architectures: toHfConfig(read, "lm").architectures };
  const scoring = readScoring(config, configFile, head.outputs);
  const { architectures } = toHfConfig(read, "score");
  return { architectures, ...scoringFields(scoring, head.bias) };
}

/** Every tensor of a model under its usual name, read as it is written. Throws `UserError` as `convertModel` does. */
export function tensorsOf({ config, configFile, weights }: ModelFiles, dtype: DtypeName): TensorToWrite[] {
  const present = new Set(weights.names);
  const head = scoreHeadIn(weights);
  const wanted = fileTensors(fromHfConfig(config, configFile), head ? "score" : "lm", head?.bias);
  const tensors = wanted.map((tensor): TensorToWrite => {
    const name = nameIn(tensor, present);
    if (name === null) throw new UserError(`${weights.label}: tensor ${tensor.name} is missing`);
    const check = (data: Float32Array) => {
      const bad = firstUnstorable(data, FLOAT_TYPES[dtype]);
      if (bad !== undefined)
        throw new UserError(`${weights.label}: tensor ${name} holds ${bad}, which ${dtype} cannot keep`);
      return data;
    };
    return {
      name: tensor.name,
      shape: weights.info(name).shape,
      dtype: FLOAT_TYPES[dtype],
      read: async () => check(await weights.read(name)),
      readRows: async (first, last) => check(await weights.readRows(name, first, last)),
    };
  });
  const used = new Set(wanted.map((tensor) => nameIn(tensor, present)));
  const extra = weights.names.find((name) => !used.has(name) && !isExtra(name));
  if (extra) throw new UserError(`${weights.label}: tensor ${extra} does not belong to a ${config.model_type} model`);
  return tensors;
}

/** The files that go beside weights and config: the tokenizer, its template, how to generate. */
async function besides(files: Files, path: string): Promise<Record<string, FileContent>> {
  if (isGguf(path)) {
    const { generation, weights, hasTokenizer } = await openGguf(files, path);
    await weights.close();
    if (!hasTokenizer) return { "generation_config.json": json(generation) };
    const tokenizer = await openGgufTokenizer(files, path);
    return {
      "tokenizer.json": `${JSON.stringify(tokenizer.json)}\n`,
      "tokenizer_config.json": json(tokenizer.config),
      "generation_config.json": json(generation),
    };
  }
  const found: Record<string, FileContent> = {};
  for (const name of await files.list(path)) {
    if (!/^(tokenizer|special_tokens|added_tokens|chat_template|generation_config|vocab|merges)[\w.]*$/.test(name))
      continue;
    const content = await files.read(`${path}/${name}`);
    if (content) found[name] = content;
  }
  return found;
}
