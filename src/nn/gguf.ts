/** A model as a GGUF file, which llama.cpp and what is built on it read. Needs no GPU. */

import type { WrittenFormat } from "../io/ggml-quantize.ts";
import { architectureFor, describeGguf, writtenModelTypes } from "../io/gguf-architectures.ts";
import { ropeFactors } from "../io/gguf-keys.ts";
import { GgufMetadata } from "../io/gguf-metadata.ts";
import { openGgufTokenizer } from "../io/gguf-model.ts";
import { ggmlTensor, type Layout, rowInFile } from "../io/gguf-names.ts";
import type { TokenizerFiles } from "../io/gguf-tokenizer.ts";
import { tokenizerMetadata } from "../io/gguf-tokenizer-write.ts";
import { type GgufField, type GgufTensorToWrite, headerOf, sizeInGguf, streamGguf } from "../io/gguf-write.ts";
import { isGguf, openModel } from "../io/model-files.ts";
import { firstUnstorable, type TensorToWrite } from "../io/safetensors-write.ts";
import { UserError } from "../runtime/errors.ts";
import { type Files, parseJson, readNeeded } from "../runtime/files.ts";
import { basename } from "../runtime/paths.ts";
import type { DecoderConfig } from "./config.ts";
import { tensorsOf } from "./convert.ts";
import { fromHfConfig, toHfConfig } from "./huggingface.ts";
import { loadConfig, scoreHeadIn } from "./pretrained.ts";
import { transpose } from "./transpose.ts";

/** The formats of most of a file's matrices, named as llama.cpp's converter names them. */
export const ggufTypes = ["f32", "f16", "bf16", "q8_0", "q4_0"] as const;
/** One of `ggufTypes`. */
export type GgufType = (typeof ggufTypes)[number];

/** The result of `writeGguf`. */
export interface GgufWritten {
  tensors: number;
  /** Bytes of all tensors in the file. */
  bytes: number;
  /** Matrices that are f16 because their rows do not divide into the format's blocks. */
  asF16: string[];
}

/** ggml's numbers for "mostly this type". */
const FILE_TYPES: Record<GgufType, number> = { f32: 0, f16: 1, q4_0: 2, q8_0: 7, bf16: 32 };
const BLOCK = 32;
/** Values that are read at once. */
const PIECE = 4 << 20;

/**
 * Writes the language model at `path`, a folder or another GGUF file, as one GGUF file with its tokenizer and chat template,
 * a few rows at a time. Vectors, norms and learned positions are f32 whatever the type; with q4_0 the matrix that gives the
 * logits is q8_0.
 * @throws UserError where the format cannot hold the model: naming the family, the tensor or the part of the tokenizer
 */
export async function writeGguf(
  files: Files,
  path: string,
  outfile: string,
  type: GgufType = "f16",
): Promise<GgufWritten> {
  if (
    !isGguf(path) &&
    !(await files.read(`${path}/config.json`)) &&
    (await files.read(`${path}/adapter_config.json`))
  ) {
    throw new UserError(
      `${path} is an adapter: put it into its base first, with webrlhf merge --adapter_path ${path} --output_dir MERGED`,
    );
  }
  const model = await openModel(files, path);
  try {
    if (scoreHeadIn(model.weights))
      throw new UserError(`${path} is a reward model: GGUF files are for language models`);
    const config = await loadConfig(files, path);
    const json = toHfConfig(fromHfConfig(model.config, model.configFile), "lm");
    const found = architectureFor(config.family);
    if (!found) {
      throw new UserError(
        `${path}: models of family ${config.family} are not written as GGUF; these are: ${writtenModelTypes().join(", ")}`,
      );
    }
    const { name, architecture } = found;
    const metadata = new Map<string, GgufField>([
      ["general.architecture", name],
      ["general.type", "model"],
      ["general.name", basename(path).replace(/\.gguf$/i, "")],
      ["general.file_type", FILE_TYPES[type]],
      ["general.quantization_version", 2],
    ]);
    for (const [key, field] of Object.entries(architecture.write!.keys(json))) metadata.set(`${name}.${key}`, field);
    const { tokenizer, file } = await tokenizerOf(files, path);
    for (const [key, field] of tokenizerMetadata(tokenizer, config.vocabSize, config, file)) {
      metadata.set(key, field);
    }
    const out = new Output(config, type);
    const factors = ropeFactors(json);
    if (factors) out.vector("rope_freqs.weight", factors);
    for (const tensor of tensorsOf(model, "float32")) {
      const inFile = ggmlTensor(architecture.names, tensor.name);
      if (!inFile) throw new UserError(`${path}: tensor ${tensor.name} has no name in GGUF files of ${name}`);
      out.add(tensor, inFile.name, inFile.layout);
    }
    checkSaid(metadata, out.tensors, factors, config, path);
    await files.writeFile(outfile, streamGguf(metadata, out.tensors));
    const bytes = out.tensors.reduce((sum, tensor) => sum + sizeInGguf(tensor), 0);
    return { tensors: out.tensors.length, bytes, asF16: out.asF16 };
  } finally {
    await model.weights.close();
  }
}

/** The tensors of a file, each with its format and its layout. */
class Output {
  readonly tensors: GgufTensorToWrite[] = [];
  readonly asF16: string[] = [];
  private readonly config: DecoderConfig;
  private readonly type: GgufType;

  constructor(config: DecoderConfig, type: GgufType) {
    this.config = config;
    this.type = type;
  }

  vector(name: string, values: Float32Array): void {
    this.tensors.push({
      name,
      shape: [values.length],
      format: "F32",
      async *pieces() {
        yield values;
      },
    });
  }

