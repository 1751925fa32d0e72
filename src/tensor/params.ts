/**
 * Parameters live in flat stores: one buffer (or a few, at the binding limit) for all values, one for all gradients. Then
 * AdamW is one dispatch per chunk, the gradient norm one reduction, and a checkpoint one read. Parameters with weight
 * decay come first in each chunk, so decay is a range and not a mask. A parameter that is larger than a binding has a
 * buffer of its own, of several chunks: see ops/row-blocks.ts for the ops that bind it by rows.
 */
import { caps } from "../gpu/device.ts";
import { type BufferView, createBuffer, subview } from "../gpu/pool.ts";
import { clear, destroyBuffers, download, upload } from "../gpu/stream.ts";
import { UserError } from "../runtime/errors.ts";
import { normal, uniform } from "../runtime/rng.ts";
import { borrow, type Shape, Tensor } from "./core.ts";
import { HalfCopies } from "./half-copies.ts";
import { tableFormats, type WeightFormat } from "./quantize.ts";
import { QuantizedWeight, type Weight } from "./quantized.ts";
import { Resident } from "./residency.ts";

const ALIGN = 64; // floats: bindings start at multiples of 256 bytes

/** First values of a parameter: normal with this standard deviation, uniform in plus or minus this bound, or a constant. */
export type Init = { normal: number } | { uniform: number } | { constant: number };

/** A named tensor that is trained. It has no memory until a `ParameterStore` is built from it. */
export class Parameter {
  readonly shape: Shape;
  readonly size: number;
  readonly init: Init;
  /** Weight decay applies: by convention to matrices, not to biases and norm weights. */
  readonly decay: boolean;
  /** An embedding or an LM head: its errors reach every logit, so integer formats give it more bits than the rest. */
  isTable = false;
  /**
   * Rows, each from .. to, that are the weights of one hidden linear map each, which Muon trains; null for what is none: embeddings,
   * heads, vectors.
   */
  maps: readonly (readonly [from: number, to: number])[] | null = null;
  /** Dotted path in the module tree; set when the module is collected. */
  name = "";
  private slot: Weight | null = null;

  constructor(shape: Shape, init: Init, decay = shape.length > 1) {
    this.shape = shape;
    this.size = shape.reduce((a, b) => a * b, 1);
    this.init = init;
    this.decay = decay;
  }

  /** The values, to be used in ops. Throws where they are stored in fewer bits. */
  get value(): Tensor {
    const { stored } = this;
    if (stored instanceof Tensor) return stored;
    throw new UserError(`${stored.name} is stored as ${stored.format}, and this takes float32 weights only`);
  }

  /** The values as they are stored, for ops that take quantized weights, too, and for reading and writing. */
  get stored(): Weight {
    if (this.slot) return this.slot;
    throw new Error(`parameter ${this.name || `[${this.shape}]`} has no memory yet: build a ParameterStore`);
  }

  /** @internal */
  attach(stored: Weight): void {
    this.slot = stored;
  }
}

/** What one binding holds of the parameters. */
export interface Chunk {
  readonly values: BufferView;
  /** Number of floats, a multiple of 64, padding included (padding stays zero). */
  readonly size: number;
  /** Floats before this index decay, the rest do not. */
  readonly decayed: number;
}

interface Place {
  readonly parameter: Parameter;
  /** Where it begins; one that is larger than a chunk goes on in the following ones. */
  readonly chunk: number;
  /** In floats. */
  readonly offset: number;
}

interface Size {
  size: number;
  decayed: number;
  /** It is in the buffer of the chunk before. */
  goesOn?: boolean;
}

/** Vectors (biases, norms, a score head's single row) are small and stay f32 in every format. */
const isMatrix = ({ shape }: Parameter): boolean => shape.length === 2 && shape[0] > 1;

/**
 * All parameters of a model. Build it once per model; `destroy()` frees it. In a format other than float32 the matrices
 * have buffers of their own, one each, and the store is frozen.
 */
