/** The architectures of GGUF files that are read, by `general.architecture`. */
import { UserError } from "../runtime/errors.ts";
import type { GgufHeader } from "./gguf.ts";
import * as config from "./gguf-config.ts";
import type { GgufMetadata } from "./gguf-metadata.ts";
import * as names from "./gguf-names.ts";

/** An architecture of GGUF as Hugging Face's model: its tensors' names, and its fields of config.json. */
export interface GgufArchitecture {
  names: names.GgufNames;
  /** `architectures`, `model_type`, and the fields that the family has of its own. */
  config(reader: config.GgufReader): Record<string, unknown>;
}

const table = new Map<string, GgufArchitecture>([
  ["llama", { names: names.llama, config: config.llama }],
  ["qwen2", { names: names.qwen, config: config.qwen2 }],
  ["qwen3", { names: names.qwen, config: config.qwen3 }],
  ["gemma", { names: names.gemma, config: config.gemma }],
  ["gemma2", { names: names.gemma2, config: config.gemma }],
  ["gemma3", { names: names.gemma2, config: config.gemma }],
  ["gpt2", { names: names.gpt2, config: config.gpt2 }],
  ["gptneox", { names: names.gptneox, config: config.gptneox }],
]);

/** Makes files of one more architecture readable. Throws `UserError` where the name is taken. */
export function registerGguf(name: string, architecture: GgufArchitecture): void {
  if (table.has(name)) throw new UserError(`there is a GGUF architecture "${name}" already; choose another name`);
  table.set(name, architecture);
}

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
