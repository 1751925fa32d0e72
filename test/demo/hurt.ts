/** Browsers that lack something, or lose it: what a page's worker is made to meet. */
import type { Browser, Page } from "playwright";

/** Code that runs in every worker of the page before the worker's own. Worker scripts are no pages: nothing else reaches them in time. */
export async function inWorkers(page: Page, code: () => void): Promise<void> {
  await page.route(/\/workers\/[^/]*worker[^/]*\.js$/, async (route) => {
    const response = await route.fetch();
    await route.fulfill({ response, body: `(${code})();\n${await response.text()}` });
  });
}

/** A private window of some browsers. */
export function noPrivateFiles(): void {
  navigator.storage.getDirectory = async () => {
    throw new DOMException("denied", "SecurityError");
  };
}

/** A device that can no more than every WebGPU can, and refuses to be asked for more. */
export function leastDevice(): void {
  const least: Record<string, number> = {
    maxTextureDimension1D: 8192,
    maxTextureDimension2D: 8192,
    maxTextureDimension3D: 2048,
    maxTextureArrayLayers: 256,
    maxBindGroups: 4,
    maxBindGroupsPlusVertexBuffers: 24,
    maxBindingsPerBindGroup: 1000,
    maxDynamicUniformBuffersPerPipelineLayout: 8,
    maxDynamicStorageBuffersPerPipelineLayout: 4,
    maxSampledTexturesPerShaderStage: 16,
    maxSamplersPerShaderStage: 16,
    maxStorageBuffersPerShaderStage: 8,
    maxStorageTexturesPerShaderStage: 4,
    maxUniformBuffersPerShaderStage: 12,
    maxUniformBufferBindingSize: 65536,
    maxStorageBufferBindingSize: 134217728,
    minUniformBufferOffsetAlignment: 256,
    minStorageBufferOffsetAlignment: 256,
    maxVertexBuffers: 8,
    maxBufferSize: 268435456,
    maxVertexAttributes: 16,
    maxVertexBufferArrayStride: 2048,
    maxInterStageShaderVariables: 16,
    maxColorAttachments: 8,
    maxColorAttachmentBytesPerSample: 32,
    maxComputeWorkgroupStorageSize: 16384,
    maxComputeInvocationsPerWorkgroup: 256,
    maxComputeWorkgroupSizeX: 256,
    maxComputeWorkgroupSizeY: 256,
    maxComputeWorkgroupSizeZ: 64,
    maxComputeWorkgroupsPerDimension: 65535,
  };
  const request = GPU.prototype.requestAdapter;
  GPU.prototype.requestAdapter = async function (options) {
    const adapter = await request.call(this, options);
    if (!adapter) return null;
    Object.defineProperty(adapter, "limits", { value: least });
    Object.defineProperty(adapter, "features", { value: new Set() });
    const open = adapter.requestDevice;
    adapter.requestDevice = async (wanted = {}) => {
      const asked: Record<string, number | undefined> = wanted.requiredLimits ?? {};
      const more = Object.keys(asked).filter((name) => !name.startsWith("min") && (asked[name] ?? 0) > least[name]);
      if (more.length > 0) throw new DOMException(`${more} are more than there is`, "OperationError");
      if ([...(wanted.requiredFeatures ?? [])].length > 0) throw new TypeError("there are no features");
      return open.call(adapter, wanted);
    };
    return adapter;
  };
}

/** Ends the worker that trains, as a browser short of memory does. */
export async function endWorker(page: Page): Promise<void> {
  const worker = page.workers().find((one) => one.url().includes("/workers/"));
  if (!worker) throw new Error("the page has no worker");
  await worker.evaluate(() => self.close());
}

/** Kills the browser's GPU process: every device is lost. */
export async function killGpu(browser: Browser): Promise<void> {
  const session = await browser.newBrowserCDPSession();
  const { processInfo } = await session.send("SystemInfo.getProcessInfo");
  const found = processInfo.find(({ type }) => type === "GPU");
  if (!found) throw new Error("the browser has no GPU process");
  process.kill(found.id, "SIGKILL");
}

/** So many bytes may the origin keep; undefined: as many as before. */
export async function limitStorage(page: Page, address: string, quotaSize?: number): Promise<void> {
  const session = await page.context().newCDPSession(page);
  await session.send("Storage.overrideQuotaForOrigin", { origin: new URL(address).origin, quotaSize });
}
