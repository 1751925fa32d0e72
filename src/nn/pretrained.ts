/** Models in Hugging Face folders and GGUF files: weights travel between file and GPU a few tensors at a time. */
import { finish } from "../gpu/stream.ts";
import {
  type DtypeName,
  FLOAT_TYPES,
  isGguf,
  MAX_SHARD_SIZE,
  openModel,
  readConfig,
  weightFiles,
} from "../io/model-files.ts";
import { type FloatType, firstUnstorable, type TensorToWrite } from "../io/safetensors-write.ts";
import type { WeightSource } from "../io/weights.ts";
import { UserError } from "../runtime/errors.ts";
import { type FileContent, type Files, parseJson } from "../runtime/files.ts";
import type { Parameter } from "../tensor/params.ts";
import type { WeightFormat } from "../tensor/quantize.ts";
import type { DecoderConfig } from "./config.ts";
import {
  configText,
  type FileTensor,
  fileTensors,
  fromHfConfig,
  type HeadKind,
  isExtra,
  nameIn,
  toHfConfig,
} from "./huggingface.ts";
import { CausalLM, type Model, ScoreModel } from "./models.ts";
import { readScoring, type ScoreHead, type Scoring } from "./scoring.ts";
import { transpose } from "./transpose.ts";

/** Bytes that are read, or uploaded without waiting, at once. */
const BLOCK = 16 << 20;
const IN_FLIGHT = 64 << 20;

const headOf = (model: Model): HeadKind => (model instanceof ScoreModel ? "score" : "lm");

/** How a model's weights are written. */
export interface SaveOptions {
  /** How the weights are stored; default float32, which loses nothing. */
  dtype?: DtypeName;
  /** Bytes of the largest file of weights; default 5 GB. */
  maxShardSize?: number;
}

/**
 * The files of a model folder, without a tokenizer; write them with `Files.writeFolder` or `Files.writeFiles`.
 * The weights are read from the GPU while they are written, so write them before training goes on, and once.
 * A tied LM head is left out, as transformers does. Writing throws `UserError` naming the tensor that is not finite.
 */
export async function modelFiles(model: Model, options: SaveOptions = {}): Promise<Record<string, FileContent>> {
  const { dtype = "float32", maxShardSize = MAX_SHARD_SIZE } = options;
  const { config } = model;
  const head = headOf(model);
  const tensors = tensorsOf(model).map((tensor) => toWrite(model, tensor, dtype));
  const eos = config.eosIds.length > 1 ? [...config.eosIds] : config.eosId;
  const generation = { bos_token_id: config.bosId, eos_token_id: eos, pad_token_id: config.padId, do_sample: true };
  return {
    ...weightFiles(tensors, maxShardSize),
    "config.json": configText({ ...described(model), dtype, torch_dtype: dtype }),
    ...(head === "lm" && { "generation_config.json": json(generation) }),
  };
}

const hasBias = (model: Model): boolean => model instanceof ScoreModel && model.scoreBias !== null;
const tensorsOf = (model: Model): FileTensor[] => fileTensors(model.config, headOf(model), hasBias(model));
const described = (model: Model) =>
  toHfConfig(model.config, headOf(model), model instanceof ScoreModel ? model.scoring : undefined, hasBias(model));

const json = (value: unknown) => `${JSON.stringify(value, null, 2)}\n`;

function toWrite(model: Model, tensor: FileTensor, dtype: DtypeName): TensorToWrite {
  const parameter = parameterOf(model, tensor.parameter);
  const type = FLOAT_TYPES[dtype];
  const shape = shapeInFile(tensor, parameter);
  const { first, last, width } = place(tensor, parameter);
  const readRows = async (from: number, to: number) => {
    const data = await parameter.stored.readPart((first + from) * width, (to - from) * width);
    checkFinite(data, tensor.name, type);
    return data;
  };
  const described = { name: tensor.name, shape, dtype: type };
  const all = () => readRows(0, last - first);
  const { transposed, order } = tensor;
  if (transposed) return { ...described, read: async () => transpose(await all(), shape[1], shape[0]) };
  if (order) return { ...described, read: async () => gatherRows(await all(), order, width) };
  return { ...described, read: all, readRows };
}

function checkFinite(data: Float32Array, name: string, type: FloatType): void {
  const bad = firstUnstorable(data, type);
  if (bad === undefined) return;
  if (Number.isFinite(bad)) {
    throw new UserError(`tensor ${name} holds ${bad}, too large for float16: save it as bfloat16 or float32`);
  }
  throw new UserError(`tensor ${name} is not finite any more, so it is not saved: lower learning_rate`);
}

