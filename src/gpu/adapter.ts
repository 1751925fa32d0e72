import { UserError } from "../runtime/errors.ts";

export interface AdapterOptions {
  /** Ask for a software (CPU) adapter even where there is a GPU. Default false. */
  software?: boolean;
}

export interface FoundAdapter {
  adapter: GPUAdapter;
  /** The WebGPU entry point it came from (in Node there is no `navigator.gpu`). */
  gpu: GPU;
  /** One line: which adapter runs and, for a slow one, how to get a faster one. */
  note: string;
  /** Wraps the start of a call that is waited for, where waiting costs something. */
  wait?: <R>(call: () => R) => R;
}

/**
 * Opens the best WebGPU adapter of this runtime. Browsers and Deno bring their own WebGPU; Node uses Dawn from the
 * optional package `webgpu`, on the system's Vulkan, Metal or D3D12 driver, else on a software Vulkan.
 *
 * @throws UserError with the remedies where no adapter can be had.
 */
export async function requestAdapter(options: AdapterOptions = {}): Promise<FoundAdapter> {
  const gpu = globalThis.navigator?.gpu;
  if (gpu) return fromNavigator(gpu, options);
  if (typeof globalThis.process?.versions?.node === "string" && !("Deno" in globalThis)) {
    const { requestDawnAdapter } = await import("./adapter-node.ts");
    return requestDawnAdapter(options);
  }
  throw new UserError(
    "This browser has no WebGPU (navigator.gpu is missing). Use a recent Chrome, Edge, Safari 26 or Firefox, and a page " +
      "served from https:// or localhost.",
  );
}

async function fromNavigator(gpu: GPU, { software }: AdapterOptions): Promise<FoundAdapter> {
  if ("Deno" in globalThis) {
    // Before the first request: Deno looks for drivers once.
    const { hasVulkanLoader, useEmbeddedVulkan } = await import("./software.ts");
    if (!hasVulkanLoader()) await useEmbeddedVulkan();
  }
  const adapter = await gpu.requestAdapter(
    software ? { forceFallbackAdapter: true } : { powerPreference: "high-performance" },
  );
  if (adapter) return { adapter, gpu, note: describe(adapter) };
  if ("Deno" in globalThis) {
    throw new UserError(`Deno finds no WebGPU adapter. ${DRIVER_HINT}`);
  }
  throw new UserError(
    "This browser has WebGPU but offers no adapter for it: no supported GPU, or its driver is on the block list. " +
      "Update the graphics driver, or start Chrome with --enable-unsafe-webgpu to use its software adapter.",
  );
}

/** What to install for a first adapter or a faster one. */
export const DRIVER_HINT =
  "Install your GPU's Vulkan driver, or a software one: Mesa 24 or newer (Debian 13, Ubuntu 24.04: " +
  "apt-get install mesa-vulkan-drivers; Debian 12: the same with -t bookworm-backports).";

/** True for an adapter that computes on the CPU (lavapipe, SwiftShader, WARP). */
export function isSoftware(adapter: GPUAdapter): boolean {
  const { vendor, architecture, description, isFallbackAdapter } = adapter.info;
  return (
    isFallbackAdapter === true ||
    /swiftshader|llvmpipe|lavapipe|basic render/i.test(`${vendor} ${architecture} ${description}`)
  );
}

/** The adapter's name as people know it, e.g. "llvmpipe (LLVM 15.0.6, 256 bits)". */
function adapterName(adapter: GPUAdapter): string {
  const { vendor, architecture, device, description } = adapter.info;
  if (/swiftshader/i.test(`${architecture} ${description} ${device}`)) return "SwiftShader";
  const words = description || device || [vendor, architecture].filter(Boolean).join(" ");
  return words || "unnamed adapter";
}

function describe(adapter: GPUAdapter): string {
  const name = adapterName(adapter);
  if (!isSoftware(adapter)) return `WebGPU adapter: ${name}`;
  if (name !== "SwiftShader") return `WebGPU adapter: ${name} (on the CPU; a GPU with its Vulkan driver is faster)`;
  return `WebGPU adapter: SwiftShader (on the CPU, slow). ${DRIVER_HINT}`;
}

export { describe as describeAdapter };
