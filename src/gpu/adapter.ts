import { UserError } from "../runtime/errors.ts";
import { adapterWanted } from "./adapter-choice.ts";
import { type AdapterOptions, DRIVER_HINT, describeAdapter, type FoundAdapter, nameOf } from "./found-adapter.ts";
import { tuningInBrowser } from "./tuning-browser.ts";

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

async function fromNavigator(gpu: GPU, { software, adapter: number }: AdapterOptions): Promise<FoundAdapter> {
  if (adapterWanted(number) !== null) {
    throw new UserError(
      "this runtime chooses the adapter itself: in Deno name the GPU's driver alone with VK_DRIVER_FILES, or run in Node, which " +
        "takes the adapter of a number",
    );
  }
  if ("Deno" in globalThis) {
    // Before the first request: Deno looks for drivers once.
    const { hasVulkanLoader, useEmbeddedVulkan } = await import("./software.ts");
    if (!hasVulkanLoader()) await useEmbeddedVulkan();
  }
  const adapter = await gpu.requestAdapter(
    software ? { forceFallbackAdapter: true } : { powerPreference: "high-performance" },
  );
  if (adapter) {
    const tuning = tuningInBrowser(nameOf(adapter));
    return { adapter, gpu, note: describeAdapter(adapter), ...(tuning && { tuning }) };
  }
  if ("Deno" in globalThis) {
    throw new UserError(`Deno finds no WebGPU adapter. ${DRIVER_HINT}`);
  }
  throw new UserError(
    "This browser has WebGPU but offers no adapter for it: no supported GPU, or its driver is on the block list, " +
      "or its GPU process has crashed too often: then close the browser and start it anew. Else " +
      "update the graphics driver, or start Chrome with --enable-unsafe-webgpu to use its software adapter.",
  );
}
