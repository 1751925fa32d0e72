/** Which modules of a Hugging Face model an adapter means, by their names, and where they are in ours. */
import { UserError } from "../runtime/errors.ts";
import { Parameter } from "../tensor/params.ts";
import type { DecoderConfig } from "./config.ts";
import type { Decoder } from "./decoder.ts";
import { type FileTensor, fileTensors, type HeadKind } from "./huggingface.ts";
import { Linear } from "./linear.ts";
import type { LoraOptions } from "./lora-options.ts";

/** A parameter of the base that the adapter has a trained copy of. */
export interface SavedParameter {
  readonly file: FileTensor;
  readonly original: Parameter;
  readonly copy: Parameter;
}

/** Does a module go by one of these names, as PEFT matches them? */
export const matches = (module: string, names: readonly string[]): boolean =>
  names.some((name) => module === name || module.endsWith(`.${name}`));

/** The same for modules that are trained whole: "norm" is every module whose name ends so, with or without a dot before. */
export const matchesWhole = (module: string, names: readonly string[]): boolean =>
  names.some((name) => module.endsWith(name));

/** "a.b.weight" -> "a.b". */
export const moduleOf = (tensor: string): string => tensor.replace(/\.(weight|bias)$/, "");

/** What PEFT adapts where nothing is named: queries and values, by their names in the family. */
const usualTargets = [["q_proj", "v_proj"], ["c_attn"], ["query_key_value"]];

export interface LinearModule {
  name: string;
  linear: Linear;
  rows: readonly [number, number];
  order?: readonly number[];
}

/** Every linear layer of the Hugging Face model but its head, with the rows that it has of ours. */
export function linearModules(config: DecoderConfig, head: HeadKind, decoder: Decoder): LinearModule[] {
  return fileTensors(config, head).flatMap(({ name, parameter, rows, order }) => {
    if (!parameter.startsWith("decoder.") || !parameter.endsWith(".weight")) return [];
    const linear = ownerOf(decoder, parameter);
    if (!(linear instanceof Linear)) return [];
    return [{ name: moduleOf(name), linear, rows: rows ?? [0, linear.weight.shape[0]], order }];
  });
}

/** The linear layers that the options mean. Throws `UserError` when a name fits no module. */
export function targetModules(
  config: DecoderConfig,
  head: HeadKind,
  decoder: Decoder,
  options: LoraOptions,
): LinearModule[] {
  const all = linearModules(config, head, decoder);
  refuseUnknown(config, all, options);
  const usual = usualTargets.find((names) => names.every((n) => all.some(({ name }) => matches(name, [n]))));
  const chosen = options.targets ?? usual ?? "all-linear";
  return all.filter(({ name }) => chosen === "all-linear" || matches(name, chosen));
}

/** The names of a model's modules that can be adapted, as Hugging Face's models call them. */
export function adaptableModules({ decoder }: { decoder: Decoder | { readonly base: Decoder } }): string[] {
  const own = "base" in decoder ? decoder.base : decoder;
  return linearModules(own.config, "lm", own).map((m) => m.name);
}

/** The module that holds a parameter ("decoder.blocks.0.mlp.up.weight"). */
function ownerOf(decoder: Decoder, parameter: string): unknown {
  const path = parameter.split(".").slice(1, -1);
  return path.reduce<unknown>((at, key) => (at as Record<string, unknown>)[key], decoder);
}

const isHead = (parameter: string): boolean => ["head", "score", "scoreBias"].includes(parameter);

/** The file tensors of a model with both heads, so that a tied LM head has a name, too. */
export const allTensors = (config: DecoderConfig): FileTensor[] => {
  const lm = fileTensors({ ...config, tieEmbeddings: false }, "lm");
  return [...lm, ...fileTensors(config, "score", true).filter((t) => isHead(t.parameter))];
};

/** True when a model with these options has a head of its own. */
export const savesHead = (
  config: DecoderConfig,
  { modulesToSave = [] }: LoraOptions,
  head: "head" | "score",
): boolean => allTensors(config).some((t) => t.parameter === head && matchesWhole(moduleOf(t.name), modulesToSave));

/** The parameters of the modules that are trained whole. Throws `UserError` for one that is a part of a matrix here. */
export function savedParameters(config: DecoderConfig, decoder: Decoder, names: readonly string[]): SavedParameter[] {
  return allTensors(config).flatMap((file) => {
    if (isHead(file.parameter) || !matchesWhole(moduleOf(file.name), names)) return [];
    if (file.rows || file.order) {
      throw new UserError(
        `lora_modules_to_save: ${moduleOf(file.name)} shares its matrix with others here and cannot be trained whole; ` +
          "take it as a lora_target_modules instead",
      );
    }
    const owner = ownerOf(decoder, file.parameter) as Record<string, Parameter>;
    const original = owner[file.parameter.split(".").at(-1) as string];
    const own = new Parameter(original.shape, { constant: 0 }, original.decay);
    own.name = file.parameter;
    own.maps = original.maps;
    return [{ file, original, copy: own }];
  });
}

/** PEFT's own list of heads; a name on it that a model does not have is no mistake. */
const usualHeads = ["score", "classifier", "lm_head"];

function refuseUnknown(config: DecoderConfig, layers: readonly LinearModule[], options: LoraOptions): void {
  const { targets = [], modulesToSave = [] } = options;
  const modules = layers.map((m) => m.name);
  const ends = [...new Set(modules.map((m) => m.split(".").at(-1) as string))];
  if (targets !== "all-linear") {
    for (const target of targets) {
      if (modules.some((m) => matches(m, [target]))) continue;
      throw new UserError(
        `lora_target_modules: no linear layer of this ${config.family} model is called ${JSON.stringify(target)}; ` +
          `its layers are ${ends.join(", ")} (or all-linear)`,
      );
    }
  }
  const all = allTensors(config).map((t) => moduleOf(t.name));
  for (const name of modulesToSave) {
    if (usualHeads.includes(name) || all.some((m) => matchesWhole(m, [name]))) continue;
    throw new UserError(
      `lora_modules_to_save: no module of this ${config.family} model is called ${JSON.stringify(name)}`,
    );
  }
}
