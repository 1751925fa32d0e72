/**
 * One command encoder with one open compute pass. Work is enqueued eagerly and submitted in batches; reading back is the
 * only asynchronous call. Uploads are copies inside the encoder, because `queue.writeBuffer` would overtake work that is
 * encoded but not yet submitted.
 */
import { compilations, compileNow, isCompiling, onCompiled } from "./compiling.ts";
import { device, deviceLoss, isChecked, onClose, startWait, throwDeviceError, throwKnownError } from "./device.ts";
import {
  bindGroup,
  type Consts,
  dropBindGroups,
  type Kernel,
  kernelStats,
  type Prepared,
  type Variant,
  variantOf,
} from "./kernel.ts";
import { budget, submitted } from "./pace.ts";
import { type BufferView, destroyBuffer, drainFree, drainOutgrown, evictBuffer, poolStats, sizeClass } from "./pool.ts";
import { scalarsFull, setScalars, uploadScalars } from "./scalars.ts";

const MAX_DISPATCHES = 256; // keeps the GPU fed while JavaScript encodes; more buys nothing
const MAX_GROUPS = 65535; // per dimension, the limit everywhere
const STAGING = 1 << 20; // bytes of small uploads per flush
const MAX_WAITING = 10_000; // commands that wait for kernels

let encoder: GPUCommandEncoder | null = null;
let pass: GPUComputePassEncoder | null = null;
let lastVariant: Variant | null = null;
let pending = 0; // dispatches in the encoder
let work = 0; // estimated operations in the encoder
let staged: { buffer: GPUBuffer; cpu: Uint8Array<ArrayBuffer>; used: number } | null = null;
const readers = new Map<number, GPUBuffer[]>(); // idle MAP_READ buffers by size
/** Commands behind a kernel that is being compiled, in order: what comes before a read compiles side by side. */
let waiting: (() => void)[] = [];
let observer: Observer | null = null;
let replaying = false;
let flushed: (() => void) | null = null;

let dispatches = 0;
let submits = 0;
let reads = 0;

/** Called before every dispatch with the kernel's name; returns where the dispatch's own pass writes its timestamps. */
type Observer = (kernel: string) => GPUComputePassTimestampWrites;

/** Counters of the GPU stream, the buffer pool and the bind-group cache since the start of the program. */
export interface Stats {
  dispatches: number;
  submits: number;
  reads: number;
  bindGroupHits: number;
  bindGroupMisses: number;
  /** Buffers ever created by the pool and the stores. */
  buffersCreated: number;
  /** Bytes held by the pool and the stores, free or in use. */
  poolBytes: number;
}

/** Counters since the start of the program. */
export const stats = (): Stats => ({ dispatches, submits, reads, ...kernelStats(), ...poolStats() });

/**
 * Enqueues one dispatch. A one-dimensional grid (no `y`) may exceed 65,535 groups: it is folded into y, and the kernel
 * finds its index with `linearId(wid, nwg)` and guards the rounded-up tail.
 */
export function run(
  kernel: Kernel,
  consts: Consts,
  buffers: readonly BufferView[],
  scalars: readonly number[],
  x: number,
  y?: number,
  z = 1,
): void {
  runPrepared({ kernel, consts, variant: null }, buffers, scalars, x, y, z);
}

/** `run` for a kernel that was prepared with its constants, which need not be looked at any more. */
export function runPrepared(
  prepared: Prepared,
  buffers: readonly BufferView[],
  scalars: readonly number[],
  x: number,
  y?: number,
  z = 1,
): void {
  if (x === 0 || y === 0 || z === 0) return;
  const { kernel } = prepared;
  let gridX = x;
  let gridY = y ?? 1;
  if (y === undefined && x > MAX_GROUPS) {
    gridY = Math.ceil(x / MAX_GROUPS);
    gridX = Math.ceil(x / gridY);
  }
  if (gridX > MAX_GROUPS || gridY > MAX_GROUPS || z > MAX_GROUPS) {
    throw new Error(`kernel ${kernel.name}: grid ${gridX}x${gridY}x${z} is over ${MAX_GROUPS} in one dimension`);
  }
  if (scalars.length !== kernel.scalarTypes.length) {
    throw new Error(`kernel ${kernel.name} takes ${kernel.scalarTypes.length} scalars, got ${scalars.length}`);
  }
  const variant = variantOf(prepared);
  const group = bindGroup(variant, buffers);
  for (const i of variant.layout.writes) written(buffers[i]);
  dispatches += 1;
  if (waiting.length > 0 || variant.pipeline === null) dispatchLater(variant, group, scalars, gridX, gridY, z);
  else dispatch(variant, group, scalars, gridX, gridY, z);
}

