/**
 * Adapters in PEFT's files, both ways: adapter_config.json and adapter_model.safetensors. What PEFT can do and we cannot is
 * refused by its name in adapter_config.json; a tensor that does not fit is refused by its own.
 */
import { parseSafetensors, writeSafetensors } from "../io/safetensors.ts";
import { UserError } from "../runtime/errors.ts";
import { type Files, parseJson, readNeeded } from "../runtime/files.ts";
import type { Parameter } from "../tensor/params.ts";
import type { FileTensor, HeadKind } from "./huggingface.ts";
import type { Adapter } from "./lora.ts";
import type { LoraOptions } from "./lora-options.ts";
import { adaptableModules, allTensors, matches, matchesWhole, moduleOf } from "./lora-targets.ts";
import { CausalLM, type Model, ScoreModel } from "./models.ts";
import { type AdapterConfig, alphaOf, parseAdapterConfig } from "./peft-config.ts";
import { isPlain, readScoring, type Scoring, scoringFields } from "./scoring.ts";
import { transpose } from "./transpose.ts";

export const ADAPTER_CONFIG = "adapter_config.json";
export const ADAPTER_WEIGHTS = "adapter_model.safetensors";
/** What a scorer's config.json would say of its head, which PEFT has no fields for; only where there is something to say. */
export const SCORE_CONFIG = "score_config.json";
const PREFIX = "base_model.model.";

/** A tensor of the file: rows of a parameter, in an order of their own or transposed where the family stores them so. */
interface Place extends Omit<FileTensor, "parameter"> {
  parameter: Parameter;
}

/** Every tensor that the files of this model's adapter hold. */
function placesOf(model: Model, adapter: Adapter): Place[] {
  const low = adapter.modules.flatMap(({ name, rank, a, rankOffset, b, order, magnitude }): Place[] => [
    { name: `${PREFIX}${name}.lora_A.weight`, parameter: a, rows: [rankOffset, rankOffset + rank] },
    { name: `${PREFIX}${name}.lora_B.weight`, parameter: b, order },
    ...(magnitude ? [{ name: `${PREFIX}${name}.lora_magnitude_vector`, parameter: magnitude, order }] : []),
  ]);
  const saved = adapter.saved.map(({ file, copy }): Place => ({ ...file, name: PREFIX + file.name, parameter: copy }));
  const own: Record<string, Parameter | null> = {
    head: model instanceof CausalLM ? model.head : null,
    score: model instanceof ScoreModel ? model.score : null,
    scoreBias: model instanceof ScoreModel ? model.scoreBias : null,
  };
  const heads = allTensors(model.config).flatMap((file): Place[] => {
    const parameter = own[file.parameter];
    return parameter ? [{ ...file, name: PREFIX + file.name, parameter }] : [];
  });
  return [...low, ...saved, ...heads];
}

/**
 * The files of a model's adapter; write them with `Files.writeFolder`. The base model is named, not stored.
 * Throws `UserError` naming the tensor when a value is not finite.
 */
export async function adapterFiles(model: Model): Promise<Record<string, Uint8Array | string>> {
  const adapter = adapterOf(model);
  const values = await model.store.read();
  const tensors: Record<string, { shape: number[]; data: Float32Array }> = {};
  for (const { name, parameter, rows, order, transposed } of placesOf(model, adapter)) {
    const [height, width] = sizeOf(parameter);
    const [first, last] = rows ?? [0, height];
    const all = values.get(parameter.name) as Float32Array;
    let data = all.subarray(first * width, last * width);
    if (order) data = Float32Array.from(data, (_, i) => all[order[Math.floor(i / width)] * width + (i % width)]);
    if (transposed) data = transpose(data, last - first, width);
    if (!data.every(Number.isFinite)) {
      throw new UserError(`tensor ${name} is not finite any more, so it is not saved: lower learning_rate`);
    }
    const kept = [last - first, ...parameter.shape.slice(1)];
    tensors[name] = { shape: transposed ? kept.toReversed() : kept, data };
  }
  const json = (value: unknown) => `${JSON.stringify(value, null, 2)}\n`;
  const bias = model instanceof ScoreModel && model.scoreBias !== null;
  return {
    [ADAPTER_CONFIG]: json(configOf(model, adapter)),
    ...(model instanceof ScoreModel &&
      !isPlain(model.scoring, bias) && { [SCORE_CONFIG]: json(scoringFields(model.scoring, bias)) }),
    [ADAPTER_WEIGHTS]: writeSafetensors(tensors),
  };
}

