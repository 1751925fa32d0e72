/** Where the GPU's time goes: one timed pass per dispatch, summed by kernel. Slows everything down; for benches only. */
import { caps, device } from "./device.ts";
import { finish, observe } from "./stream.ts";

/** A kernel's share of a profile. */
export interface KernelTime {
  kernel: string;
  dispatches: number;
  /** Total milliseconds on the GPU. Browsers round a single dispatch to 65 µs or more. */
  milliseconds: number;
}

const CAPACITY = 2048; // dispatches per query set

/** Runs `fn` and returns the time of each kernel it used, slowest first. Needs the timestamp-query feature. */
export async function profile(fn: () => Promise<unknown> | unknown): Promise<KernelTime[]> {
  if (!caps().timestamps) throw new Error("profiling needs an adapter with timestamp-query");
  const gpu = device();
  await finish();
  const totals = new Map<string, KernelTime>();
  const batches: { names: string[]; read: Promise<BigUint64Array> }[] = [];
  let names: string[] = [];
  let set = gpu.createQuerySet({ type: "timestamp", count: 2 * CAPACITY });

  const settle = () => {
    if (names.length === 0) return;
    const bytes = names.length * 16;
    const resolved = gpu.createBuffer({ size: bytes, usage: GPUBufferUsage.QUERY_RESOLVE | GPUBufferUsage.COPY_SRC });
    const reader = gpu.createBuffer({ size: bytes, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
    const encoder = gpu.createCommandEncoder();
    encoder.resolveQuerySet(set, 0, names.length * 2, resolved, 0);
    encoder.copyBufferToBuffer(resolved, 0, reader, 0, bytes);
    gpu.queue.submit([encoder.finish()]);
    const read = reader.mapAsync(GPUMapMode.READ).then(() => new BigUint64Array(reader.getMappedRange().slice(0)));
    read.catch(() => {}); // thrown where it is awaited
    batches.push({ names, read });
    names = [];
    set = gpu.createQuerySet({ type: "timestamp", count: 2 * CAPACITY });
  };

  observe(
    (kernel) => {
      names.push(kernel);
      const at = 2 * (names.length - 1);
      return { querySet: set, beginningOfPassWriteIndex: at, endOfPassWriteIndex: at + 1 };
    },
    () => {
      if (names.length > CAPACITY / 2) settle();
    },
  );
  try {
    await fn();
    await finish();
    settle();
  } finally {
    observe(null);
  }
  for (const { names, read } of batches) {
    const stamps = await read;
    names.forEach((kernel, i) => {
      const entry = totals.get(kernel) ?? { kernel, dispatches: 0, milliseconds: 0 };
      entry.dispatches += 1;
      entry.milliseconds += Number(stamps[2 * i + 1] - stamps[2 * i]) / 1e6;
      totals.set(kernel, entry);
    });
  }
  return [...totals.values()].sort((a, b) => b.milliseconds - a.milliseconds);
}
