/**
 * Tensors, and the scopes that own their memory.
 *
 * Tensors are contiguous, row-major, on the GPU. Making one only enqueues; `read()` is the only asynchronous call.
 *
 * One rule for memory: a tensor dies with the scope that made it, unless the scope returns it. Tensors that the tape
 * still needs move up to the enclosing scope; the outermost scope frees everything and clears the tape. Scopes are
 * synchronous, because forward, backward and step only enqueue work.
 */
import { acquire, type BufferView, release, sizeClass, subview } from "../gpu/pool.ts";
import { download, upload } from "../gpu/stream.ts";
import { f16sToF32, f32ToF16 } from "../runtime/half.ts";
import { fill, sumInto } from "./raw.ts";

/** Type of a tensor's elements: f32 and f16 can have gradients, u32 are ids. */
export type DType = "f32" | "f16" | "u32";
/** Sizes of a tensor's dimensions, outermost first; [] is a scalar. */
export type Shape = readonly number[];

/** A pooled buffer shared by a tensor and its aliases. */
interface Storage {
  readonly view: BufferView;
  owners: number;
  /** Parameter stores own their memory; everything else returns to the pool. */
  readonly pooled: boolean;
}

/** How a tensor gets its values once somebody asks for them. */
export interface Late {
  /** Computes them. */
  settle(): void;
  /** Nobody will ask. */
  drop(): void;
}

/**
 * An array on the GPU: contiguous, row-major, of f32, f16 or u32. Made by `tensor`, `zeros`, `full` and the ops; dies with
 * the `scope` that made it unless that returns it.
 */
export class Tensor {
  readonly shape: Shape;
  readonly size: number;
  readonly dtype: DType;
  /** Gradients are wanted: `backward()` computes `grad`, and ops on it are recorded. Default false. */
  requiresGrad = false;
  /** Of leaves that require one, where `backward()` adds the gradient; made by it where there is none, in the scope it runs in. */
  grad: Tensor | null = null;
  /**
   * Gradient on its way through `backward()`.
   * @internal
   */
  pendingGrad: Tensor | null = null;
  /**
   * How many such slots refer to this tensor.
   * @internal
   */
  gradSlots = 0;
  /**
   * Number of tape entries that need this tensor.
   * @internal
   */
  held = 0;
  /**
   * Set while the values are not computed yet.
   * @internal
   */
  late: Late | null = null;
  /**
   * The last scope that returned it, by number.
   * @internal
   */
  returnedBy = 0;
  /** The op that made it, for errors. */
  readonly madeBy: string;
  private readonly storage: Storage;
  /** The tensor's part of the storage. */
  private readonly window: BufferView;
  private freedBy: string | null = null;

  private constructor(shape: Shape, dtype: DType, storage: Storage, madeBy: string, window: BufferView) {
    this.shape = shape;
    this.size = product(shape);
    this.dtype = dtype;
    this.storage = storage;
    this.window = window;
    this.madeBy = madeBy;
    if (storage.pooled) adopt(this);
  }

  /**
   * A tensor in the storage, or in a part of it.
   * @internal
   */
  static over(shape: Shape, dtype: DType, storage: Storage, madeBy: string, window = storage.view): Tensor {
    return new Tensor(shape, dtype, storage, madeBy, window);
  }

  /**
   * The memory to bind. Throws after the tensor was freed.
   * @internal
   */
  get view(): BufferView {
    if (this.freedBy !== null) {
      throw new Error(
        `tensor [${this.shape}] made by ${this.madeBy} was used after ${this.freedBy} freed it: ` +
          "return it from the scope, or derive what you need before backward()",
      );
    }
    const { late } = this;
    this.late = null;
    late?.settle();
    return this.window;
  }

  /** Its memory was given back; using it throws. */
  get freed(): boolean {
    return this.freedBy !== null;
  }

  /** Gives the memory back, for tensors that no scope ends; `by` names who did, in errors of a later use. Parameters ignore it. */
  free(by = "free()"): void {
    if (this.freedBy !== null || !this.storage.pooled) return;
    this.freedBy = by;
    const { late } = this;
    this.late = null;
    late?.drop();
    this.letGo();
  }

