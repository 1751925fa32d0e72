/**
 * Tensors, the scopes that own their memory, and the tape that differentiates them.
 *
 * Tensors are contiguous, row-major, on the GPU. Making one only enqueues; `read()` is the only asynchronous call.
 *
 * One rule for memory: a tensor dies with the scope that made it, unless the scope returns it. Tensors that the tape
 * still needs move up to the enclosing scope; the outermost scope frees everything and clears the tape. Scopes are
 * synchronous, because forward, backward and step only enqueue work.
 *
 * Define-by-run reverse-mode differentiation: an op computes its output and records its vector-Jacobian product; the
 * engine, not the ops, skips frozen inputs, un-broadcasts, accumulates and frees.
 */
import { acquire, type BufferView, release, sizeClass, subview } from "../gpu/pool.ts";
import { download, upload } from "../gpu/stream.ts";
import { f16sToF32, f32ToF16 } from "../runtime/half.ts";
import { dropSums, settleSums } from "./late-sums.ts";
import { addInto, fill, sumInto } from "./raw.ts";

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

/**
 * How a tensor gets its values once somebody asks for them.
 * @internal
 */
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

/** Sums a broadcast gradient back to `shape` (aligned at the last dimension, as NumPy broadcasts). */
function sumTo(grad: Tensor, shape: Shape): Tensor {
  const rank = grad.shape.length;
  const target = [...Array(rank - shape.length).fill(1), ...shape] as number[];
  let current = grad;
  for (let axis = 0; axis < rank; axis++) {
    const length = current.shape[axis];
    if (target[axis] === length) continue;
    const outer = current.shape.slice(0, axis).reduce((a, b) => a * b, 1);
    const inner = current.shape.slice(axis + 1).reduce((a, b) => a * b, 1);
    const reduced = current.shape.map((n, i) => (i === axis ? 1 : n));
    current = sumMiddle(current, outer, length, inner, reduced);
  }
  return current === grad && rank === shape.length ? grad : current.alias(shape, "sumTo");
}

/** Whether `shape` broadcasts to `from`, so that a gradient of that shape can be summed back. */
function sumsTo(from: Shape, shape: Shape): boolean {
  const extra = from.length - shape.length;
  return extra >= 0 && shape.every((n, i) => n === 1 || n === from[extra + i]);
}

const scopes: Tensor[][] = [];

/** Called by every new tensor. */
function adopt(t: Tensor): void {
  if (scopes.length > 0) scopes[scopes.length - 1].push(t);
}

/**
 * Runs `fn` and frees every tensor made inside that is not part of its result. The result may be a tensor, or arrays
 * and plain objects of them. Throws when `fn` returns a promise.
 */
export function scope<R>(fn: () => R): R {
  const made: Tensor[] = [];
  scopes.push(made);
  let kept: Set<Tensor> | null = null;
  try {
    const result = fn();
    if (result instanceof Promise) throw new Error("scope() is synchronous: await outside of it");
    kept = collect(result, null, 0);
    return result;
  } finally {
    scopes.pop();
    const parent = scopes.at(-1);
    if (!parent) resetTape();
    for (const t of made) {
      if (t.freed) continue;
      if (kept?.has(t) || (parent && t.held > 0)) parent?.push(t);
      else t.free("the end of its scope");
    }
  }
}

/** The tensors in a value, added to `found`; null when there are none, as in most scopes inside ops. */
function collect(value: unknown, found: Set<Tensor> | null, depth: number): Set<Tensor> | null {
  if (!value || typeof value !== "object") return found;
  if (value instanceof Tensor) return (found ?? new Set()).add(value);
  if (depth === 5 || ArrayBuffer.isView(value)) return found;
  let all = found;
  for (const child of Array.isArray(value) ? value : Object.values(value)) all = collect(child, all, depth + 1);
  return all;
}

/**
 * What to do with one input's gradient. `false`: it is not wanted. `true`: return a new tensor. A tensor: add into it
 * and return it; a rule that returns another tensor instead has it added by the engine.
 */
export type Sink = false | true | Tensor;

/** From the outputs' gradients (null where none arrived) to the inputs' gradients (null where there is none). */
type Vjp = (dys: (Tensor | null)[], sinks: Sink[]) => (Tensor | null)[];