/** How the loading of a model is followed and stopped. */
export interface LoadOptions {
  /** Hears again and again how many bytes of the file's weights are on their way to the GPU, and how many there are. */
  progress?: (done: number, total: number) => void;
  /** Stops it: the promise is rejected with the signal's reason, and what was loaded is freed. */
  signal?: AbortSignal;
}

/** Reads the config of a model folder or GGUF file. */
export async function loadConfig(files: Files, path: string): Promise<DecoderConfig> {
  const { config, configFile } = await readConfig(files, path);
  return withEndTokens(files, path, fromHfConfig(config, configFile));
}

/** With the tokens that end a response by generation_config.json, as chat models have more of them than config.json says. */
async function withEndTokens(files: Files, path: string, config: DecoderConfig): Promise<DecoderConfig> {
  const file = `${path}/generation_config.json`;
  const bytes = isGguf(path) ? null : await files.read(file);
  if (!bytes) return config;
  const { eos_token_id: found } = parseJson<{ eos_token_id?: unknown }>(bytes, file);
  const isToken = (id: unknown): id is number =>
    Number.isInteger(id) && Number(id) >= 0 && Number(id) < config.vocabSize;
  const eosIds = [...new Set([...config.eosIds, ...[found].flat().filter(isToken)])];
  return { ...config, eosIds, eosId: eosIds[0] ?? null };
}

/**
 * Opens a language model. Throws `UserError` naming the file, field or tensor that is wrong.
 * @param format how its matrices are kept on the GPU; in a format other than float32 the model is frozen
 */
export async function loadCausalLM(
  files: Files,
  path: string,
  label = "model",
  format: WeightFormat = "float32",
  loading: LoadOptions = {},
): Promise<CausalLM> {
  const build = ({ config, json, weights }: Opened): CausalLM => {
    if (scoreHeadIn(weights) || isScorer(json)) {
      throw new UserError(`${path} is a reward model: it has a score head, and none that says which token comes next`);
    }
    return new CausalLM(config, label, format);
  };
  return open(files, path, build, loading);
}

const isScorer = ({ architectures }: Record<string, unknown>): boolean =>
  [architectures].flat().some((name) => typeof name === "string" && name.includes("ForSequenceClassification"));

/**
 * Opens a scorer. A folder that holds a language model gives its decoder with a fresh score head
 * (normal, standard deviation 1 / (hidden + 1), drawn from `seed`); otherwise the folder's score head is used.
 * @param head what a fresh head is to have; a bias is added to a head that has none, as 0; `trained` refuses a language model
 */
export async function loadScoreModel(
  files: Files,
  path: string,
  label = "scorer",
  seed = 0,
  format: WeightFormat = "float32",
  head: { scoring?: Scoring; bias?: boolean; trained?: boolean } = {},
  loading: LoadOptions = {},
): Promise<ScoreModel> {
  const build = ({ config, json, file, weights }: Opened): ScoreModel => {
    const found = scoreHeadIn(weights);
    if (!found && head.trained) throw new UserError(`${path} ${NOT_TRAINED}`);
    const scoring = found ? readScoring(json, file, found.outputs) : head.scoring;
    if (found && head.scoring && head.scoring.labels.length !== found.outputs) {
      throw new UserError(
        `${file}: the model has a score head with ${found.outputs} outputs, but ${head.scoring.labels.length} are asked ` +
          `for (${head.scoring.labels.join(", ")}): start from a language model`,
      );
    }
    return new ScoreModel(config, label, format, { scoring, bias: found?.bias || head.bias });
  };
  return open(files, path, build, loading, seed);
}

/** Of a language model that is named as a scorer: its scores would be a random head's. */
export const NOT_TRAINED = "is a language model without a score head: name a model that reward or cost has trained";

/** The score head that a file holds, or null. */
export function scoreHeadIn(weights: WeightSource): ScoreHead | null {
  const name = ["score.weight", "score_head.weight"].find((n) => weights.names.includes(n));
  if (name === undefined) return null;
  const bias = ["score.bias", "score_head.bias"].some((n) => weights.names.includes(n));
  return { outputs: weights.info(name).shape[0], bias };
}

interface Opened {
  config: DecoderConfig;
  /** config.json as it is, and its name. */
  json: Record<string, unknown>;
  file: string;
  weights: WeightSource;
}

async function open<M extends Model>(
  files: Files,
  path: string,
  build: (opened: Opened) => M,
  loading: LoadOptions,
  seed = 0,
): Promise<M> {
  loading.signal?.throwIfAborted();
  const { config, configFile, weights } = await openModel(files, path);
  try {
    const described = await withEndTokens(files, path, fromHfConfig(config, configFile));
    const model = build({ config: described, json: config, file: configFile, weights });
    try {
      await loadWeights(model, weights, seed, loading);
      return model;
    } catch (error) {
      model.destroy();
      throw error;
    }
  } finally {
    await weights.close();
  }
}

