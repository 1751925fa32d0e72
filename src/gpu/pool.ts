/**
 * Buffers are pooled in size classes, and of the free buffers that fit the one with the lowest id is handed out first. Then which
 * buffer a tensor gets is a pure function of the sequence of allocations, the same program meets the same buffers every step, and
 * the bind-group cache hits: also when another batch needs more, since new buffers have higher ids. Reuse needs no fence:
 * everything runs on one queue, in order.
 */
import { UserError } from "../runtime/errors.ts";
import { caps, device, onClose, watchError } from "./device.ts";
import { OutOfMemoryError } from "./failures.ts";

/** A range of a GPU buffer that kernels can bind. `id` is unique per (buffer, offset, size). */
export interface BufferView {
  readonly id: number;
  readonly buffer: GPUBuffer;
  readonly offset: number;
  readonly size: number;
  /** Counts devices: a view of a closed one is worth nothing on the next. */
  readonly generation: number;
  /** Memo of `subview`. */
  children: Map<string, BufferView> | null;
  /** Set by every command that writes through this view, for whoever keeps something that is made of what it holds. */
  mark: WriteMark | null;
}

/** Whether something was written since somebody last looked. */
export interface WriteMark {
  written: boolean;
}

let nextId = 1;
let generation = 1;
let generations = 1;
const free = new Map<number, BufferView[]>();
let poolBytes = 0;
let buffersCreated = 0;

/** Of these, bytes that wait to be used again. */
let freeBytes = 0;
/** Of these, bytes of the classes. */
let classBytes = 0;
/** The most that was in use. */
let peakBytes = 0;
/** Buffers of the classes. */
const classed = new WeakSet<BufferView>();

/** Bytes in use, with free ones, and outside the classes. */
export const memoryHeld = () => ({
  allocated: poolBytes - freeBytes,
  reserved: poolBytes,
  stores: poolBytes - classBytes,
});

/** The most that was in use since the last call. */
export function takePeak(): number {
  const peak = peakBytes;
  peakBytes = poolBytes - freeBytes;
  return peak;
}

export const poolStats = () => ({ poolBytes, buffersCreated });

/** Rounds up to a class: powers of two to 64 KiB, then four classes per octave (at most 25 % waste). */
export function sizeClass(bytes: number): number {
  const size = Math.max(256, bytes);
  if (size <= 65536) return 1 << (32 - Math.clz32(size - 1));
  let octave = 131072;
  while (octave < size) octave *= 2;
  const step = octave / 8;
  return Math.ceil(size / step) * step;
}

/**
 * A tensor of more than `EXACT` bytes may get a free buffer of up to `STRETCH` times its size, and where it must have a new
 * one, a smaller one that is free goes. Batches of all lengths then share the buffers of the longest one so far, instead of
 * every length keeping its own.
 */
const EXACT = 65536;
const STRETCH = 6;
const outgrown: BufferView[] = [];

/** The class of a size; where the class alone is beyond the limit of a binding, the limit. */
const classWithin = (bytes: number, most: number): number =>
  bytes <= most - (most % 4) ? Math.min(sizeClass(bytes), most - (most % 4)) : sizeClass(bytes);

/** Takes a buffer of at least `bytes`; `what` names it in errors. Contents are undefined. */
export function acquire(bytes: number, what: string): BufferView {
  const size = classWithin(bytes, caps().maxBinding);
  const fitting = size > EXACT ? oldestOf(size, STRETCH * size) : free.get(size);
  if (fitting && fitting.length > 0) return taken(popLowest(fitting));
  if (size > EXACT) outgrow(size);
  const made = createBuffer(size, what);
  classed.add(made);
  classBytes += made.size;
  return made;
}

/** Counts a buffer that is free no longer. */
function taken(view: BufferView): BufferView {
  freeBytes -= view.size;
  peakBytes = Math.max(peakBytes, poolBytes - freeBytes);
  return view;
}

/** Sizes of large buffers that the pool has had, ascending, with their free ones. */
let large: { size: number; heap: BufferView[] }[] = [];

/** The free buffers of that size between these which has the lowest id among them. */
function oldestOf(least: number, most: number): BufferView[] | null {
  let oldest: BufferView[] | null = null;
  for (let i = 0; i < large.length && large[i].size <= most; i++) {
    const { size, heap } = large[i];
    if (size < least || heap.length === 0) continue;
    if (oldest === null || heap[0].id < oldest[0].id) oldest = heap;
  }
  return oldest;
}

/** Sets the largest free buffer aside that one of `size` bytes can stand in for. */
function outgrow(size: number): void {
  const smaller = large.filter((one) => one.heap.length > 0 && one.size < size && one.size * STRETCH >= size);
  const largest = smaller.at(-1);
  if (largest) outgrown.push(taken(popLowest(largest.heap)));
}

/** Takes out what larger buffers have replaced; commands up to the last submit may use it still. */
export const drainOutgrown = (): BufferView[] => outgrown.splice(0);

/** The device of a view has been closed. */
export const isStale = (view: BufferView): boolean => view.generation !== generation;

export function release(view: BufferView): void {
  if (isStale(view)) return;
  let heap = free.get(view.size);
  if (!heap) {
    heap = [];
    free.set(view.size, heap);
    if (view.size > EXACT) large = [...large, { size: view.size, heap }].sort((a, b) => a.size - b.size);
  }
  push(heap, view);
  freeBytes += view.size;
}

