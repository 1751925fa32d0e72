/**
 * The one open GPUDevice and what it can do. This file and `adapter.ts` are the only ones that know
 * which WebGPU implementation runs underneath.
 */
import { environment } from "../runtime/environment.ts";
import { UserError } from "../runtime/errors.ts";
import { requestAdapter } from "./adapter.ts";
import { f16Wanted } from "./f16-wanted.ts";
import { DeviceLostError, OutOfMemoryError } from "./failures.ts";
import { driverOf, isSoftware, matrixSize, nameOf, saturatingWorkgroups, type TuningStore } from "./found-adapter.ts";
import { failingFamilies, type KernelFamily, type Remember } from "./self-tests.ts";

/** The properties of an adapter that kernels depend on. */
export interface Caps {
  /** "cpu" for software rasterisers (lavapipe, SwiftShader): no barriers, no shared memory there. */
  kind: "hardware" | "cpu";
  /** Adapter name for people, e.g. "nvidia-h200", "llvmpipe (LLVM 15.0.6, 256 bits)". */
  name: string;
  /** The driver and its version, where the adapter tells them apart from its name. */
  driver?: string;
  subgroups: boolean;
  /** Smallest and largest subgroup size the adapter may use (0 without subgroups). */
  subgroupSize: number;
  subgroupSizeMax: number;
  f16: boolean;
  /** Scalars can travel as immediates (64 bytes) instead of through the uniform arena. */
  immediates: boolean;
  timestamps: boolean;
  /** Workgroups that keep it busy, where its kind tells. */
  saturating?: number;
  /** Sizes of the matrices [m, k] and [k, n] in f16 that it multiplies at once, with sums in f32, where it does. */
  matrices?: { m: number; n: number; k: number };
  maxInvocations: number;
  maxWorkgroupStorage: number;
  /** Largest storage binding and largest buffer, bytes. */
  maxBinding: number;
  maxBuffer: number;
  /** Families of kernels that computed wrong values on this adapter with its driver, and are not used; absent if none did. */
  unsound?: readonly KernelFamily[];
}

/** How `openDevice` chooses an adapter and uses it. */
export interface OpenOptions {
  /** Prefer a software adapter even where a GPU is present. */
  software?: boolean;
  /** The adapter of this number, as `webrlhf doctor` lists them; Node only. Default: the variable WEBRLHF_ADAPTER, else the fastest. */
  adapter?: number | null;
  /** Use the uniform arena for scalars even where immediates exist (for tests and benches). */
  noImmediates?: boolean;
  /** Use half precision where the adapter has it. Default true; `WEBRLHF_F16=off` turns it off for any program in Node and Deno. */
  f16?: boolean;
}

interface Open {
  device: GPUDevice;
  adapter: GPUAdapter;
  caps: Caps;
  note: string;
  /** What is not used of the adapter because it did not work, and why. */
  doubts: string[];
  options: OpenOptions;
  /** Set once the device is gone. */
  lost?: DeviceLostError;
  wait?: <R>(call: () => R) => R;
  standIn?: boolean;
}

let current: Open | null = null;
let opening: Promise<Caps> | null = null;
let requests = 0;
let sticky: Error | null = null;
let cause: Error | null = null; // explains the sticky error, e.g. the shader that did not compile
const checks = new Set<Promise<void>>(); // error scopes that have not answered yet
const closers = new Set<Closer>();

/**
 * Opens the device once; later calls return the same capabilities. One that was lost, or failed, is replaced. Throws `UserError` when no
 * adapter works.
 */
export function openDevice(options: OpenOptions = {}): Promise<Caps> {
  requests += 1;
  if (current?.lost || (current && (cause || sticky))) closeDevice(); // errors stay with the device that had them
  opening ??= open(options).catch((error) => {
    opening = null;
    throw error;
  });
  return opening;
}

