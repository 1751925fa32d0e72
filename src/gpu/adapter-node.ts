import { UserError } from "../runtime/errors.ts";
import { packageVersion } from "../runtime/machine.ts";
import { withoutNoise } from "../runtime/stderr.ts";
import { tuningFile } from "../runtime/tuning-file.ts";
import { verdict } from "../runtime/verdicts.ts";
import { VERSION } from "../runtime/version.ts";
import { adapterWanted, choiceFlags, type ListedAdapter } from "./adapter-choice.ts";
import { f16Trouble } from "./f16-trial.ts";
import { f16Wanted } from "./f16-wanted.ts";
import {
  type AdapterOptions,
  DRIVER_HINT,
  describeAdapter,
  driverOf,
  type FoundAdapter,
  isSoftware,
  nameOf,
} from "./found-adapter.ts";
import type { Remember } from "./self-tests.ts";
import { chosenDriver, hasVulkanLoader, useEmbeddedVulkan } from "./software.ts";
import { calmly } from "./ticks.ts";

// Dawn hides these behind toggles: f16 on NVIDIA, and features still called unsafe. They change nothing elsewhere.
// Timestamps would be rounded to 65.5 µs, which is longer than most kernels take on a GPU.
const FLAGS = [
  "enable-dawn-features=allow_unsafe_apis,vulkan_enable_f16_on_nvidia,use_vulkan_memory_model",
  "disable-dawn-features=timestamp_quantization",
];

// Dawn says this of every Vulkan adapter, each time it lists them.
const NOISE = /max\w+PerPipelineLayout artificially reduced/;

// Dawn's instance must outlive everything made from it: when it is collected the process crashes.
const instances: GPU[] = [];

interface Dawn {
  create(flags: string[]): GPU;
  globals: Record<string, unknown>;
}

/** Opens an adapter of Dawn: the system's driver first, then the embedded software Vulkan. */
export async function requestDawnAdapter({
  software = false,
  adapter: number,
  f16 = f16Wanted(),
}: AdapterOptions): Promise<FoundAdapter> {
  const dawn = await loadDawn();
  const chosenNumber = adapterWanted(number);
  const request = async () => {
    const choice = chosenNumber === null ? [] : choiceFlags(await listDawnAdapters(), chosenNumber);
    const flags = [...FLAGS, ...choice];
    const instance = dawn.create(flags);
    instances.push(instance);
    const wanted: GPURequestAdapterOptions =
      software && choice.length === 0 ? { forceFallbackAdapter: true } : { powerPreference: "high-performance" };
    const adapter = await withoutNoise(NOISE, () => instance.requestAdapter(wanted));
    if (!adapter) return null;
    const wait = isSoftware(adapter) ? calmly : undefined;
    const withoutF16 = (f16 === true && (await f16Trouble(adapter, flags))) || undefined;
    const note = describeAdapter(adapter);
    const tuning = await tuningFile(nameOf(adapter), driverOf(adapter) ?? "");
    return { adapter, gpu: instance, note, withoutF16, wait, remember: remember(adapter), ...(tuning && { tuning }) };
  };

  const hasLoader = hasVulkanLoader();
  const system = hasLoader ? await request() : null; // without a loader Dawn would only print a warning
  if (system) return system;
  if (process.platform !== "linux") throw new UserError("Dawn finds no WebGPU adapter. Update the graphics driver.");

  const chosen = chosenDriver();
  if (!chosen || !hasLoader) {
    const embedded = (await useEmbeddedVulkan()) ? await request() : null;
    if (embedded) return embedded;
  }
  if (chosen) {
    throw new UserError(
      `No WebGPU adapter: Dawn accepts no Vulkan driver of ${chosen}=${process.env[chosen]}. Unset it, or name the ` +
        `manifest of a working driver. ${DRIVER_HINT}`,
    );
  }
  const { EMBEDDED_PACKAGE } = await import("../runtime/embedded.ts");
  throw new UserError(
    `No WebGPU adapter: the system has no Vulkan driver that Dawn accepts. ${DRIVER_HINT} ` +
      `Without root rights, on x64 Linux: npm install ${EMBEDDED_PACKAGE}@147 brings a slow software adapter.`,
  );
}

/** Findings hold for one driver, one Dawn and one state of the kernels. */
const remember = (adapter: GPUAdapter): Remember => {
  const about = [nameOf(adapter), driverOf(adapter) ?? "", `webgpu-${packageVersion("webgpu")}`, `webrlhf-${VERSION}`];
  return (name, find) => verdict(name, about, find);
};

async function loadDawn(): Promise<Dawn> {
  const name = "webgpu"; // a variable, so that bundlers of browser code do not follow it
  try {
    const dawn: Dawn = await import(/* @vite-ignore */ name);
    Object.assign(globalThis, dawn.globals); // GPUBufferUsage and the other constants
    return dawn;
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message.split("\n")[0] : cause;
    throw new UserError(`Node needs Dawn, which does not load: ${reason}. Install it with: npm install webgpu`, {
      cause,
    });
  }
}

/** Every adapter that Dawn can see in this process; their places are their numbers. */
export async function listDawnAdapters(): Promise<ListedAdapter[]> {
  const dawn = await loadDawn();
  try {
    const instance = dawn.create(["adapter=no adapter has this name"]);
    instances.push(instance);
    await withoutNoise(NOISE, () => instance.requestAdapter());
    return [];
  } catch (error) {
    // The list is part of the complaint: " * backend: 'vulkan', name: 'llvmpipe'".
    const lines = String(error).matchAll(/backend: '([^']*)', name: '([^']*)'/g);
    return Array.from(lines, ([, backend, name]) => ({ backend, name }));
  }
}