/**
 * Makes a buffer outside the classes (parameter stores, KV caches). Throws `UserError` beyond the device's limits.
 * @param inParts it will be bound part by part, so it may be larger than one binding
 */
export function createBuffer(bytes: number, what: string, { inParts = false } = {}): BufferView {
  const { maxBinding, maxBuffer } = caps();
  const size = Math.ceil(bytes / 4) * 4;
  const most = inParts ? maxBuffer : maxBinding;
  if (!(size <= most)) {
    throw new UserError(
      `${what} needs ${mib(size)}, but one ${inParts ? "buffer" : "binding"} of this adapter holds at most ` +
        `${mib(most)}: use a smaller model, batch or context length`,
    );
  }
  const gpu = device();
  gpu.pushErrorScope("out-of-memory");
  const buffer = gpu.createBuffer({
    label: what,
    size,
    usage: GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST,
  });
  const held = poolBytes;
  watchError(
    gpu.popErrorScope().then((error) => {
      return error && new OutOfMemoryError(`${what} (${mib(size)}, after ${mib(held)} already held)`);
    }),
  );
  poolBytes += size;
  peakBytes = Math.max(peakBytes, poolBytes - freeBytes);
  buffersCreated += 1;
  return { id: nextId++, buffer, offset: 0, size, generation, children: null, mark: null };
}

/** Buffers whose memory was given back while their views live on. */
const evicted = new WeakSet<BufferView>();

/** Destroys a buffer made by `createBuffer`. The caller has flushed the stream and dropped its bind groups. */
export function destroyBuffer(view: BufferView): void {
  if (evicted.delete(view)) return;
  if (!isStale(view)) {
    poolBytes -= view.size;
    if (classed.delete(view)) classBytes -= view.size;
  }
  view.buffer.destroy();
}

/** Gives a buffer's memory back and keeps its view, which must not be used until `readmitBuffer`. As `destroyBuffer`. */
export function evictBuffer(view: BufferView): void {
  destroyBuffer(view);
  evicted.add(view);
}

/** Gives an evicted view, and all parts of it, memory again; contents are undefined. */
export function readmitBuffer(view: BufferView): void {
  const { buffer } = createBuffer(view.size, view.buffer.label, { inParts: true });
  evicted.delete(view);
  moveTo(buffer, view);
}

/** New ids, so that no bind group of the old buffer is found again. */
function moveTo(buffer: GPUBuffer, view: BufferView): void {
  Object.assign(view, { buffer, id: nextId++, generation });
  for (const child of view.children?.values() ?? []) moveTo(buffer, child);
}

/** A part of a view; the same arguments give the same object. `offset` must be a multiple of 256 bytes. */
export function subview(view: BufferView, offset: number, size: number): BufferView {
  if (offset === 0 && size === view.size) return view;
  if (offset % 256 !== 0) throw new Error(`a buffer view must start at a multiple of 256 bytes, not ${offset}`);
  if (offset + size > view.size) throw new Error(`view ${offset}+${size} passes the end of a ${view.size}-byte buffer`);
  view.children ??= new Map();
  const key = `${offset}:${size}`;
  let child = view.children.get(key);
  if (!child) {
    const { buffer, generation, mark } = view;
    child = { id: nextId++, buffer, offset: view.offset + offset, size, generation, children: null, mark };
    view.children.set(key, child);
  }
  return child;
}

/** Sets this mark from now on wherever the view or a part of it is written; one mark may be that of several views. */
export function markWrites(view: BufferView, mark: WriteMark): void {
  view.mark = mark;
  for (const child of view.children?.values() ?? []) markWrites(child, mark);
}

/** Takes every free buffer out of the pool, for `trim` to destroy. */
export function drainFree(): BufferView[] {
  const all = [...free.values()].flat();
  free.clear();
  freeBytes = 0;
  large = [];
  return all;
}

onClose({
  forget() {
    generation = ++generations;
    free.clear();
    large = [];
    outgrown.length = 0;
    poolBytes = freeBytes = classBytes = peakBytes = 0;
  },
  setAside() {
    const kept = {
      generation,
      poolBytes,
      freeBytes,
      classBytes,
      peakBytes,
      free: [...free],
      outgrown: [...outgrown],
      large,
    };
    return () => {
      large = kept.large;
      for (const [size, views] of kept.free) free.set(size, views);
      outgrown.push(...kept.outgrown);
      ({ generation, poolBytes, freeBytes, classBytes, peakBytes } = kept);
    };
  },
});

const mib = (bytes: number) => `${(bytes / 2 ** 20).toFixed(1)} MiB`;

// A binary min-heap on ids.
function push(heap: BufferView[], view: BufferView): void {
  let i = heap.length;
  heap.push(view);
  while (i > 0) {
    const parent = (i - 1) >> 1;
    if (heap[parent].id <= view.id) break;
    heap[i] = heap[parent];
    i = parent;
  }
  heap[i] = view;
}

function popLowest(heap: BufferView[]): BufferView {
  const top = heap[0];
  const last = heap.pop() as BufferView;
  if (heap.length === 0) return top;
  let i = 0;
  for (;;) {
    let child = 2 * i + 1;
    if (child >= heap.length) break;
    if (child + 1 < heap.length && heap[child + 1].id < heap[child].id) child += 1;
    if (heap[child].id >= last.id) break;
    heap[i] = heap[child];
    i = child;
  }
  heap[i] = last;
  return top;
}
