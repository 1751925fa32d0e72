/** Models in Hugging Face folders: config.json, model.safetensors, generation_config.json and the tokenizer's files. */
import { parseSafetensors, type SafeTensors, writeSafetensors } from "../io/safetensors.ts";
import { UserError } from "../runtime/errors.ts";
import { type Files, parseJson, readNeeded } from "../runtime/files.ts";
import type { DecoderConfig } from "./config.ts";
import { fileTensors, fromHfConfig, type HeadKind, isExtra, nameIn, toHfConfig } from "./huggingface.ts";
import { CausalLM, type Model, ScoreModel } from "./models.ts";

export const WEIGHTS = "model.safetensors";

const headOf = (model: Model): HeadKind => (model instanceof ScoreModel ? "score" : "lm");

/**
 * The files of a model folder, without a tokenizer; write them with `Files.writeFolder`.
 * The weights are stored as f32; a tied LM head is left out, as transformers does.
 * Throws `UserError` naming the tensor when a weight is not finite.
 */
export async function modelFiles(model: Model): Promise<Record<string, Uint8Array | string>> {
  const { config } = model;
  const head = headOf(model);
  const values = await model.store.read();
  const tensors: Record<string, { shape: number[]; data: Float32Array }> = {};
  for (const { name, parameter, rows, transposed, order } of fileTensors(config, head)) {
    const { shape } = parameterOf(model, parameter);
    const width = shape.slice(1).reduce((a, b) => a * b, 1);
    const all = values.get(parameter) as Float32Array;
    const [first, last] = rows ?? [0, shape[0]];
    const data = order ? gatherRows(all, order, width) : all.subarray(first * width, last * width);
    if (!data.every(Number.isFinite)) {
      throw new UserError(`tensor ${name} is not finite any more, so it is not saved: lower learning_rate`);
    }
    const kept = [last - first, ...shape.slice(1)];
    tensors[name] = transposed
      ? { shape: kept.toReversed(), data: transpose(data, kept[0], kept[1]) }
      : { shape: kept, data };
  }
  const { bosId, eosId, padId } = config;
  const generation = { bos_token_id: bosId, eos_token_id: eosId, pad_token_id: padId, do_sample: true };
  return {
    "config.json": json(toHfConfig(config, head)),
    [WEIGHTS]: writeSafetensors(tensors),
    ...(head === "lm" && { "generation_config.json": json(generation) }),
  };
}

const json = (value: unknown) => `${JSON.stringify(value, null, 2)}\n`;

/** Reads a folder's config.json. */
export async function loadConfig(files: Files, folder: string): Promise<DecoderConfig> {
  const path = `${folder}/config.json`;
  const content = await readNeeded(
    files,
    path,
    "a model folder holds config.json, model.safetensors and tokenizer.json",
  );
  return fromHfConfig(parseJson(content, path), path);
}

/** Opens a language model. Throws `UserError` naming the file, field or tensor that is wrong. */
export async function loadCausalLM(files: Files, folder: string, label = "model"): Promise<CausalLM> {
  return loadInto(new CausalLM(await loadConfig(files, folder), label), files, folder);
}

/**
 * Opens a scorer. A folder that holds a language model gives its decoder with a fresh score head
 * (normal, standard deviation 1 / (hidden + 1), drawn from `seed`); otherwise the folder's score head is used.
 */
export async function loadScoreModel(files: Files, folder: string, label = "scorer", seed = 0): Promise<ScoreModel> {
  const model = new ScoreModel(await loadConfig(files, folder), label);
  model.initialize(seed);
  return loadInto(model, files, folder);
}

async function loadInto<M extends Model>(model: M, files: Files, folder: string): Promise<M> {
  try {
    const path = `${folder}/${WEIGHTS}`;
    const weights = parseSafetensors(await readNeeded(files, path, "the weights of the model"), path);
    loadWeights(model, weights, path);
    return model;
  } catch (error) {
    model.destroy();
    throw error;
  }
}

/** Copies a file's tensors into a model after checking every name and shape. */
export function loadWeights(model: Model, weights: SafeTensors, path: string): void {
  const wanted = fileTensors(model.config, headOf(model));
  const present = new Set(weights.names);
  const names = new Set(wanted.map((t) => nameIn(t, present)));
  for (const name of weights.names) {
    if (names.has(name) || isExtra(name)) continue;
    throw new UserError(
      `${path}: tensor ${name} does not belong to a ${model.config.family} model as config.json describes it`,
    );
  }
  const parts = new Map<string, Float32Array>();
  for (const tensor of wanted) {
    const { parameter, rows, transposed, order } = tensor;
    const target = parameterOf(model, parameter);
    const name = nameIn(tensor, present);
    if (name === null) {
      if (tensor.name === "score.weight") continue; // a language model becomes a scorer with a fresh head
      throw new UserError(`${path}: tensor ${tensor.name} is missing`);
    }
    const [first, last] = rows ?? [0, target.shape[0]];
    const kept = [last - first, ...target.shape.slice(1)];
    const expected = transposed ? kept.toReversed() : kept;
    const { shape, data } = weights.get(name);
    if (shape.length !== expected.length || shape.some((n, i) => n !== expected[i])) {
      throw new UserError(`${path}: tensor ${name} has shape [${shape}], but config.json asks for [${expected}]`);
    }
    const whole = parts.get(parameter) ?? new Float32Array(target.size);
    parts.set(parameter, whole);
    const width = target.size / target.shape[0];
    if (order) scatterRows(data, order, width, whole);
    else whole.set(transposed ? transpose(data, kept[1], kept[0]) : data, first * width);
  }
  for (const [parameter, data] of parts) parameterOf(model, parameter).value.write(data);
}

function parameterOf(model: Model, name: string) {
  const found = model.store.parameters.find((p) => p.name === name);
  if (!found) throw new Error(`no parameter ${name}`);
  return found;
}

/** Rows order[0], order[1], ... of a matrix. */
function gatherRows(data: Float32Array, order: readonly number[], width: number): Float32Array {
  const out = new Float32Array(order.length * width);
  for (const [i, row] of order.entries()) out.set(data.subarray(row * width, (row + 1) * width), i * width);
  return out;
}

/** The reverse: row i of `data` becomes row order[i] of `out`. */
function scatterRows(data: Float32Array, order: readonly number[], width: number, out: Float32Array): void {
  for (const [i, row] of order.entries()) out.set(data.subarray(i * width, (i + 1) * width), row * width);
}

/** A row-major [rows, columns] matrix as [columns, rows]. */
function transpose(data: Float32Array, rows: number, columns: number): Float32Array {
  const out = new Float32Array(data.length);
  for (let r = 0; r < rows; r++) for (let c = 0; c < columns; c++) out[c * rows + r] = data[r * columns + c];
  return out;
}