interface Entry {
  name: string;
  inputs: readonly Tensor[];
  outputs: readonly Tensor[];
  saved: readonly Tensor[];
  vjp: Vjp;
}

let tape: Entry[] = [];
let recording = true;
/** What got a gradient in this `backward()`: leaves keep theirs. */
let reached: Tensor[] = [];

/** Runs `fn` without recording. */
export function noGrad<R>(fn: () => R): R {
  const before = recording;
  recording = false;
  try {
    return fn();
  } finally {
    recording = before;
  }
}

/** True when an op on these inputs is recorded, i.e. when it must save what its gradient needs. */
export const willRecord = (inputs: readonly Tensor[]): boolean => recording && inputs.some((t) => t.requiresGrad);

/** Records a one-output op; returns the output. `saved` lists extra tensors that only the gradient needs. */
export function record(
  name: string,
  inputs: readonly Tensor[],
  output: Tensor,
  vjp: (dy: Tensor, sinks: Sink[]) => (Tensor | null)[],
  saved: readonly Tensor[] = [],
): Tensor {
  recordMany(name, inputs, [output], ([dy], sinks) => vjp(dy as Tensor, sinks), saved);
  return output;
}

/** Records an op with several outputs; the rule sees null for outputs that received no gradient. */
export function recordMany(
  name: string,
  inputs: readonly Tensor[],
  outputs: readonly Tensor[],
  vjp: Vjp,
  saved: readonly Tensor[] = [],
): void {
  if (!willRecord(inputs)) return;
  for (const t of outputs) t.requiresGrad = true;
  for (const list of [inputs, outputs, saved]) for (const t of list) t.held += 1;
  tape.push({ name, inputs, outputs, saved, vjp });
}

/**
 * Adds d(loss)/d(parameter) into the `grad` of every parameter that requires it, and frees the intermediate results on
 * the way: whatever is needed of them must be derived before. `loss` must have one element; it stays readable.
 * `seed` scales the gradient (1 by default); one element where only the GPU knows it.
 */
export function backward(loss: Tensor, seed: number | Tensor = 1): void {
  if (loss.size !== 1) throw new Error(`backward() needs a scalar loss, got shape [${loss.shape}]`);
  if (!loss.requiresGrad) throw new Error("backward(): the loss depends on no parameter that requires a gradient");
  const entries = tape;
  tape = [];
  reached = [];
  try {
    noGrad(() => {
      const given = typeof seed === "number" ? null : seed;
      if (given) given.gradSlots += 1; // the caller's own slot: it is neither added into nor freed
      setGrad(loss, given ?? fill(empty(loss.shape, "f32", "backward"), seed as number));
      differentiate(entries, loss);
      settleSums();
      for (const leaf of reached) keepGrad(leaf);
      if (given) given.gradSlots -= 1;
    });
  } finally {
    dropSums();
  }
  reached = [];
}

/** What still waits at the end waits at a leaf: it becomes the leaf's own, and nobody else's. */
function keepGrad(leaf: Tensor): void {
  const grad = leaf.pendingGrad;
  if (!grad) return;
  const own = leaf.grad && !leaf.grad.freed ? leaf.grad : null; // of an earlier backward(), where the leaf is the loss
  if (own || grad.gradSlots > 1) {
    leaf.grad = addInto(own ?? fill(empty(leaf.shape, leaf.dtype, "backward"), 0), grad);
  } else leaf.grad = grad;
  leaf.pendingGrad = null;
  grad.gradSlots -= 1;
}

/** Takes the gradients that stand at the outputs back to the inputs, and frees all else that was recorded but `keep`. */
function differentiate(entries: readonly Entry[], keep: Tensor | null): void {
  for (let i = entries.length - 1; i >= 0; i--) {
    const entry = entries[i];
    if (entry.outputs.some((t) => t.pendingGrad)) propagate(entry);
    releaseEntry(entry, keep);
  }
}

/**
 * fn(x), without keeping what its gradient needs: that is computed again when the gradient is asked for (Chen et al. 2016,
 * arXiv 1604.06174). A third more work for a memory of one call of `fn` instead of all of them. What `fn` reads besides x
 * must still be there then, and must give the same result.
 */
