/**
 * A software Vulkan for machines without any driver (Linux, x64). It is switched on inside the running process:
 * the WebGPU implementation's own dlopen("libvulkan.so.1") then finds the library that was loaded here, by its SONAME,
 * and that loader takes the driver's manifest from the environment.
 */
import os from "node:os";

interface DenoLibraries {
  dlopen(file: string, symbols: Record<string, unknown>): unknown;
}

const deno = (globalThis as { Deno?: DenoLibraries }).Deno;

// Libraries must stay open.
const open: unknown[] = [];

function load(file: string): boolean {
  if (deno) {
    try {
      open.push(
        deno.dlopen(file, { vkCreateInstance: { parameters: ["pointer", "pointer", "pointer"], result: "i32" } }),
      );
      return true;
    } catch {
      return false; // also where --allow-ffi was not given
    }
  }
  const { RTLD_NOW, RTLD_GLOBAL } = os.constants.dlopen;
  const RTLD_NODELETE = 0x1000;
  try {
    process.dlopen({ exports: {} }, file, RTLD_NOW | RTLD_GLOBAL | RTLD_NODELETE);
    return true;
  } catch (error) {
    // Node keeps the library, then complains that a library which is no addon registered nothing.
    return (error as Error).message.includes("did not self-register");
  }
}

/** True where the system has a Vulkan loader, or is no Linux. */
export const hasVulkanLoader = (): boolean => process.platform !== "linux" || load("libvulkan.so.1");

/** The variable by which the user chose a Vulkan driver, if any: such a choice is never overridden. */
export const chosenDriver = (): "VK_DRIVER_FILES" | "VK_ICD_FILENAMES" | undefined =>
  (["VK_DRIVER_FILES", "VK_ICD_FILENAMES"] as const).find((name) => process.env[name]);

/**
 * Loads the embedded Vulkan loader and, unless the user chose a driver, its software driver too; false where there is
 * none for this machine.
 */
export async function useEmbeddedVulkan(): Promise<boolean> {
  const { embeddedVulkan } = await import("../runtime/embedded.ts");
  const vulkan = await embeddedVulkan();
  if (!vulkan) return false;
  if (!chosenDriver()) process.env.VK_ICD_FILENAMES = vulkan.icd;
  return load(vulkan.loader);
}