async function open(options: OpenOptions): Promise<Caps> {
  const f16 = f16Wanted(options.f16);
  const found = await requestAdapter({ software: options.software, adapter: options.adapter, f16 });
  const { adapter, gpu, note, withoutF16, wait, remember } = found;
  const device = await requestDevice(adapter, f16 !== false && !withoutF16);
  device.addEventListener("uncapturederror", (event) => {
    const { error } = event as GPUUncapturedErrorEvent;
    stickError(isOutOfMemory(error) ? new OutOfMemoryError(error.message) : new Error(`WebGPU: ${error.message}`));
  });
  const doubts = withoutF16 ? [`f16 is off: ${withoutF16}; WEBRLHF_F16=on uses it all the same`] : [];
  const opened: Open = { device, adapter, caps: describe(adapter, gpu, device, options), note, doubts, options, wait };
  void device.lost.then(({ message }) => {
    opened.lost = new DeviceLostError(message);
  });
  current = opened;
  missing = null;
  store = found.tuning ?? null;
  const untuned = await tuner?.(opened.caps, store);
  if (untuned) opened.doubts.push(untuned);
  if (opened.caps.kind === "cpu" || (await tryKernels(opened, remember))) return opened.caps;
  forgetDevice();
  return open(options);
}

/** Goes by what was kept of an adapter's tuning; what stands against it, in words. */
type Tuner = (caps: Caps, store: TuningStore | null) => Promise<string | null>;
let tuner: Tuner | null = null;
let store: TuningStore | null = null;

/** Registers what reads a tuning: tuning.ts. */
export function onTuning(read: Tuner): void {
  tuner = read;
}

/** Where the open adapter's tuning is kept; null where there is no such place. */
export const tuningStore = (): TuningStore | null => store;

// What was found in this process; Node keeps it in a folder as well.
const found = new Map<string, boolean>();

/**
 * Finds out which kernels the adapter computes wrong, before anything relies on them. False where such a kernel lost the device:
 * it is known now, and will not run on the next one.
 */
async function tryKernels(
  opened: Open,
  remember: Remember = async (_, find) => (await find()).value,
): Promise<boolean> {
  const { caps } = opened;
  let lost = false;
  const failing = await failingFamilies(async (family, passes) => {
    const key = `${caps.name}, ${caps.driver}: ${family}`;
    const known = found.get(key);
    if (known !== undefined || lost) return known ?? true;
    const right = await remember(family, () =>
      passes().then(
        (value) => ({ value: value ?? true, keep: value !== undefined }),
        () => ({ value: false, keep: false }), // it did not compile, or there was no memory, or the device is lost
      ),
    );
    clearDeviceError();
    found.set(key, right);
    lost = !right && opened.lost !== undefined;
    return right;
  });
  if (failing.length > 0) {
    caps.unsound = failing;
    opened.doubts.push(`wrong values from its ${failing.join(" and ")}: slower kernels run instead`);
  }
  return !lost;
}

const isOutOfMemory = (error: GPUError): boolean =>
  typeof GPUOutOfMemoryError === "function" && error instanceof GPUOutOfMemoryError;

const MATRICES = "chromium-experimental-subgroup-matrix" as GPUFeatureName;
/** Features and limits that are asked for if the adapter offers them; kernels are designed for the defaults. */
const wantedFeatures = ["shader-f16", "subgroups", "timestamp-query", "immediates", MATRICES];
const wantedLimits = [
  "maxBufferSize", // weights and KV caches
  "maxStorageBufferBindingSize", // one chunk of a flat parameter store
  "maxComputeInvocationsPerWorkgroup",
  "maxComputeWorkgroupSizeX",
  "maxComputeWorkgroupStorageSize", // matmul and attention tiles on GPUs
  "maxImmediateSize", // 64 bytes of scalars per dispatch
];

async function requestDevice(adapter: GPUAdapter, f16: boolean): Promise<GPUDevice> {
  const requiredLimits: Record<string, number> = {};
  for (const name of wantedLimits) {
    const value = Number(
      (adapter.limits as unknown as Record<string, number | bigint | undefined>)[name] ?? Number.NaN,
    );
    if (!Number.isFinite(value)) continue;
    requiredLimits[name] = name === "maxImmediateSize" ? Math.min(64, value) : value;
  }
  const offered = wantedFeatures.filter((f) => adapter.features.has(f as GPUFeatureName)) as GPUFeatureName[];
  const requiredFeatures = offered.filter((f) => f16 || (f !== "shader-f16" && f !== MATRICES));
  try {
    return await adapter.requestDevice({ requiredFeatures, requiredLimits });
  } catch (error) {
    throw new UserError(`the adapter refused a device: ${(error as Error).message}`);
  }
}

