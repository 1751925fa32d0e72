/**
 * A rehearsal: the same program on a device that computes nothing and allocates nothing, but counts. It shows how much
 * memory a run will take before any is taken, whatever ops and options it consists of. Whatever is read back is zero.
 */
import { caps, device, withStandIn } from "./device.ts";

/** Bytes of buffers by the label they were made with. */
export interface Rehearsal {
  /** The most that was alive at once. */
  peak: number;
  /** What it consisted of. */
  atPeak: Map<string, number>;
}

/**
 * Runs `work` without a GPU's work and memory. A device must be open, whose limits hold; what is on it stays, and must not be
 * used meanwhile. Throws what `work` throws, e.g. the error of a buffer beyond the device's limits.
 */
export async function rehearse(work: () => Promise<void>): Promise<Rehearsal> {
  caps(); // an open device
  const counter = new Counter();
  await withStandIn(standIn(counter), work);
  counter.note();
  return { peak: counter.peak, atPeak: counter.atPeak };
}

class Counter {
  peak = 0;
  atPeak = new Map<string, number>();
  private alive = 0;
  private readonly byLabel = new Map<string, number>();

  add(label: string, bytes: number): void {
    if (bytes < 0) this.note(); // the peak may be over: write down what it consisted of
    this.alive += bytes;
    this.byLabel.set(label, (this.byLabel.get(label) ?? 0) + bytes);
    this.peak = Math.max(this.peak, this.alive);
  }

  note(): void {
    if (this.alive === this.peak) this.atPeak = new Map(this.byLabel);
  }
}

function standIn(counter: Counter): GPUDevice {
  const nothing = () => ({});
  const quiet = () => {};
  const buffer = ({ label = "", size }: GPUBufferDescriptor) => {
    counter.add(label, size);
    let alive = true;
    return {
      size,
      label,
      mapAsync: async () => {},
      getMappedRange: (_: number, bytes: number) => new ArrayBuffer(bytes),
      unmap: quiet,
      destroy() {
        if (alive) counter.add(label, -size);
        alive = false;
      },
    };
  };
  const pass = { setPipeline: quiet, setBindGroup: quiet, setImmediates: quiet, dispatchWorkgroups: quiet, end: quiet };
  const encoder = { beginComputePass: () => pass, copyBufferToBuffer: quiet, clearBuffer: quiet, finish: nothing };
  const { features, limits } = device();
  return {
    features,
    limits,
    createBuffer: buffer,
    createShaderModule: nothing,
    createPipelineLayout: nothing,
    createComputePipeline: nothing,
    createBindGroupLayout: nothing,
    createBindGroup: nothing,
    createCommandEncoder: () => encoder,
    pushErrorScope: quiet,
    popErrorScope: async () => null,
    queue: { submit: quiet, writeBuffer: quiet, onSubmittedWorkDone: async () => {} },
    destroy: quiet,
  } as unknown as GPUDevice;
}