  /** @param tensor of the model, under its name there */
  add(tensor: TensorToWrite, name: string, layout: Layout): void {
    const shape = layout === "transposed" ? tensor.shape.toReversed() : tensor.shape;
    const format = this.formatOf(name, shape);
    const heads = /^blk\.\d+\.attn_k\./.test(name) ? this.config.kvHeads : this.config.heads;
    const check = (values: Float32Array) => {
      const bad = format === "F32" || format === "BF16" ? undefined : firstTooLarge(values, format);
      if (bad === undefined) return values;
      throw new UserError(`tensor ${tensor.name} holds ${bad}, too large for ${format}: use outtype bf16 or f32`);
    };
    this.tensors.push({
      name,
      shape,
      format,
      async *pieces() {
        for await (const values of rearranged(tensor, layout, heads)) yield check(values);
      },
    });
  }

  private formatOf(name: string, shape: readonly number[]): WrittenFormat {
    const { type } = this;
    if (type === "f32" || shape.length < 2 || /_norm\.weight$/.test(name) || name === "position_embd.weight")
      return "F32";
    if (type === "f16" || type === "bf16") return type === "f16" ? "F16" : "BF16";
    if (shape[shape.length - 1] % BLOCK !== 0) {
      this.asF16.push(name);
      return "F16";
    }
    const logits = this.config.tieEmbeddings ? "token_embd.weight" : "output.weight";
    return type === "q8_0" || name === logits ? "Q8_0" : "Q4_0";
  }
}

/** The first value that the format cannot hold; a block's scale, its largest value by 127 or 8, is a 16-bit number. */
function firstTooLarge(values: Float32Array, format: WrittenFormat): number | undefined {
  const room = format === "Q8_0" ? 127 : format === "Q4_0" ? 8 : 1;
  if (room === 1) return firstUnstorable(values, "F16");
  return values.find((value) => !(Math.abs(value) < 65520 * room));
}

/** The values of a tensor as they stand in the file. */
async function* rearranged(tensor: TensorToWrite, layout: Layout, heads: number): AsyncGenerator<Float32Array> {
  const [rows, ...rest] = tensor.shape;
  const width = rest.reduce((a, b) => a * b, 1);
  const change = layout === "minusOne" ? (values: Float32Array) => values.map((x) => x + 1) : (v: Float32Array) => v;
  if (layout === "same" || layout === "minusOne") {
    const most = rest.length === 0 ? rows : Math.max(1, Math.floor(PIECE / width));
    for (let first = 0; first < rows; first += most) {
      const last = Math.min(rows, first + most);
      const values = tensor.readRows ? await tensor.readRows(first, last) : await tensor.read();
      yield change(values as Float32Array);
      if (!tensor.readRows) return;
    }
    return;
  }
  const values = (await tensor.read()) as Float32Array;
  if (layout === "transposed") {
    yield transpose(values, rows, width);
    return;
  }
  const out = new Float32Array(values.length);
  for (let i = 0; i < rows; i++) {
    out.set(values.subarray(i * width, (i + 1) * width), rowInFile(layout, i, heads, rows) * width);
  }
  yield out;
}

/** The tokenizer beside a model, or inside its file, with its chat template. */
async function tokenizerOf(files: Files, path: string): Promise<{ tokenizer: TokenizerFiles; file: string }> {
  if (isGguf(path)) return { tokenizer: await openGgufTokenizer(files, path), file: path };
  const file = `${path}/tokenizer.json`;
  const json = parseJson(await readNeeded(files, file, "a GGUF file carries its model's tokenizer"), file);
  const configFile = `${path}/tokenizer_config.json`;
  const found = await files.read(configFile);
  const config = found ? parseJson(found, configFile) : {};
  const template = await files.read(`${path}/chat_template.jinja`);
  const own = template ? new TextDecoder().decode(template) : config.chat_template;
  const named = Array.isArray(own) ? own.find(({ name }) => name === "default")?.template : own;
  return { tokenizer: { json, config: { ...config, chat_template: named } }, file };
}

/** Fields that files say in another way, or not at all without harm. */
const UNSAID: readonly (keyof DecoderConfig)[] = ["family", "bosId", "eosId", "padId"];

/** Reads the header as it will stand in the file: whatever it cannot say about the model's arithmetic is refused now. */
function checkSaid(
  metadata: ReadonlyMap<string, GgufField>,
  tensors: readonly GgufTensorToWrite[],
  factors: Float32Array | null,
  config: DecoderConfig,
  path: string,
): void {
  const header = headerOf(metadata, tensors);
  const read = describeGguf(new GgufMetadata(header, path), header, factors);
  const said = fromHfConfig(read.config, path);
  for (const key of Object.keys(config) as (keyof DecoderConfig)[]) {
    if (key === "eosIds" && config.eosIds.length === 0) continue; // the tokenizer may know one
    if (UNSAID.includes(key) || settled(said, key) === settled(config, key)) continue;
    throw new UserError(
      `${path}: a GGUF file of architecture ${metadata.get("general.architecture")} cannot say that ${key} is ` +
        `${JSON.stringify(config[key])}; it would be read as ${JSON.stringify(said[key])}`,
    );
  }
}

/** A field as text, as far as it counts: numbers as f32, no window where no layer slides, ends in any order. */
function settled(config: DecoderConfig, key: keyof DecoderConfig): string {
  const slides = config.slidingWindow !== null && config.slidingLayers.includes(true);
  if ((key === "slidingWindow" || key === "slidingLayers") && !slides) return "none";
  if (key === "ropeScaling" && config.ropeScaling?.type === "dynamic") return "null";
  const value = key === "eosIds" ? [...config.eosIds].sort((a, b) => a - b) : config[key];
  return JSON.stringify(value, (_, x) => (typeof x === "number" ? Math.fround(x) : x)) ?? "undefined";
}