export class ParameterStore {
  readonly label: string;
  /** @internal */
  readonly chunks: readonly Chunk[];
  /**
   * Gradients, chunk by chunk; null while the store is frozen.
   * @internal
   */
  gradients: readonly BufferView[] | null = null;
  readonly format: WeightFormat;
  private readonly all: readonly Parameter[];
  private readonly places: readonly Place[];
  private readonly sizes: readonly Size[];
  /**
   * Values and gradients; the latter must be zero when they leave the GPU.
   * @internal
   */
  readonly resident: Resident;
  /** What `destroy` frees. */
  private readonly buffers: BufferView[] = [];
  private readonly gradientBuffers: BufferView[] = [];
  private readonly quantized: readonly QuantizedWeight[];
  private readonly half: HalfCopies;

  constructor(parameters: readonly Parameter[], label: string, format: WeightFormat = "float32") {
    this.label = label;
    this.format = format;
    const limit = Math.floor(caps().maxBinding / 4 / ALIGN) * ALIGN;
    const places: Place[] = [];
    const sizes: Size[] = [];
    let size = 0;
    let decayed = 0;
    const ordered = [...parameters.filter((p) => p.decay), ...parameters.filter((p) => !p.decay)];
    this.all = ordered;
    for (const parameter of ordered) {
      if (format !== "float32" && isMatrix(parameter)) continue;
      const padded = Math.ceil(parameter.size / ALIGN) * ALIGN;
      if (size > 0 && size + padded > limit) {
        sizes.push({ size, decayed });
        size = 0;
        decayed = 0;
      }
      places.push({ parameter, chunk: sizes.length, offset: size });
      if (padded > limit) {
        for (let at = 0; at < padded; at += limit) {
          const part = Math.min(limit, padded - at);
          sizes.push({ size: part, decayed: parameter.decay ? part : 0, goesOn: at > 0 });
        }
        continue;
      }
      size += padded;
      if (parameter.decay) decayed = size;
    }
    if (size > 0 || sizes.length === 0) sizes.push({ size, decayed });
    this.places = places;
    this.sizes = sizes;
    const values = this.allocate("parameters");
    this.buffers.push(...new Set(values.buffers));
    this.chunks = sizes.map(({ size, decayed }, i) => ({ size, decayed, values: values.chunks[i] }));
    this.half = new HalfCopies(this.buffers, label);
    for (const { parameter, chunk, offset } of places) {
      const buffer = values.buffers[chunk];
      const value = this.part(buffer, offset, parameter);
      parameter.attach(value);
      if (isMatrix(parameter)) this.half.add({ value, buffer, offset });
    }
    this.quantized = format === "float32" ? [] : ordered.filter(isMatrix).map((p) => this.quantize(p, format));
    this.resident = new Resident(
      () => [...this.buffers, ...this.quantized.flatMap((w) => w.buffers)],
      () => this.gradientBuffers,
      () => this.half.free(),
    );
  }

  private quantize(parameter: Parameter, format: Exclude<WeightFormat, "float32">): QuantizedWeight {
    const own = parameter.isTable ? tableFormats[format] : format;
    const weight = QuantizedWeight.allocate(parameter.shape, own, parameter.name);
    parameter.attach(weight);
    return weight;
  }

  /** All parameters, those with weight decay first. */
  get parameters(): Parameter[] {
    return [...this.all];
  }

  /**
   * Where parameters stand: the chunk in which each begins, and how many floats before it there.
   * @internal
   */
  get placed(): readonly { parameter: Parameter; chunk: number; offset: number }[] {
    return this.places;
  }

  /** Number of values, without padding. */
  get count(): number {
    return this.all.reduce((n, { size }) => n + size, 0);
  }

  /** Fills parameters (all of them) as their `init` says: the same numbers for the same seed in every runtime. */
  initialize(seed: number, which: (parameter: Parameter) => boolean = () => true): this {
    this.all.forEach((parameter, index) => {
      if (!which(parameter)) return;
      const data = new Float32Array(parameter.size);
      const { init } = parameter;
      if ("constant" in init) data.fill(init.constant);
      else if ("normal" in init) for (let i = 0; i < data.length; i++) data[i] = init.normal * normal(seed, index, i);
      else for (let i = 0; i < data.length; i++) data[i] = init.uniform * (2 * uniform(seed, index, i) - 1);
      parameter.stored.write(data);
    });
    return this;
  }

