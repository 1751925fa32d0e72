/** GPU memory that this process holds, as it counts its buffers by itself: nothing is read back. */
import { memoryHeld, takePeak } from "../gpu/pool.ts";

/** GPU memory in bytes. */
export interface MemoryUse {
  /** In use: tensors and stores. */
  readonly allocated: number;
  /** The most that was in use since this was asked last. */
  readonly peak: number;
  /** With buffers that are free, and kept for the next tensor of their size. */
  readonly reserved: number;
  /** Of parameters, moments and caches, which are outside the pool of tensors. */
  readonly stores: number;
}

/** The memory in use now. */
export const memoryUse = (): MemoryUse => ({ ...memoryHeld(), peak: takePeak() });