function describe(adapter: GPUAdapter, gpu: GPU, device: GPUDevice, options: OpenOptions): Caps {
  const info = adapter.info as GPUAdapterInfo & { subgroupMinSize?: number; subgroupMaxSize?: number };
  const limit = (key: string) => Number((device.limits as unknown as Record<string, number>)[key]);
  const subgroups = device.features.has("subgroups" as GPUFeatureName);
  const f16 = device.features.has("shader-f16");
  return {
    kind: forcedKind() ?? (isSoftware(adapter) ? "cpu" : "hardware"),
    name: nameOf(adapter),
    driver: driverOf(adapter),
    subgroups,
    subgroupSize: subgroups ? (info.subgroupMinSize ?? 0) : 0,
    subgroupSizeMax: subgroups ? (info.subgroupMaxSize ?? 0) : 0,
    f16,
    immediates: !options.noImmediates && hasImmediates(gpu, limit("maxImmediateSize")),
    timestamps: device.features.has("timestamp-query"),
    saturating: saturatingWorkgroups(info),
    matrices: f16 && device.features.has(MATRICES) ? matrixSize(info) : undefined,
    maxInvocations: limit("maxComputeInvocationsPerWorkgroup"),
    maxWorkgroupStorage: limit("maxComputeWorkgroupStorageSize"),
    maxBinding: Math.min(limit("maxStorageBufferBindingSize"), limit("maxBufferSize")),
    maxBuffer: limit("maxBufferSize"),
  };
}

/** For tests: WEBRLHF_ADAPTER_KIND=hardware runs the kernels of a GPU on a software adapter, "cpu" the reverse. */
function forcedKind(): Caps["kind"] | null {
  const kind = environment("WEBRLHF_ADAPTER_KIND");
  if (!kind) return null;
  if (kind === "cpu" || kind === "hardware") return kind;
  throw new UserError(`WEBRLHF_ADAPTER_KIND is "${kind}": it must be hardware or cpu`);
}

function hasImmediates(gpu: GPU, bytes: number): boolean {
  const encoder = (globalThis as { GPUComputePassEncoder?: { prototype: object } }).GPUComputePassEncoder;
  return (
    bytes >= 64 &&
    !!encoder &&
    "setImmediates" in encoder.prototype &&
    !!gpu.wgslLanguageFeatures?.has("immediate_address_space")
  );
}

function need(): Open {
  if (!current) throw new Error("no GPU device is open: call `await openDevice()` first");
  return current;
}

export const device = (): GPUDevice => need().device;
export const adapter = (): GPUAdapter => need().adapter;
/** The open device as kernels see it. Throws before `openDevice`. */
export const caps = (): Caps => need().caps;
/** The name of the adapter that computes, or null while no device is open. */
export const adapterName = (): string | null => current?.caps.name ?? null;
/** How often `openDevice` was called: whatever computes calls it when it begins. */
export const deviceRequests = (): number => requests;
/** One line for people: which adapter runs and how to get a faster one. */
export const adapterNote = (): string => [need().note, ...need().doubts].join("; ");
/** What the open device does without because it did not work when it was tried, in words. */
export const adapterDoubts = (): readonly string[] => need().doubts;
/** Starts a call that is waited for, in the way that suits the adapter. */
export const startWait = <R>(call: () => R): R => {
  const { wait } = need();
  return wait ? wait(call) : call();
};

/** Remembers the first error of the device; the next read throws it. */
function stickError(error: Error): void {
  sticky ??= error;
}

/**
 * Remembers the error that a check finds, if any. Unlike what follows from it ("invalid command buffer"), it says what
 * went wrong, so it is the one that is thrown. Reads wait for checks under way.
 */
