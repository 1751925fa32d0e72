/** A GGUF file as if it were a Hugging Face model folder: config, tensors, tokenizer. */
import { UserError } from "../runtime/errors.ts";
import type { Files } from "../runtime/files.ts";
import type { OpenFile } from "../runtime/open.ts";
import { type GgufTensor, readGgufHeader } from "./gguf.ts";
import { describeGguf } from "./gguf-architectures.ts";
import { ggufGeneration, notSupported } from "./gguf-config.ts";
import { GgufMetadata } from "./gguf-metadata.ts";
import { hfTensor, type Layout, rowInFile } from "./gguf-names.ts";
import { ggufTokenizer, type TokenizerFiles } from "./gguf-tokenizer.ts";
import type { WeightSource } from "./weights.ts";

export interface GgufModel {
  /** As config.json would hold it. */
  config: Record<string, unknown>;
  /** As generation_config.json would hold it. */
  generation: Record<string, unknown>;
  weights: WeightSource;
  hasTokenizer: boolean;
}

/** Opens a GGUF file. The caller closes its weights. */
export async function openGguf(files: Files, path: string): Promise<GgufModel> {
  const file = await openNeeded(files, path);
  try {
    const header = await readGgufHeader(file, path);
    const meta = new GgufMetadata(header, path);
    const factors = header.tensors.get(ROPE_FACTORS);
    const ropeFactors = factors ? await new Tensor(factors, file, path, ROPE_FACTORS).all() : null;
    const { names, config, heads, kvHeads } = describeGguf(meta, header, ropeFactors);
    const tensors = new Map<string, Tensor>();
    for (const [ggml, tensor] of header.tensors) {
      if (ggml === ROPE_FACTORS || ggml.includes("attn_rot_embd")) continue;
      const found = hfTensor(names, ggml);
      if (!found) throw notSupported(path, ggml);
      const groups = /\.k_proj/.test(found.name) ? kvHeads : heads;
      tensors.set(found.name, new Tensor(tensor, file, path, ggml, found.layout, groups));
    }
    return {
      config,
      generation: ggufGeneration(config),
      weights: source(tensors, file, path),
      hasTokenizer: meta.has("tokenizer.ggml.tokens"),
    };
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** The tokenizer that a GGUF file carries. */
export async function openGgufTokenizer(files: Files, path: string): Promise<TokenizerFiles> {
  const file = await openNeeded(files, path);
  try {
    return ggufTokenizer(new GgufMetadata(await readGgufHeader(file, path), path));
  } finally {
    await file.close();
  }
}

const ROPE_FACTORS = "rope_freqs.weight";

async function openNeeded(files: Files, path: string): Promise<OpenFile> {
  const file = await files.open(path);
  if (!file) throw new UserError(`${path}: there is no such file`);
  return file;
}

function source(tensors: ReadonlyMap<string, Tensor>, file: OpenFile, path: string): WeightSource {
  const get = (name: string): Tensor => {
    const tensor = tensors.get(name);
    if (!tensor) throw new UserError(`${path}: there is no tensor ${name}`);
    return tensor;
  };
  return {
    label: path,
    names: [...tensors.keys()],
    info(name) {
      const { type, shape, bytes } = get(name);
      return { dtype: type, shape, bytes };
    },
    read: async (name) => get(name).all(),
    readRows: async (name, first, last) => get(name).rows(first, last),
    close: () => file.close(),
  };
}

/** One tensor of the file, read in the layout of the model. */
class Tensor {
  readonly type: string;
  /** In the model. */
  readonly shape: readonly number[];
  /** In the file. */
  readonly bytes: number;
  private readonly tensor: GgufTensor;
  private readonly file: OpenFile;
  private readonly label: string;
  private readonly layout: Layout;
  private readonly heads: number;

  constructor(tensor: GgufTensor, file: OpenFile, path: string, name: string, layout: Layout = "same", heads = 1) {
    this.type = tensor.type.name;
    this.bytes = tensor.end - tensor.begin;
    this.tensor = tensor;
    this.file = file;
    this.label = `${path}: tensor ${name}`;
    this.layout = layout;
    this.heads = heads;
    this.shape = layout === "transposed" ? tensor.shape.toReversed() : tensor.shape;
    const unit = layout === "unpair" ? 2 * heads : layout === "byHead" ? 3 * heads : 1;
    if (!(tensor.shape[0] % unit === 0))
      throw new UserError(`${this.label}: ${tensor.shape[0]} rows do not fit ${heads} heads`);
  }

  all(): Promise<Float32Array> {
    return this.rows(0, this.shape[0] ?? 1);
  }

  async rows(first: number, last: number): Promise<Float32Array> {
    if (!(first >= 0 && first <= last && last <= (this.shape[0] ?? 1))) {
      throw new Error(`${this.label} [${this.shape}] has no rows ${first} to ${last}`);
    }
    if (this.layout === "transposed") return this.transposedRows(first, last);
    if (this.layout === "unpair" || this.layout === "byHead") return this.permutedRows(first, last);
    const data = await this.stored(first, last);
    return this.layout === "minusOne" ? data.map((x) => x - 1) : data;
  }

  /** Rows as they stand in the file. A row of a vector is one value. */
  private async stored(first: number, last: number): Promise<Float32Array> {
    const { type, shape, begin } = this.tensor;
    const width = shape.slice(1).reduce((a, b) => a * b, 1);
    if (width % type.items !== 0) {
      // Blocks reach over several rows: only vectors, which are small.
      return (await this.decode(begin, this.tensor.end)).subarray(first * width, last * width);
    }
    const bytes = (width / type.items) * type.bytes;
    return this.decode(begin + first * bytes, begin + last * bytes);
  }

  private async decode(begin: number, end: number): Promise<Float32Array> {
    const bytes = await this.file.read(begin, end - begin);
    if (bytes.length !== end - begin) throw new UserError(`${this.label}: the file ends inside it`);
    return this.tensor.type.decode(bytes);
  }

  private async permutedRows(first: number, last: number): Promise<Float32Array> {
    const [rows, ...rest] = this.tensor.shape;
    const width = rest.reduce((a, b) => a * b, 1);
    const from = Array.from({ length: last - first }, (_, i) => rowInFile(this.layout, first + i, this.heads, rows));
    if (from.length === 0) return new Float32Array();
    const start = from.reduce((a, b) => Math.min(a, b));
    const stored = await this.stored(start, 1 + from.reduce((a, b) => Math.max(a, b)));
    const out = new Float32Array(from.length * width);
    from.forEach((row, i) => {
      out.set(stored.subarray((row - start) * width, (row - start + 1) * width), i * width);
    });
    return out;
  }

  private async transposedRows(first: number, last: number): Promise<Float32Array> {
    const [outer, inner] = this.tensor.shape;
    const stored = await this.stored(0, outer);
    const out = new Float32Array((last - first) * outer);
    for (let r = first; r < last; r++) {
      for (let c = 0; c < outer; c++) out[(r - first) * outer + c] = stored[c * inner + r];
    }
    return out;
  }
}
