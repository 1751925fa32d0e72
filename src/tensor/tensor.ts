/** Tensors: contiguous, row-major, on the GPU. Making one only enqueues; `read()` is the only asynchronous call. */
import { acquire, type BufferView, release, sizeClass, subview } from "../gpu/pool.ts";
import { download, upload } from "../gpu/stream.ts";
import { f16sToF32, f32ToF16 } from "../runtime/half.ts";
import { adopt } from "./scope.ts";

export type DType = "f32" | "f16" | "u32";
export type Shape = readonly number[];

/** A pooled buffer shared by a tensor and its aliases. */
interface Storage {
  readonly view: BufferView;
  owners: number;
  /** Parameter stores own their memory; everything else returns to the pool. */
  readonly pooled: boolean;
}

export class Tensor {
  readonly shape: Shape;
  readonly size: number;
  readonly dtype: DType;
  requiresGrad = false;
  /** For leaves that collect gradients (parameters): where `backward()` adds them. */
  grad: Tensor | null = null;
  /** Gradient on its way through `backward()`, and how many such slots refer to this tensor. */
  pendingGrad: Tensor | null = null;
  gradSlots = 0;
  /** Number of tape entries that need this tensor. */
  held = 0;
  /** The op that made it, for errors. */
  readonly madeBy: string;
  private readonly storage: Storage;
  /** The tensor's part of the storage. */
  private readonly window: BufferView;
  private freedBy: string | null = null;

  constructor(shape: Shape, dtype: DType, storage: Storage, madeBy: string, window = storage.view) {
    this.shape = shape;
    this.size = shape.reduce((a, b) => a * b, 1);
    this.dtype = dtype;
    this.storage = storage;
    this.window = window;
    this.madeBy = madeBy;
    if (storage.pooled) adopt(this);
  }

  /** The memory to bind. Throws after the tensor was freed. */
  get view(): BufferView {
    if (this.freedBy !== null) {
      throw new Error(
        `tensor [${this.shape}] made by ${this.madeBy} was used after ${this.freedBy} freed it: ` +
          "return it from the scope, or derive what you need before backward()",
      );
    }
    return this.window;
  }

  get freed(): boolean {
    return this.freedBy !== null;
  }

  /** Gives the memory back; `by` names who did, for use-after-free errors. Parameters ignore it. */
  free(by: string): void {
    if (this.freedBy !== null || !this.storage.pooled) return;
    this.freedBy = by;
    this.storage.owners -= 1;
    if (this.storage.owners === 0) release(this.storage.view);
  }

  /** The same memory under another shape of equal size. Not recorded: see `ops/shape.ts` for the differentiable one. */
  alias(shape: Shape, madeBy: string): Tensor {
    this.storage.owners += 1;
    void this.view; // refuses freed tensors
    return new Tensor(shape, this.dtype, this.storage, madeBy, this.window);
  }

  /** Copies the values to the host. Throws device errors that happened since the last read. */
  async read(): Promise<Float32Array<ArrayBuffer>> {
    const bytes = await download(this.view, this.size * bytesOf(this.dtype));
    if (this.dtype === "f32") return new Float32Array(bytes);
    if (this.dtype === "f16") return f16sToF32(new Uint16Array(bytes));
    throw new Error("read() is for floats: use readIds() for u32 tensors");
  }

  /** Copies `count` values of an f32 tensor from index `first` to the host. */
  async readPart(first: number, count: number): Promise<Float32Array<ArrayBuffer>> {
    this.checkPart(first, count, "readPart");
    return new Float32Array(await download(this.view, count * 4, first * 4));
  }

  /** Overwrites the values of an f32 tensor from index `first`, in stream order. */
  writePart(first: number, data: Float32Array): void {
    this.checkPart(first, data.length, "writePart");
    upload(this.view, data, first * 4);
  }

  private checkPart(first: number, count: number, what: string): void {
    if (this.dtype !== "f32") throw new Error(`${what} is for f32 tensors, this one is ${this.dtype}`);
    if (!(first >= 0 && first + count <= this.size)) {
      throw new Error(`${what}: values ${first} to ${first + count} of a tensor of ${this.size}`);
    }
  }

  /** Copies a u32 tensor's values to the host. */
  async readIds(): Promise<Uint32Array<ArrayBuffer>> {
    if (this.dtype !== "u32") throw new Error(`readIds() is for u32 tensors, this one is ${this.dtype}`);
    return new Uint32Array(await download(this.view, this.size * 4));
  }

  /** Overwrites the values from the host, in stream order. */
  write(data: Float32Array | Uint32Array): void {
    if (data.length !== this.size) throw new Error(`write: ${data.length} values into a tensor of ${this.size}`);
    upload(this.view, this.dtype === "f16" ? Uint16Array.from(data, f32ToF16) : data);
  }
}

export const bytesOf = (dtype: DType): number => (dtype === "f16" ? 2 : 4);

/** A tensor with undefined contents. */
export function empty(shape: Shape, dtype: DType = "f32", madeBy = "empty"): Tensor {
  const size = shape.reduce((a, b) => a * b, 1);
  const view = acquire(size * bytesOf(dtype), madeBy);
  return new Tensor(shape, dtype, { view, owners: 1, pooled: true }, madeBy);
}

/** A tensor over memory that somebody else owns (a parameter store, a KV cache). */
export function borrow(view: BufferView, shape: Shape, dtype: DType, madeBy: string): Tensor {
  return new Tensor(shape, dtype, { view, owners: 1, pooled: false }, madeBy);
}

/** A tensor with the given values. Numbers and Float32Array give f32, Uint32Array gives u32 unless `dtype` says otherwise. */
export function tensor(data: Float32Array | Uint32Array | readonly number[], shape?: Shape, dtype?: DType): Tensor {
  const type = dtype ?? (data instanceof Uint32Array ? "u32" : "f32");
  const t = empty(shape ?? [data.length], type, "tensor");
  const typed =
    type === "u32"
      ? data instanceof Uint32Array
        ? data
        : Uint32Array.from(data)
      : data instanceof Float32Array
        ? data
        : Float32Array.from(data);
  t.write(typed);
  return t;
}

/** Several u32 tensors in one buffer: their values travel in one upload. */
export function tensorGroup(parts: readonly { data: Uint32Array; shape?: Shape }[]): Tensor[] {
  // Parts start at multiples of size classes, so that batches of similar sizes meet the same views and bind groups.
  const sizes = parts.map(({ data }) => sizeClass(data.byteLength));
  const words = sizes.reduce((a, b) => a + b, 0) / 4;
  const storage: Storage = { view: acquire(words * 4, "tensorGroup"), owners: parts.length, pooled: true };
  const all = new Uint32Array(words);
  let at = 0;
  const tensors = parts.map(({ data, shape = [data.length] }, i) => {
    all.set(data, at / 4);
    const window = subview(storage.view, at, sizes[i]);
    at += sizes[i];
    return new Tensor(shape, "u32", storage, "tensorGroup", window);
  });
  upload(storage.view, all);
  return tensors;
}