function configOf(model: Model, { options, modules, basePath }: Adapter): Record<string, unknown> {
  const { rank, alpha, dropout = 0, rsLora = false, dora = false, init, exceptions = new Map() } = options;
  const scorer = model instanceof ScoreModel;
  const differing = (key: "rank" | "alpha", usual: number) =>
    Object.fromEntries([...exceptions].filter(([, own]) => own[key] !== usual).map(([name, own]) => [name, own[key]]));
  const wholes = [...new Set([...(options.modulesToSave ?? []), ...(scorer ? ["score"] : [])])];
  const adapted = new Set(modules.map((m) => `${m.name}.weight`));
  return {
    peft_type: "LORA",
    task_type: scorer ? "SEQ_CLS" : "CAUSAL_LM",
    base_model_name_or_path: basePath || null,
    revision: null,
    inference_mode: true,
    r: rank,
    lora_alpha: alpha,
    lora_dropout: dropout,
    use_rslora: rsLora,
    use_dora: dora,
    bias: "none",
    fan_in_fan_out: allTensors(model.config).some((t) => t.transposed && adapted.has(t.name)),
    init_lora_weights: init === "gaussian" ? "gaussian" : true,
    target_modules: targetNames(model, modules),
    modules_to_save: wholes.length > 0 ? wholes : null,
    rank_pattern: differing("rank", rank),
    alpha_pattern: differing("alpha", alpha),
    layers_to_transform: null,
    layers_pattern: null,
    auto_mapping: null,
  };
}

/** The shortest names that mean these modules and no others. */
function targetNames(model: Model, modules: Adapter["modules"]): string[] {
  const names = modules.map((m) => m.name);
  const ends = [...new Set(names.map((name) => name.split(".").at(-1) as string))].sort();
  const meant = adaptableModules(model).filter((name) => matches(name, ends));
  return meant.length === names.length ? ends : names;
}

/** An adapter folder that was read, but not put on a model. */
export interface AdapterFolder extends AdapterConfig {
  folder: string;
  /** Of a scorer whose head is not a plain one. */
  head: { scoring: Scoring; bias: boolean } | null;
}

/** Reads a folder's adapter_config.json; null where there is none. */
export async function readAdapterFolder(files: Files, folder: string): Promise<AdapterFolder | null> {
  const path = `${folder}/${ADAPTER_CONFIG}`;
  const content = await files.read(path);
  return (
    content && { ...parseAdapterConfig(parseJson(content, path), path), folder, head: await readHead(files, folder) }
  );
}

async function readHead(files: Files, folder: string): Promise<AdapterFolder["head"]> {
  const path = `${folder}/${SCORE_CONFIG}`;
  const content = await files.read(path);
  if (!content) return null;
  const fields = parseJson<Record<string, unknown>>(content, path);
  const outputs = typeof fields.score_dim === "number" ? fields.score_dim : 1;
  return { scoring: readScoring(fields, path, outputs), bias: fields.bias === true };
}

/**
 * Opens the adapter of a folder on a base that is open already. A language model's adapter gives a scorer with a fresh
 * score head, drawn from `seed`. Throws `UserError` naming the file, field or tensor that is wrong.
 */
export async function openAdapter<K extends HeadKind>(
  files: Files,
  adapter: AdapterFolder,
  base: Model,
  kind: K,
  { label = "model", seed = 0 } = {},
): Promise<K extends "lm" ? CausalLM : ScoreModel> {
  const { folder } = adapter;
  if (kind === "lm" && adapter.taskType === "SEQ_CLS") {
    throw new UserError(`${folder} holds a reward model's adapter, not a language model's`);
  }
  const weights = await readTensors(files, folder);
  const lora = optionsOf(adapter, weights, base, `${folder}/${ADAPTER_WEIGHTS}`);
  const model =
    kind === "lm"
      ? new CausalLM({ base, lora }, label)
      : new ScoreModel({ base, lora }, label, "float32", adapter.head ?? {});
  try {
    model.initialize(seed);
    (model.adapter as Adapter).basePath = adapter.basePath ?? "";
    fill(model, weights, `${folder}/${ADAPTER_WEIGHTS}`, adapter.taskType !== "SEQ_CLS");
    return model as K extends "lm" ? CausalLM : ScoreModel;
  } catch (error) {
    model.destroy();
    throw error;
  }
}

/** Overwrites an adapter with what a folder holds of the same adapter, e.g. at an earlier step. */
export async function restoreAdapter(model: Model, files: Files, folder: string): Promise<void> {
  fill(model, await readTensors(files, folder), `${folder}/${ADAPTER_WEIGHTS}`, false);
}

type Tensors = Map<string, { shape: readonly number[]; data: Float32Array }>;

