/** What is known of an adapter once it is found: its name, whether it computes on the CPU, and what would be faster. */

/** Which adapter to ask for. */
export interface AdapterOptions {
  /** Ask for a software (CPU) adapter even where there is a GPU. Default false. */
  software?: boolean;
}

/** An adapter that was found, and how to work with it. */
export interface FoundAdapter {
  adapter: GPUAdapter;
  /** The WebGPU entry point it came from (in Node there is no `navigator.gpu`). */
  gpu: GPU;
  /** One line: which adapter runs and, for a slow one, how to get a faster one. */
  note: string;
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

/** The adapter's name as people know it, e.g. "llvmpipe (LLVM 15.0.6, 256 bits)". */
function adapterName(adapter: GPUAdapter): string {
  const { vendor, architecture, device, description } = adapter.info;
  if (/swiftshader/i.test(`${architecture} ${description} ${device}`)) return "SwiftShader";
  const words = description || device || [vendor, architecture].filter(Boolean).join(" ");
  return words || "unnamed adapter";
}

/** One line for people: which adapter runs and, for a slow one, how to get a faster one. */
export function describeAdapter(adapter: GPUAdapter): string {
  const name = adapterName(adapter);
  if (!isSoftware(adapter)) return `WebGPU adapter: ${name}`;
  if (name !== "SwiftShader") return `WebGPU adapter: ${name} (on the CPU; a GPU with its Vulkan driver is faster)`;
  return `WebGPU adapter: SwiftShader (on the CPU, slow). ${DRIVER_HINT}`;
}