  /** Makes the parameters trainable: allocates zeroed gradients that `backward()` adds into. */
  trainable(): this {
    if (this.gradients) return this;
    if (this.format !== "float32") {
      throw new UserError(`${this.label} is stored as ${this.format} and cannot be trained: train an adapter on it`);
    }
    const gradients = this.allocate("gradients");
    this.gradientBuffers.push(...new Set(gradients.buffers));
    this.gradients = gradients.chunks;
    for (const { parameter, chunk, offset } of this.places) {
      const value = parameter.value;
      value.requiresGrad = true;
      value.grad = this.part(gradients.buffers[chunk], offset, parameter);
    }
    return this;
  }

  /** Zeroed memory: for every chunk its view, and the buffer that it is in. */
  private allocate(what: string): { chunks: BufferView[]; buffers: BufferView[] } {
    const chunks: BufferView[] = [];
    const buffers: BufferView[] = [];
    for (let i = 0; i < this.sizes.length; ) {
      let end = i + 1;
      while (this.sizes[end]?.goesOn) end += 1;
      const bytes = this.sizes.slice(i, end).map(({ size }) => size * 4);
      const total = bytes.reduce((a, b) => a + b, 0);
      const buffer = createBuffer(total, this.describe(what, i, total / 4), { inParts: end > i + 1 });
      clear(buffer);
      for (let at = 0; i < end; i++) {
        const size = this.sizes[i].size * 4;
        chunks.push(subview(buffer, at, size));
        buffers.push(buffer);
        at += size;
      }
    }
    return { chunks, buffers };
  }

  /** Gives back the memory of the copies in f16 that passes in half precision made of the matrices. */
  freeHalf(): void {
    this.half.free();
  }

  /** Sets all gradients to zero. */
  zeroGrad(): void {
    for (const view of this.gradients ?? []) clear(view);
  }

  /** All values on the host, by parameter name, as separate arrays. */
  async read(): Promise<Map<string, Float32Array<ArrayBuffer>>> {
    const values = this.split(await readChunks(this.chunks.map((c) => c.values)));
    for (const weight of this.quantized) values.set(weight.name, await weight.read());
    return values;
  }

  /**
   * Cuts flat host chunks (values, or optimizer moments of the same layout) into named arrays.
   * @internal
   */
  split(chunks: readonly Float32Array<ArrayBuffer>[]): Map<string, Float32Array<ArrayBuffer>> {
    return new Map(
      this.places.map(({ parameter: { name, size }, chunk, offset }) => {
        if (offset + size <= chunks[chunk].length) return [name, chunks[chunk].slice(offset, offset + size)];
        const all = new Float32Array(size);
        for (let at = 0, i = chunk; at < size; at += chunks[i++].length) all.set(chunks[i].subarray(0, size - at), at);
        return [name, all];
      }),
    );
  }

  /** Frees the memory of values and gradients. */
  destroy(): void {
    const quantized = this.quantized.flatMap((w) => w.buffers);
    this.half.free();
    destroyBuffers([...this.buffers, ...this.gradientBuffers, ...quantized]);
    this.gradients = null;
  }

  private part(buffer: BufferView, offset: number, { shape, size, name }: Parameter): Tensor {
    return borrow(subview(buffer, offset * 4, size * 4), shape, "f32", name);
  }

  private describe(what: string, chunk: number, size: number): string {
    const names = this.places.filter((p) => p.chunk === chunk).map((p) => p.parameter.name);
    return `${this.label} ${what} (${size} floats, ${names[0]} ... ${names.at(-1)})`;
  }
}

/** Reads whole buffers back. */
export function readChunks(views: readonly BufferView[]): Promise<Float32Array<ArrayBuffer>[]> {
  return Promise.all(views.map(async (view) => new Float32Array(await download(view, view.size))));
}

/** Overwrites whole buffers. */
export function writeChunks(views: readonly BufferView[], data: readonly (Float32Array | Uint32Array)[]): void {
  views.forEach((view, i) => {
    if (data[i]?.byteLength !== view.size) throw new Error(`expected ${view.size} bytes, got ${data[i]?.byteLength}`);
    upload(view, data[i]);
  });
}