async function readTensors(files: Files, folder: string): Promise<Tensors> {
  const path = `${folder}/${ADAPTER_WEIGHTS}`;
  const old = (await files.list(folder)).includes("adapter_model.bin");
  const why = old
    ? "adapter_model.bin is not read; save the adapter again with PEFT's save_pretrained"
    : "the weights of the adapter";
  const read = parseSafetensors(await readNeeded(files, path, why), path);
  return new Map(read.names.map((name) => [name, read.get(name)]));
}

const LOW = /^base_model\.model\.(.+)\.(?:lora_[AB]\.weight|lora_magnitude_vector)$/;

/** What the file's tensors say beyond adapter_config.json: which modules there are, and their ranks. */
function optionsOf(config: AdapterConfig, tensors: Tensors, base: Model, path: string): LoraOptions {
  const family = base.config.family;
  const known = adaptableModules(base);
  const wholes = allTensors(base.config).map((t) => t.name);
  const modules = new Set<string>();
  const saved = new Set<string>();
  for (const name of tensors.keys()) {
    const module = LOW.exec(name)?.[1];
    if (module !== undefined && known.includes(module)) modules.add(module);
    else if (name.startsWith(PREFIX) && wholes.includes(name.slice(PREFIX.length)))
      saved.add(moduleOf(name.slice(PREFIX.length)));
    else if (/\.lora_embedding_[AB]/.test(name)) {
      throw new UserError(`${path}: tensor ${name}: low-rank adapters of embeddings are not supported`);
    } else {
      throw new UserError(`${path}: tensor ${name} does not belong to an adapter of this ${family} model`);
    }
  }
  if (Array.isArray(config.targets)) for (const name of known) if (matches(name, config.targets)) modules.add(name);
  for (const name of wholes) if (matchesWhole(moduleOf(name), config.modulesToSave)) saved.add(moduleOf(name));
  if (modules.size === 0) throw new UserError(`${path} holds no low-rank tensors`);
  const exceptions = new Map<string, { rank: number; alpha: number }>();
  for (const name of modules) {
    const rank = tensors.get(`${PREFIX}${name}.lora_A.weight`)?.shape[0] ?? config.rank;
    const alpha = alphaOf(name, config);
    if (rank !== config.rank || alpha !== config.alpha) exceptions.set(name, { rank, alpha });
  }
  const { rank, alpha, dropout, rsLora, dora, init } = config;
  return { rank, alpha, dropout, rsLora, dora, init, targets: [...modules], modulesToSave: [...saved], exceptions };
}

/** Copies the file's tensors into the model after checking every name and shape. */
function fill(model: Model, tensors: Tensors, path: string, freshScore: boolean): void {
  const places = placesOf(model, adapterOf(model));
  const heads = new Set(
    allTensors(model.config).flatMap((t) => (/^(head|score|scoreBias)$/.test(t.parameter) ? [PREFIX + t.name] : [])),
  );
  const names = new Set(places.map((p) => p.name));
  for (const name of tensors.keys()) {
    if (names.has(name) || heads.has(name)) continue; // a scorer has no use for a language model's head
    throw new UserError(`${path}: tensor ${name} does not belong to this adapter`);
  }
  const wholes = new Map<Parameter, Float32Array>();
  for (const { name, parameter, rows, order, transposed } of places) {
    const [height, width] = sizeOf(parameter);
    const [first, last] = rows ?? [0, height];
    const kept = [last - first, ...parameter.shape.slice(1)];
    const expected = transposed ? kept.toReversed() : kept;
    const found = tensors.get(name);
    if (!found) {
      if (freshScore && heads.has(name)) continue;
      throw new UserError(`${path}: tensor ${name} is missing`);
    }
    if (`${found.shape}` !== `${expected}`) {
      throw new UserError(
        `${path}: tensor ${name} has shape [${found.shape}], but the base model asks for [${expected}]`,
      );
    }
    const whole = wholes.get(parameter) ?? new Float32Array(parameter.size);
    wholes.set(parameter, whole);
    const data = transposed ? transpose(found.data, width, last - first) : found.data;
    if (!order) whole.set(data, first * width);
    else for (const [i, row] of order.entries()) whole.set(data.subarray(i * width, (i + 1) * width), row * width);
  }
  for (const [parameter, data] of wholes) parameter.value.write(data);
}

function adapterOf(model: Model): Adapter {
  if (!model.adapter) throw new Error("the model has no adapter");
  return model.adapter;
}

/** Rows and the size of each. */
const sizeOf = ({ shape, size }: Parameter): [number, number] => [shape[0], size / shape[0]];