export function checkpoint(fn: (x: Tensor) => Tensor, x: Tensor): Tensor {
  const y = noGrad(() => scope(() => fn(x)));
  if (!recording) return y;
  y.requiresGrad = true; // parameters inside may want a gradient even where x does not
  for (const t of [x, y]) t.held += 1;
  tape.push({ name: "checkpoint", inputs: [x], outputs: [y], saved: [], vjp: ([dy]) => [replay(fn, x, dy as Tensor)] });
  return y;
}

/** Runs `fn` again, now recorded, and takes `dy` back through it; returns the gradient of x, if x wants one. */
function replay(fn: (x: Tensor) => Tensor, x: Tensor, dy: Tensor): Tensor | null {
  const leaf = x.alias(x.shape, "checkpoint");
  leaf.requiresGrad = x.requiresGrad;
  const outer = tape;
  tape = [];
  recording = true;
  const y = fn(leaf);
  recording = false;
  const entries = tape;
  tape = outer;
  setGrad(y, dy);
  differentiate(entries, null);
  const dx = leaf.pendingGrad;
  leaf.pendingGrad = null;
  if (dx) dx.gradSlots -= 1;
  return dx;
}

function propagate({ name, inputs, outputs, vjp }: Entry): void {
  const sinks = inputs.map((t): Sink => {
    if (!t.requiresGrad) return false;
    if (t.grad && !t.grad.freed) return t.grad;
    return t.pendingGrad && t.pendingGrad.gradSlots === 1 ? t.pendingGrad : true;
  });
  const grads = scope(() =>
    vjp(
      outputs.map((t) => t.pendingGrad),
      sinks,
    ),
  );
  inputs.forEach((input, i) => {
    const sink = sinks[i];
    const grad = grads[i];
    if (sink === false || !grad || grad === sink) return;
    if (!sumsTo(grad.shape, input.shape)) {
      throw new Error(`gradient of ${name} has shape [${grad.shape}], not [${input.shape}]`);
    }
    const fitted = sameShape(grad, input) ? grad : scope(() => sumTo(grad, input.shape));
    if (sink !== true) {
      addInto(sink, fitted);
      disposeGrad(fitted);
    } else if (input.pendingGrad) {
      // Shared with another slot, or this input appears twice: add into a copy of our own.
      const sum = addInto(addInto(fill(empty(input.shape, input.dtype, name), 0), input.pendingGrad), fitted);
      disposeGrad(fitted);
      setGrad(input, sum);
    } else {
      setGrad(input, fitted);
    }
    if (fitted !== grad) disposeGrad(grad);
  });
}

const sameShape = (a: Tensor, b: Tensor): boolean =>
  a.shape.length === b.shape.length && a.shape.every((n, i) => n === b.shape[i]);

function setGrad(t: Tensor, grad: Tensor | null): void {
  const before = t.pendingGrad;
  if (grad) {
    grad.gradSlots += 1;
    reached.push(t);
  }
  t.pendingGrad = grad;
  if (before) {
    before.gradSlots -= 1;
    disposeGrad(before);
  }
}

function disposeGrad(t: Tensor): void {
  if (t.gradSlots === 0 && t.held === 0) t.free("backward()");
}

function releaseEntry({ inputs, outputs, saved }: Entry, loss: Tensor | null): void {
  for (const t of outputs) setGrad(t, null);
  for (const list of [inputs, outputs, saved]) for (const t of list) t.held -= 1;
  for (const list of [outputs, saved]) for (const t of list) if (t !== loss && t.held === 0) t.free("backward()");
}

/** Runs `fn` with a tape of its own, which records whatever the surroundings do; theirs goes on afterwards. */
export function withOwnTape<R>(fn: () => R): R {
  const [outer, before] = [tape, recording];
  tape = [];
  recording = true;
  try {
    return fn();
  } finally {
    resetTape();
    tape = outer;
    recording = before;
  }
}

/** Forgets what was recorded and not yet differentiated; the outermost scope calls it. */
function resetTape(): void {
  const entries = tape;
  tape = [];
  for (const { inputs, outputs, saved } of entries) {
    for (const list of [inputs, outputs, saved]) for (const t of list) t.held -= 1;
  }
}