/**
 * Copies a file's tensors into a model after checking every name and shape.
 * @param seed for a score head that the file does not have
 */
export async function loadWeights(
  model: Model,
  source: WeightSource,
  seed = 0,
  { progress, signal }: LoadOptions = {},
): Promise<void> {
  const present = new Set(source.names);
  const wanted = tensorsOf(model).map((tensor) => ({ tensor, name: nameIn(tensor, present) }));
  const names = new Set(wanted.map(({ name }) => name));
  for (const name of source.names) {
    if (names.has(name) || isExtra(name) || (model instanceof ScoreModel && isGatedHead(name))) continue;
    throw new UserError(
      `${source.label}: tensor ${name} does not belong to a ${model.config.family} model as config.json describes it`,
    );
  }
  for (const { tensor, name } of wanted) {
    if (name !== null) checkShape(source, name, shapeInFile(tensor, parameterOf(model, tensor.parameter)));
    // A language model becomes a scorer with a fresh head.
    else if (/^score(Bias)?$/.test(tensor.parameter)) model.store.initialize(seed, (p) => p.name === tensor.parameter);
    else throw new UserError(`${source.label}: tensor ${tensor.name} is missing`);
  }
  const upload = uploader();
  const inFile = wanted.flatMap(({ tensor, name }) => (name === null ? [] : [{ tensor, name }]));
  const total = inFile.reduce((sum, { name }) => sum + source.info(name).bytes, 0);
  let before = 0;
  for (const { tensor, name } of inFile) {
    const { bytes } = source.info(name);
    const parameter = parameterOf(model, tensor.parameter);
    const size = shapeInFile(tensor, parameter).reduce((n, length) => n * length, 1);
    let sent = 0;
    await copyTensor(source, name, tensor, parameter, async (to, first, data) => {
      signal?.throwIfAborted();
      await upload(to, first, data);
      sent += data.length;
      progress?.(Math.round(before + (bytes * sent) / size), total);
    });
    before += bytes;
  }
}

/** ArmoRM's head, of which the model under it is the backbone: who opens the head reads it. */
const isGatedHead = (name: string): boolean => /^(regression_layer|gating|reward_transform_matrix)(\.|$)/.test(name);

function checkShape(source: WeightSource, name: string, expected: readonly number[]): void {
  const { shape } = source.info(name);
  if (shape.length === expected.length && shape.every((n, i) => n === expected[i])) return;
  throw new UserError(`${source.label}: tensor ${name} has shape [${shape}], but config.json asks for [${expected}]`);
}

type Upload = (parameter: Parameter, first: number, data: Float32Array) => Promise<void>;

/** Uploads, and waits now and then: a queue keeps a copy of everything it has not yet written. */
function uploader(): Upload {
  let bytes = 0;
  return async (parameter, first, data) => {
    parameter.stored.writePart(first, data);
    bytes += data.byteLength;
    if (bytes < IN_FLIGHT) return;
    bytes = 0;
    await finish();
  };
}

async function copyTensor(
  source: WeightSource,
  name: string,
  tensor: FileTensor,
  parameter: Parameter,
  upload: Upload,
): Promise<void> {
  const { first, last, width } = place(tensor, parameter);
  if (tensor.transposed) {
    const data = await source.read(name);
    return upload(parameter, first * width, transpose(data, width, last - first));
  }
  const most = Math.max(1, Math.floor(BLOCK / 4 / width));
  for (const { from, to, rows } of runs(tensor.order, last - first, most)) {
    await upload(parameter, (first + to) * width, await source.readRows(name, from, from + rows));
  }
}

/** Runs of at most `most` rows that follow one another both in the file (`from`) and in the parameter (`to`). */
function* runs(order: readonly number[] | undefined, count: number, most: number) {
  for (let from = 0; from < count; ) {
    const to = order ? order[from] : from;
    let rows = 1;
    while (rows < most && from + rows < count && (!order || order[from + rows] === to + rows)) rows += 1;
    yield { from, to, rows };
    from += rows;
  }
}

/** Which rows of the parameter a tensor is, and how wide they are. A vector's rows are its values. */
function place({ rows }: FileTensor, { shape, size }: Parameter) {
  const [first, last] = rows ?? [0, shape[0]];
  return { first, last, width: size / shape[0] };
}

function shapeInFile(tensor: FileTensor, parameter: Parameter): number[] {
  const { first, last } = place(tensor, parameter);
  const shape = [last - first, ...parameter.shape.slice(1)];
  return tensor.transposed ? shape.toReversed() : shape;
}

function parameterOf(model: Model, name: string): Parameter {
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
