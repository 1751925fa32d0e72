/** Looks at everything a training run needs from the machine. */
import { requestAdapter } from "../../../gpu/adapter.ts";
import { adapterDoubts, adapterNote, type Caps, caps, openDevice } from "../../../gpu/device.ts";
import { DRIVER_HINT } from "../../../gpu/found-adapter.ts";
import { finish } from "../../../gpu/stream.ts";
import { EMBEDDED_PACKAGE } from "../../../runtime/embedded.ts";
import { isUserError } from "../../../runtime/errors.ts";
import { type Machine, machine, packageVersion } from "../../../runtime/machine.ts";
import { scope, tensor } from "../../../tensor/core.ts";
import { matmul } from "../../../tensor/ops/matmul.ts";

export interface Report {
  /** True when training can run here. */
  ok: boolean;
  machine: Machine;
  /** Installed versions of the optional packages; null: not installed. */
  packages: Record<string, string | null>;
  /** Every adapter that Dawn lists ("vulkan: llvmpipe ..."), by their numbers; empty in Deno, which shows only its choice. */
  adapters: string[];
  adapter: AdapterReport | null;
  /** f32 matrix product of size x size, the best of about one second of runs; null without an adapter. */
  matmul: { size: number; gflops: number } | null;
  /** What is missing or slow, and what to do about it. */
  advice: string[];
}

export interface AdapterReport extends Caps {
  note: string;
  /** What is not used of it because it did not work. */
  doubts: readonly string[];
  features: string[];
  languageFeatures: string[];
  limits: Record<string, number>;
}

/** `measure` false leaves out the timing. */
export async function examine({ measure = true }: { measure?: boolean } = {}): Promise<Report> {
  const report: Report = {
    ok: false,
    machine: machine(),
    packages: Object.fromEntries(["webgpu", EMBEDDED_PACKAGE].map((name) => [name, packageVersion(name)])),
    adapters: [],
    adapter: null,
    matmul: null,
    advice: [],
  };
  try {
    await openDevice();
    report.adapter = await inspectAdapter();
    report.adapters = await listAdapters();
    if (measure) report.matmul = await timeMatmul();
    report.ok = true;
  } catch (error) {
    if (!isUserError(error)) throw error;
    report.advice.push(error.message);
  }
  report.advice.push(...adviceFor(report));
  return report;
}

async function inspectAdapter(): Promise<AdapterReport> {
  const { adapter, gpu } = await requestAdapter();
  const limits: Record<string, number> = {};
  for (const name in adapter.limits) {
    const value: unknown = adapter.limits[name as keyof GPUSupportedLimits];
    if (typeof value === "number") limits[name] = value;
  }
  const languageFeatures = [...(gpu.wgslLanguageFeatures ?? [])].sort();
  return {
    ...caps(),
    note: adapterNote(),
    doubts: adapterDoubts(),
    features: [...adapter.features].sort(),
    languageFeatures,
    limits,
  };
}

async function listAdapters(): Promise<string[]> {
  if ("Deno" in globalThis) return [];
  const { listDawnAdapters } = await import("../../../gpu/adapter-node.ts");
  return (await listDawnAdapters()).map(({ backend, name }) => `${backend}: ${name}`);
}

async function timeMatmul(size = 512): Promise<{ size: number; gflops: number }> {
  const operations = 2 * size ** 3;
  const values = Float32Array.from({ length: size * size }, (_, i) => ((i * 7919) % 1000) / 1000 - 0.5);
  const a = tensor(values, [size, size]);
  const b = tensor(values, [size, size]);
  const multiply = async (times: number) => {
    const started = performance.now();
    scope(() => {
      for (let i = 0; i < times; i++) matmul(a, b);
    });
    await finish();
    return (performance.now() - started) / times;
  };
  await multiply(1); // compiles
  let best = await multiply(1);
  const end = performance.now() + 1000;
  while (performance.now() < end) {
    // About 100 ms a round: a single product on a GPU would only time the wait.
    best = Math.min(best, await multiply(Math.min(500, Math.max(1, Math.round(100 / best)))));
  }
  return { size, gflops: operations / best / 1e6 };
}

function adviceFor({ machine, adapter, packages }: Report): string[] {
  const advice: string[] = [];
  if (adapter?.kind === "cpu") {
    if (machine.gpus.length > 0) {
      advice.push(
        `This machine has a GPU (${machine.gpus.join(", ")}), but no Vulkan driver answers for it: install its maker's ` +
          "driver; in a container, share the device and the driver's Vulkan files (for NVIDIA: the graphics capability).",
      );
    }
    if (/swiftshader/i.test(adapter.name)) advice.push(`SwiftShader is the slowest adapter. ${DRIVER_HINT}`);
    else if (machine.gpus.length === 0)
      advice.push("Everything works, on the CPU: a machine with a GPU trains faster.");
  }
  for (const doubt of adapter?.doubts ?? []) advice.push(`On this adapter ${doubt}. A newer driver may help.`);
  if (adapter && !adapter.subgroups) advice.push("No subgroup operations in this runtime: slower kernels are used.");
  if (!("Deno" in globalThis) && !packages.webgpu) advice.push("The package webgpu is missing: npm install webgpu");
  return advice;
}