function dispatchLater(...call: Parameters<typeof dispatch>): void {
  hold(() => dispatch(...call));
  if (observer || waiting.length > MAX_WAITING) settle();
}

function dispatch(
  variant: Variant,
  group: GPUBindGroup,
  scalars: readonly number[],
  x: number,
  y: number,
  z: number,
): void {
  if (variant.pipeline === null) return; // it does not compile, which is the device's error by now
  const { name, scalarTypes } = variant.kernel;
  if (scalarsFull()) submit();
  const p = observer ? timedPass(observer(name)) : (pass ?? openPass());
  if (variant !== lastVariant) {
    p.setPipeline(variant.pipeline);
    lastVariant = variant;
  }
  p.setBindGroup(0, group);
  setScalars(p, scalarTypes, scalars);
  if (y === 1 && z === 1) p.dispatchWorkgroups(x);
  else p.dispatchWorkgroups(x, y, z);
  pending += 1;
  if (pending >= MAX_DISPATCHES) submit();
}

/** Lets a command wait for its turn. */
function hold(command: () => void): void {
  waiting.push(command);
}

/** Encodes what waited; every kernel is there. */
function replay(): void {
  const commands = waiting;
  waiting = [];
  replaying = true;
  try {
    for (const command of commands) command();
  } finally {
    replaying = false;
  }
}

/** Has what waits encoded before the caller goes on, at the price of compiling one kernel after the other. */
function settle(): void {
  if (waiting.length === 0) return;
  compileNow();
  replay();
}

/** Waits until nothing waits for a kernel. */
async function caughtUp(): Promise<void> {
  while (waiting.length > 0) {
    await compilations();
    if (!isCompiling()) replay();
  }
}

onCompiled(replay);

/** What waits was written when it was enqueued. */
function written({ mark }: BufferView): void {
  if (mark && !replaying) mark.written = true;
}

/**
 * Tells the stream how many floating-point operations were just enqueued, so that it submits before they run for long:
 * pace.ts says how long.
 */
export function addWork(operations: number): void {
  if (waiting.length > 0) {
    hold(() => addWork(operations));
    return;
  }
  work += operations;
  if (work > budget()) submit();
}

function openPass(): GPUComputePassEncoder {
  encoder ??= device().createCommandEncoder();
  pass ??= encoder.beginComputePass();
  lastVariant = null;
  return pass;
}

/** A pass of its own for one dispatch. */
function timedPass(timestampWrites: GPUComputePassTimestampWrites): GPUComputePassEncoder {
  pass = endPass().beginComputePass({ timestampWrites });
  lastVariant = null;
  return pass;
}

/** Ends the pass, because copies live between passes. */
function endPass(): GPUCommandEncoder {
  pass?.end();
  pass = null;
  encoder ??= device().createCommandEncoder();
  return encoder;
}

/** Submits everything enqueued so far, unless some of it waits for a kernel: then that goes when the kernel is there. */
export function flush(): void {
  if (waiting.length === 0) submit();
}

function submit(): void {
  if (!encoder) return;
  const commands = endPass().finish();
  uploadScalars();
  if (staged && staged.used > 0) {
    device().queue.writeBuffer(staged.buffer, 0, staged.cpu, 0, staged.used);
    staged.used = 0;
  }
  device().queue.submit([commands]);
  submitted(work);
  encoder = null;
  pending = 0;
  work = 0;
  submits += 1;
  const outgrown = replaying ? [] : drainOutgrown(); // commands that wait may use them
  if (outgrown.length > 0) dropBindGroups(outgrown);
  for (const view of outgrown) destroyBuffer(view);
  flushed?.();
}

/** Copies `bytes` between buffers, in stream order. */
export function copy(from: BufferView, to: BufferView, bytes: number, fromOffset = 0, toOffset = 0): void {
  if (bytes === 0) return;
  written(to);
  if (waiting.length > 0) {
    hold(() => copy(from, to, bytes, fromOffset, toOffset));
    return;
  }
  endPass().copyBufferToBuffer(from.buffer, from.offset + fromOffset, to.buffer, to.offset + toOffset, bytes);
}

/** Fills with zeros, in stream order. */
export function clear(view: BufferView, bytes = view.size): void {
  written(view);
  if (waiting.length > 0) {
    hold(() => clear(view, bytes));
    return;
  }
  endPass().clearBuffer(view.buffer, view.offset, bytes);
}

