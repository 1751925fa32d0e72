/**
 * Dawn hides half precision on NVIDIA behind a toggle because some of its drivers abort the process in such kernels. So the
 * first process on a machine lets a child try one, and remembers how that ended.
 */
import { spawn } from "node:child_process";
import { createRequire } from "node:module";
import os from "node:os";
import { pathToFileURL } from "node:url";
import { packageVersion } from "../runtime/machine.ts";
import { type Finding, verdict } from "../runtime/verdicts.ts";
import { driverOf, isSoftware, nameOf } from "./found-adapter.ts";

const LIMIT = 30_000; // milliseconds for the child: Dawn and a driver load in one or two seconds
const OTHER_ADAPTER = 43; // exit code: there was no adapter with f16 in the child
const WRONG = 44; // exit code: wrong values

/** The child: loads, stores, arithmetic and workgroup memory in half precision, on 64 numbers. Plain JavaScript, run by `node -e`. */
const CHILD = `
const [url, flags] = JSON.parse(process.argv[1]);
const { create, globals } = await import(url);
Object.assign(globalThis, globals);
const gpu = create(flags);
const adapter = await gpu.requestAdapter({ powerPreference: "high-performance" });
if (!adapter?.features.has("shader-f16")) process.exit(${OTHER_ADAPTER});
const device = await adapter.requestDevice({ requiredFeatures: ["shader-f16"] });
const code = \`
enable f16;
@group(0) @binding(0) var<storage, read> x: array<vec4<f16>>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<f16>>;
var<workgroup> tile: array<vec4<f16>, 16>;
@compute @workgroup_size(16)
fn main(@builtin(local_invocation_index) i: u32) {
  tile[i] = x[i] * vec4<f16>(2.0h);
  workgroupBarrier();
  let sum = vec4<f32>(tile[15u - i]) + vec4<f32>(x[i]);
  y[i] = vec4<f16>(sum) + vec4<f16>(1.0h);
}\`;
const module = device.createShaderModule({ code });
const pipeline = device.createComputePipeline({ layout: "auto", compute: { module } });
const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
const [x, y] = [0, 1].map(() => device.createBuffer({ size: 128, usage }));
const reader = device.createBuffer({ size: 128, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
// Integers up to 2048 are exact in f16: 10 bits behind the first one.
const half = (n) => { if (n === 0) return 0; const e = 31 - Math.clz32(n); return ((e + 15) << 10) | ((n << (10 - e)) & 1023); };
device.queue.writeBuffer(x, 0, Uint16Array.from({ length: 64 }, (_, i) => half(i)));
const layout = pipeline.getBindGroupLayout(0);
const entries = [x, y].map((buffer, binding) => ({ binding, resource: { buffer } }));
const encoder = device.createCommandEncoder();
const pass = encoder.beginComputePass();
pass.setPipeline(pipeline);
pass.setBindGroup(0, device.createBindGroup({ layout, entries }));
pass.dispatchWorkgroups(1);
pass.end();
encoder.copyBufferToBuffer(y, 0, reader, 0, 128);
device.queue.submit([encoder.finish()]);
await reader.mapAsync(GPUMapMode.READ);
const got = new Uint16Array(reader.getMappedRange());
const right = got.every((bits, i) => bits === half(2 * (4 * (15 - (i >> 2)) + (i & 3)) + i + 1));
process.exit(right ? 0 : ${WRONG});
`;

/** How half precision fails here, in words, or null where it works. */
export type F16Trouble = string | null;

/** What `f16Trouble` can be told otherwise; for tests. */
export interface TrialOptions {
  /** JavaScript for the child. */
  child?: string;
}

/**
 * Tries half precision in a child process where that has to be tried: on a GPU of NVIDIA, once for each driver and version of
 * Dawn. Null where it works.
 * @param flags how this process made Dawn's instance
 */
export async function f16Trouble(
  adapter: GPUAdapter,
  flags: readonly string[],
  options: TrialOptions = {},
): Promise<F16Trouble> {
  if (isSoftware(adapter) || !/nvidia/i.test(adapter.info.vendor) || !adapter.features.has("shader-f16")) return null;
  const about = [nameOf(adapter), driverOf(adapter) ?? "", `webgpu-${packageVersion("webgpu") ?? ""}`];
  return verdict("f16", about, () => attempt(flags, options.child ?? CHILD));
}

/** How a child ended. What says nothing about the driver is not kept. */
function attempt(flags: readonly string[], code: string): Promise<Finding<F16Trouble>> {
  const url = pathToFileURL(createRequire(import.meta.url).resolve("webgpu")).href;
  return new Promise((resolve) => {
    const args = ["--input-type=module", "--eval", code, JSON.stringify([url, flags])];
    const child = spawn(process.execPath, args, { stdio: "ignore", timeout: LIMIT, killSignal: "SIGKILL" });
    const untried = (why: string) => resolve({ value: `it could not be tried (${why})`, keep: false });
    child.on("error", (error) => untried(error.message));
    child.on("close", (status, signal) => {
      if (status === 0) resolve({ value: null, keep: true });
      else if (status === WRONG) resolve({ value: "a kernel computed wrong values", keep: true });
      else if (status === OTHER_ADAPTER) untried("a second process gets no such adapter");
      else if (status === 1) untried("its process failed");
      else if (signal === "SIGKILL") untried(`no answer in ${LIMIT / 1000} s`);
      else resolve({ value: `a kernel ended its process (${ending(signal, status)})`, keep: true });
    });
  });
}

/** A signal's name, also where a shell's code stands for it. */
const ending = (signal: string | null, status: number | null): string =>
  signal ?? Object.entries(os.constants.signals).find(([, n]) => n + 128 === status)?.[0] ?? `exit code ${status}`;
