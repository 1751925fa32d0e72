/** What is known of an adapter once it is found: its name, whether it computes on the CPU, and what would be faster. */

import type { Remember } from "./self-tests.ts";

/** Which adapter to ask for. */
export interface AdapterOptions {
  /** Ask for a software (CPU) adapter even where there is a GPU. Default false. */
  software?: boolean;
  /** The adapter of this number, as `webrlhf doctor` lists them; Node only. Default: the variable WEBRLHF_ADAPTER, else the fastest. */
  adapter?: number | null;
  /** Half precision is wanted, or even where it would have to be tried first. Default true. */
  f16?: boolean | "trusted";
}

/** Where a runtime keeps which kernels are fastest on an adapter: see tuning.ts. */
export interface TuningStore {
  /** For people: a file, or "the tuning in this browser". */
  where: string;
  /** Null where nothing was kept. */
  read(): Promise<unknown>;
  write(tuning: object): Promise<void>;
}

/** An adapter that was found, and how to work with it. */
export interface FoundAdapter {
  adapter: GPUAdapter;
  /** The WebGPU entry point it came from (in Node there is no `navigator.gpu`). */
  gpu: GPU;
  /** One line: which adapter runs and, for a slow one, how to get a faster one. */
  note: string;
  /** Why its half precision must not be used, in words, where trying it ended badly. */
  withoutF16?: string;
  /** Keeps what is found out about its kernels between programs. */
  remember?: Remember;
  /** Where its tuning is kept. Absent where there is no such place. */
  tuning?: TuningStore;
  /** Wraps the start of a call that is waited for, where waiting costs something. */
  wait?: <R>(call: () => R) => R;
}

/** What to install for a first adapter or a faster one. */
export const DRIVER_HINT =
  "Install your GPU's Vulkan driver, or a software one: Mesa 24 or newer (Debian 13, Ubuntu 24.04: " +
  "apt-get install mesa-vulkan-drivers; Debian 12: the same with -t bookworm-backports).";

/** True for an adapter that computes on the CPU (lavapipe, SwiftShader, WARP). */
export function isSoftware(adapter: GPUAdapter): boolean {
  const { vendor, architecture, device, description, isFallbackAdapter } = adapter.info;
  return (
    isFallbackAdapter === true ||
    /swiftshader|llvmpipe|lavapipe|softpipe|warp|basic render/i.test(
      `${vendor} ${architecture} ${device} ${description}`,
    )
  );
}

/** What Deno (and Chrome for developers) gives as a device is a number of the PCI bus. */
const isNumber = (device: string): boolean => /^(0x[0-9a-f]+|\d+)$/i.test(device);

/**
 * The adapter's name as people know it: "nvidia-h200", "apple m2", "llvmpipe: Mesa 25.0.7 (LLVM 15.0.6) 0.0.1". A GPU's description is
 * often its driver's, so it comes last; a software adapter is a driver and nothing else.
 */
export function nameOf(adapter: GPUAdapter): string {
  const { vendor, architecture, device, description } = adapter.info;
  const maker = [vendor, architecture].filter((word) => word && !isNumber(word)).join(" ");
  const model = isNumber(device) ? "" : device;
  if (isSoftware(adapter)) {
    if (/swiftshader/i.test(`${architecture} ${description} ${device}`)) return "SwiftShader";
    return description || model || maker || "unnamed adapter";
  }
  return model || (isNumber(device) ? description : "") || maker || description || "unnamed adapter";
}

/** What the adapter says besides its name: on Dawn the driver and its version. Undefined where it says nothing. */
export function driverOf(adapter: GPUAdapter): string | undefined {
  const { description } = adapter.info;
  return description && description !== nameOf(adapter) ? description : undefined;
}

/** One line for people: which adapter runs and, for a slow one, how to get a faster one. */
export function describeAdapter(adapter: GPUAdapter): string {
  const name = nameOf(adapter);
  if (!isSoftware(adapter)) return `WebGPU adapter: ${name}`;
  if (name !== "SwiftShader") return `WebGPU adapter: ${name} (on the CPU; a GPU with its Vulkan driver is faster)`;
  return `WebGPU adapter: SwiftShader (on the CPU, slow). ${DRIVER_HINT}`;
}

/** About two workgroups for each core of the larger GPUs of a kind; what is not here may be of any size. */
const SATURATING: [kind: RegExp, workgroups: number][] = [
  [/^(qualcomm|arm|img|samsung)/, 24],
  [/^apple/, 80],
  [/^intel (?!.*hp)/, 32], // integrated ones; hp and hpg are cards
];

/** Workgroups that keep a GPU of this vendor and architecture busy; undefined where these do not tell. */
export const saturatingWorkgroups = ({ vendor, architecture }: { vendor: string; architecture: string }) =>
  SATURATING.find(([kind]) => kind.test(`${vendor} ${architecture}`.toLowerCase()))?.[1];

/** Sizes of matrices [m, k] and [k, n] that an adapter multiplies at once. */
export interface MatrixSize {
  m: number;
  n: number;
  k: number;
}

/** The largest matrices that it multiplies in f16 with sums in f32; undefined where it does not. */
export function matrixSize(info: GPUAdapterInfo): MatrixSize | undefined {
  type Config = { componentType: string; resultComponentType: string; M: number; N: number; K: number };
  const { subgroupMatrixConfigs = [] } = info as { subgroupMatrixConfigs?: Iterable<Config> };
  const sizes = Array.from(subgroupMatrixConfigs)
    .filter(({ componentType, resultComponentType }) => componentType === "f16" && resultComponentType === "f32")
    .map(({ M, N, K }): MatrixSize => ({ m: M, n: N, k: K }))
    .filter(({ m, n, k }) => m <= 16 && n <= 16 && 32 % k === 0);
  return sizes.sort((one, other) => other.m * other.n * other.k - one.m * one.n * one.k)[0];
}