export function watchError(check: Promise<Error | null>): void {
  const watched = check
    .then(
      (error) => {
        cause ??= error;
      },
      () => {}, // the device is gone; its loss is reported on its own
    )
    .finally(() => checks.delete(watched));
  checks.add(watched);
}

/** No check is under way: what is known of the device's errors is all there is. */
export const isChecked = (): boolean => checks.size === 0;

/** Throws the remembered error, if any. Errors stay: everything enqueued after one is suspect. */
export async function throwDeviceError(): Promise<void> {
  if (!isChecked()) await Promise.all(checks);
  throwKnownError();
}

/** `throwDeviceError` without those that checks are still to find. */
export function throwKnownError(): void {
  const error = current?.lost ?? cause ?? sticky;
  if (error) throw error;
}

/** How long a device that is being lost may take to say so, after a promise of it has been rejected. */
const LOSS_MS = 200;

/** The loss of a device, or null while it works. Waits a moment for a loss that is about to be told. */
export async function deviceLoss(gpu: GPUDevice): Promise<DeviceLostError | null> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const working = new Promise<null>((resolve) => {
    timer = setTimeout(resolve, LOSS_MS, null);
  });
  const info = await Promise.race([gpu.lost, working]);
  clearTimeout(timer);
  return info && new DeviceLostError(info.message);
}

/** For tests that provoke errors on purpose. */
export function clearDeviceError(): void {
  sticky = null;
  cause = null;
}

/** What a module does when the device closes, or gives way to a stand-in. */
export interface Closer {
  /** Forgets what it made on the device. */
  forget(): void;
  /** Keeps what it made on the device, which is forgotten next; returns what brings it back. */
  setAside(): () => void;
}

/** Registers a module that keeps things that belong to the device. */
export function onClose(closer: Closer): void {
  closers.add(closer);
}

/**
 * Runs `work` on a stand-in for the open device, with the same capabilities. What was made on the device before is set aside,
 * and must not be used meanwhile; what was made on the stand-in is forgotten afterwards.
 */
export async function withStandIn<R>(device: GPUDevice, work: () => Promise<R>): Promise<R> {
  const real = need();
  const forget = () => {
    for (const closer of closers) closer.forget();
    clearDeviceError();
  };
  const before = [...closers].map((closer) => closer.setAside());
  const error = [sticky, cause] as const;
  forget();
  current = { ...real, device, wait: undefined, standIn: true };
  try {
    return await work();
  } finally {
    forget();
    for (const bringBack of before) bringBack();
    [sticky, cause] = error;
    current = real;
  }
}

/** The device is a stand-in: what is on it holds nothing but zeros. */
export const onStandIn = (): boolean => current?.standIn === true;

/** Destroys the device and forgets everything made on it; `openDevice` may be called again. */
export function closeDevice(): void {
  missing = null;
  if (!current) return;
  opening = null;
  forgetDevice();
}

function forgetDevice(): void {
  const { device } = need();
  for (const closer of closers) closer.forget();
  current = null;
  clearDeviceError();
  device.destroy();
}

/** Pauses between attempts to open a device again, ms: a GPU process that crashed takes a moment to come back. */
const REOPENING = [0, 250, 1000, 2000, 4000];
let reopening: Promise<Caps> | null = null;
/** How the device was opened that could not be opened again. */
let missing: OpenOptions | null = null;

/**
 * Closes a device that failed and opens a new one in the way the old one was. Everything made on the old one is forgotten.
 * Where somebody has done so already, theirs is the new one.
 * @throws UserError when there is no device to be had any more, or when this one was closed on purpose
 */
export function reopenDevice(failed: GPUDevice): Promise<Caps> {
  if (reopening) return reopening;
  if (current && current.device !== failed) return Promise.resolve(current.caps);
  reopening = openAgain().finally(() => {
    reopening = null;
  });
  return reopening;
}

async function openAgain(): Promise<Caps> {
  const options = missing ?? need().options;
  closeDevice();
  missing = options;
  let failure: unknown;
  for (const pause of REOPENING) {
    await new Promise((resolve) => setTimeout(resolve, pause));
    try {
      return await openDevice(options);
    } catch (error) {
      failure = error;
    }
  }
  throw failure;
}