/** Writes host data, in stream order. */
export function upload(view: BufferView, data: Float32Array | Uint32Array | Uint16Array, offset = 0): void {
  const bytes = Math.ceil(data.byteLength / 4) * 4;
  if (bytes === 0) return;
  written(view);
  if (bytes > STAGING / 4) {
    // Large data: submit what is pending, then write straight into place.
    settle();
    submit();
    const padded = bytes === data.byteLength ? data : padToWord(data);
    device().queue.writeBuffer(view.buffer, view.offset + offset, padded as Float32Array<ArrayBuffer>);
    return;
  }
  if (waiting.length > 0) {
    const kept = data.slice();
    hold(() => upload(view, kept, offset));
    return;
  }
  if (staged && staged.used + bytes > STAGING) submit();
  staged ??= {
    buffer: device().createBuffer({
      label: "upload staging",
      size: STAGING,
      usage: GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST,
    }),
    cpu: new Uint8Array(STAGING),
    used: 0,
  };
  staged.cpu.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), staged.used);
  endPass().copyBufferToBuffer(staged.buffer, staged.used, view.buffer, view.offset + offset, bytes);
  staged.used += bytes;
}

function padToWord(data: Float32Array | Uint32Array | Uint16Array): Uint8Array<ArrayBuffer> {
  const padded = new Uint8Array(Math.ceil(data.byteLength / 4) * 4);
  padded.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  return padded;
}

/** Waits until everything that was enqueued is encoded and the device has been asked for errors, which are thrown here. */
async function encoded(): Promise<void> {
  await caughtUp();
  await throwDeviceError();
  await caughtUp();
}

/**
 * Reads `bytes` from `offset` back. Everything enqueued before is submitted; device errors so far are thrown here. Where nothing is
 * compiled or checked, the copy is submitted before this returns: what is enqueued meanwhile does not keep the reader waiting.
 */
export async function download(view: BufferView, bytes: number, offset = 0): Promise<ArrayBuffer> {
  if (waiting.length === 0 && isChecked()) throwKnownError();
  else await encoded();
  reads += 1;
  const padded = Math.ceil(bytes / 4) * 4;
  const size = sizeClass(padded);
  const idle = readers.get(size) ?? [];
  readers.set(size, idle);
  const reader =
    idle.pop() ??
    device().createBuffer({ label: "readback", size, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
  endPass().copyBufferToBuffer(view.buffer, view.offset + offset, reader, 0, padded);
  submit();
  try {
    await startWait(() => reader.mapAsync(GPUMapMode.READ, 0, padded));
  } catch (error) {
    await throwDeviceError();
    const lost = await deviceLoss(device());
    if (lost) throw lost;
    throw new Error(`reading back failed: ${(error as Error).message}`);
  }
  const data = reader.getMappedRange(0, padded).slice(0, bytes);
  reader.unmap();
  idle.push(reader);
  await throwDeviceError();
  return data;
}

/** Submits everything and waits until the GPU has finished it. */
export async function finish(): Promise<void> {
  await caughtUp();
  submit();
  await startWait(() => device().queue.onSubmittedWorkDone());
  await throwDeviceError();
}

/** Gives free pooled buffers back to the driver. */
export function trim(): void {
  destroyBuffers(drainFree());
}

/** Destroys buffers after submitting what may still use them. */
export function destroyBuffers(views: readonly BufferView[]): void {
  settle();
  submit();
  dropBindGroups(views);
  for (const view of views) destroyBuffer(view);
}

/** Gives the memory of buffers back while their views live on: see `evictBuffer`. */
export function evictBuffers(views: readonly BufferView[]): void {
  settle();
  submit();
  dropBindGroups(views);
  for (const view of views) evictBuffer(view);
}

/** For the profiler: times every dispatch in a pass of its own; `afterFlush` is called after each submit. */
export function observe(before: Observer | null, afterFlush: (() => void) | null = null): void {
  settle();
  submit();
  observer = before;
  flushed = afterFlush;
}

onClose({
  forget() {
    waiting = [];
    encoder = null;
    pass = null;
    staged = null;
    pending = 0;
    readers.clear();
  },
  setAside() {
    settle();
    submit();
    const kept = staged;
    const idle = [...readers];
    return () => {
      staged = kept;
      for (const [size, buffers] of idle) readers.set(size, buffers);
    };
  },
});