  private letGo(): void {
    this.storage.owners -= 1;
    if (this.storage.owners === 0 && this.storage.pooled) release(this.storage.view);
  }

  /**
   * Keeps the memory, whoever frees the tensor, until the function that it returns is called.
   * @internal
   */
  hold(): () => void {
    this.storage.owners += 1;
    return () => this.letGo();
  }

  /**
   * The same memory under another shape of equal size. Not recorded: see `ops/shape.ts` for the differentiable one.
   * @internal
   */
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

function product(shape: Shape): number {
  let size = 1;
  for (let i = 0; i < shape.length; i++) size *= shape[i];
  return size;
}

export const bytesOf = (dtype: DType): number => (dtype === "f16" ? 2 : 4);

/** A tensor with undefined contents. */
export function empty(shape: Shape, dtype: DType = "f32", madeBy = "empty"): Tensor {
  const view = acquire(product(shape) * bytesOf(dtype), madeBy);
  return Tensor.over(shape, dtype, { view, owners: 1, pooled: true }, madeBy);
}

/** A tensor over memory that somebody else owns (a parameter store, a KV cache). */
export function borrow(view: BufferView, shape: Shape, dtype: DType, madeBy: string): Tensor {
  return Tensor.over(shape, dtype, { view, owners: 1, pooled: false }, madeBy);
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
    return Tensor.over(shape, "u32", storage, "tensorGroup", window);
  });
  upload(storage.view, all);
  return tensors;
}

/** A tensor of zeros. */
export const zeros = (shape: Shape, madeBy = "zeros"): Tensor => fill(empty(shape, "f32", madeBy), 0);

/** A tensor of one value. */
export const full = (shape: Shape, value: number): Tensor => fill(empty(shape, "f32", "full"), value);

/** Sums the middle axis of x seen as [outer, axis, inner], in f32; added to `into` when given. */
export function sumMiddle(x: Tensor, outer: number, axis: number, inner: number, shape: Shape, into?: Tensor): Tensor {
  const out = into ?? empty(shape, "f32", "sum");
  sumInto(out, x, outer, axis, inner, into !== undefined);
  return out;
}

const scopes: Tensor[][] = [];
let scopesOpened = 0;

/** Called by every new tensor. */
function adopt(t: Tensor): void {
  if (scopes.length > 0) scopes[scopes.length - 1].push(t);
}

let outermostEnds = (): void => {};

/** Hears when no scope is left open, before its tensors are freed: the tape, which then lets go of them. */
export function whenOutermostEnds(hear: () => void): void {
  outermostEnds = hear;
}

/**
 * Runs `fn` and frees every tensor made inside that is not part of its result. The result may be a tensor, or arrays
 * and plain objects of them. Throws when `fn` returns a promise.
 */
export function scope<R>(fn: () => R): R {
  const made: Tensor[] = [];
  scopes.push(made);
  const own = ++scopesOpened;
  try {
    const result = fn();
    if (result instanceof Promise) throw new Error("scope() is synchronous: await outside of it");
    markReturned(result, own, 0);
    return result;
  } finally {
    scopes.pop();
    const parent = scopes.length > 0 ? scopes[scopes.length - 1] : null;
    if (!parent) outermostEnds();
    for (const t of made) {
      if (t.freed) continue;
      if (t.returnedBy === own || (parent && t.held > 0)) parent?.push(t);
      else t.free("the end of its scope");
    }
  }
}

/** Notes in the tensors of a value that the scope of this number returns them. */
function markReturned(value: unknown, scope: number, depth: number): void {
  if (!value || typeof value !== "object") return;
  if (value instanceof Tensor) value.returnedBy = scope;
  else if (depth < 5 && Array.isArray(value)) for (const child of value) markReturned(child, scope, depth + 1);
  else if (depth < 5 && !ArrayBuffer.isView(value)) {
    for (const child of Object.values(value)) markReturned(child, scope, depth + 1);
  }
}
