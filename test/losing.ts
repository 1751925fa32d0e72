/** Devices that are lost, or have no memory left, at chosen moments. */
import { device } from "../src/gpu/device.ts";

type Submit = (commands: Iterable<GPUCommandBuffer>) => undefined;

/**
 * Runs work and destroys the device at work before some of its submits.
 * @param at which ones, counted over all devices from 0
 * @returns how many submits there were
 */
export async function losingAt(at: (submit: number) => boolean, work: () => Promise<unknown>): Promise<number> {
  const queue = GPUQueue.prototype as unknown as { submit: Submit };
  const { submit } = queue;
  let count = 0;
  queue.submit = function (this: GPUQueue, commands) {
    if (at(count++)) device().destroy();
    return submit.call(this, commands);
  };
  try {
    await work();
  } finally {
    queue.submit = submit;
  }
  return count;
}

/** Runs work on a GPU that has no memory left for buffers of these names, from so many bytes on, so many times. */
export async function lackingMemory(
  [label, bytes]: [label: RegExp, bytes: number],
  times: number,
  work: () => Promise<unknown>,
): Promise<void> {
  const gpu = GPUDevice.prototype as GPUDevice;
  const { createBuffer, popErrorScope } = gpu;
  let [left, lacking] = [times, false];
  gpu.createBuffer = function (this: GPUDevice, wanted) {
    lacking = left > 0 && wanted.size >= bytes && label.test(wanted.label ?? "");
    if (lacking) left -= 1;
    return createBuffer.call(this, wanted);
  };
  gpu.popErrorScope = async function (this: GPUDevice) {
    const failed = lacking;
    lacking = false;
    const error = await popErrorScope.call(this);
    return failed ? new GPUOutOfMemoryError("none left") : error;
  };
  try {
    await work();
  } finally {
    Object.assign(gpu, { createBuffer, popErrorScope });
  }
}
