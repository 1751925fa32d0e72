/** The architectures of GGUF files that are read, by `general.architecture`. */
import { UserError } from "../runtime/errors.ts";
import type { GgufHeader } from "./gguf.ts";
import * as config from "./gguf-config.ts";
import * as keys from "./gguf-keys.ts";
import type { GgufMetadata } from "./gguf-metadata.ts";
import * as names from "./gguf-names.ts";

/** An architecture of GGUF as Hugging Face's model: its tensors' names, and its fields of config.json. */
export interface GgufArchitecture {
  names: names.GgufNames;
  /** `architectures`, `model_type`, and the fields that the family has of its own. */
  config(reader: config.GgufReader): Record<string, unknown>;
  /** How models become such files. Absent where they are read only. */
  write?: {
    /** Every `model_type` of config.json that becomes one. */
    modelTypes: readonly string[];
    /** The metadata without the architecture's name, out of a config.json that says everything. */
    keys(config: Record<string, unknown>): keys.GgufKeys;
  };
}

const written = (keys: (config: Record<string, unknown>) => keys.GgufKeys, ...modelTypes: string[]) => ({
  write: { modelTypes, keys },
});

const table = new Map<string, GgufArchitecture>([
  ["llama", { names: names.llama, config: config.llama, ...written(keys.llama, "llama", "mistral") }],
  ["qwen2", { names: names.qwen, config: config.qwen2, ...written(keys.qwen, "qwen2") }],
  ["qwen3", { names: names.qwen, config: config.qwen3, ...written(keys.qwen, "qwen3") }],
  ["gemma", { names: names.gemma, config: config.gemma, ...written(keys.gemma, "gemma") }],
  ["gemma2", { names: names.gemma2, config: config.gemma, ...written(keys.gemma, "gemma2") }],
  ["gemma3", { names: names.gemma2, config: config.gemma, ...written(keys.gemma, "gemma3_text") }],
  ["gpt2", { names: names.gpt2, config: config.gpt2, ...written(keys.gpt2, "gpt2") }],
  ["gptneox", { names: names.gptneox, config: config.gptneox, ...written(keys.gptneox, "gpt_neox") }],
]);

/** Makes files of one more architecture readable. Throws `UserError` where the name is taken. */
export function registerGguf(name: string, architecture: GgufArchitecture): void {
  if (table.has(name)) throw new UserError(`there is a GGUF architecture "${name}" already; choose another name`);
  table.set(name, architecture);
}

/** The architecture that models of a `model_type` are written as, with its name; undefined where there is none. */
export function architectureFor(modelType: string): { name: string; architecture: GgufArchitecture } | undefined {
  for (const [name, architecture] of table) {
    if (architecture.write?.modelTypes.includes(modelType)) return { name, architecture };
  }
  return undefined;
}

/** Every `model_type` that can be written. */
export const writtenModelTypes = (): string[] => [...table.values()].flatMap(({ write }) => write?.modelTypes ?? []);

/** Numbers that change what a model computes and that none of these architectures has. */
const REFUSED = ["expert_count", "logit_scale", "residual_scale", "embedding_scale", "attention.scale"];

/** The known architecture that a file holds. Throws `UserError` for others. */
function architectureOf(meta: GgufMetadata): { name: string; architecture: GgufArchitecture } {
  const name = meta.text("general.architecture") ?? meta.fail("metadata general.architecture is missing");
  const architecture = table.get(name);
  if (!architecture) {
    return meta.fail(`architecture ${JSON.stringify(name)} is not supported; ${[...table.keys()].join(", ")} are`);
  }
  for (const key of REFUSED) {
    const value = meta.optional(`${name}.${key}`);
    if (value !== undefined && value !== 0) meta.fail(`${name}.${key} = ${value} is not supported`);
  }
  const parts = meta.optional("split.count") ?? 1;
  if (parts > 1) meta.fail(`the model is split into ${parts} files: merge them (llama-gguf-split --merge)`);
  return { name, architecture };
}

/** What a file's metadata says of its model. */
export interface GgufDescription {
  names: names.GgufNames;
  /** As config.json would hold it. */
  config: Record<string, unknown>;
  /** Heads of the queries, and of the keys and values. */
  heads: number | undefined;
  kvHeads: number | undefined;
}

/**
 * Reads the names of a file's tensors, and the config.json that its metadata describes.
 * @param ropeFactors values of the tensor rope_freqs.weight, if there is one
 */
export function describeGguf(
  meta: GgufMetadata,
  header: GgufHeader,
  ropeFactors: Float32Array | null,
): GgufDescription {
  const { name, architecture } = architectureOf(meta);
  const reader = new config.GgufReader(meta, header, name, ropeFactors);
  const json = { ...config.commonConfig(meta, header), ...architecture.config(reader) };
  const heads = reader.optional("attention.head_count");
  return {
    names: architecture.names,
    config: json,
    heads,
    kvHeads: reader.optional("attention.head_count_kv") ?? heads,
  };
}
