/**
 * Memory that leaves the GPU while nobody needs it: the buffers are destroyed, and what they held waits on the host. Those
 * who hold tensors in these buffers notice nothing, as long as they use them only while the memory is there.
 */
import { onStandIn } from "../gpu/device.ts";
import type { BufferView } from "../gpu/pool.ts";
import { readmitBuffer } from "../gpu/pool.ts";
import { clear, download, evictBuffers, upload } from "../gpu/stream.ts";

export { onStandIn };

const PIECE = 1 << 24; // bytes read back at a time: what reads them stays allocated

/** Something with memory that can leave the GPU and come back unchanged. */
export interface Evictable {
  /** The memory is on the GPU. */
  readonly here: boolean;
  /** Copies the contents to the host and gives the GPU's memory back. */
  evict(): Promise<void>;
  /** Brings the contents back. Throws `UserError` where the GPU has no room for them. */
  restore(): void;
}

/** Buffers that leave the GPU and come back together. */
export class Resident implements Evictable {
  private readonly kept: () => readonly BufferView[];
  private readonly zeroed: () => readonly BufferView[];
  private readonly leaving: () => void;
  private copies: { view: BufferView; data: Uint32Array<ArrayBuffer> | null }[] | null = null;

  /**
   * @param kept buffers (as `createBuffer` made them) whose contents are kept
   * @param zeroed buffers that hold only zeros whenever the memory leaves
   * @param leaving frees what can be made again of what is kept
   */
  constructor(
    kept: () => readonly BufferView[],
    zeroed: () => readonly BufferView[] = () => [],
    leaving: () => void = () => {},
  ) {
    this.kept = kept;
    this.zeroed = zeroed;
    this.leaving = leaving;
  }

  /** The memory is on the GPU. */
  get here(): boolean {
    return this.copies === null;
  }

  /** Copies the contents to the host and destroys the buffers. Those of a stand-in hold nothing to copy. */
  async evict(): Promise<void> {
    if (this.copies) return;
    this.leaving();
    const copies: { view: BufferView; data: Uint32Array<ArrayBuffer> | null }[] = [];
    for (const view of this.kept()) copies.push({ view, data: onStandIn() ? null : await contents(view) });
    for (const view of this.zeroed()) copies.push({ view, data: null });
    evictBuffers(copies.map(({ view }) => view));
    this.copies = copies;
  }

  /** Makes the buffers again and copies the contents back. Throws `UserError` where the GPU has no room for them. */
  restore(): void {
    for (const { view, data } of this.copies ?? []) {
      readmitBuffer(view);
      if (data) upload(view, data);
      else clear(view);
    }
    this.copies = null;
  }
}

async function contents(view: BufferView): Promise<Uint32Array<ArrayBuffer>> {
  const data = new Uint32Array(view.size / 4);
  for (let at = 0; at < view.size; at += PIECE) {
    data.set(new Uint32Array(await download(view, Math.min(PIECE, view.size - at), at)), at / 4);
  }
  return data;
}

/**
 * Runs `work` with all of these on the GPU; those that were not there before leave again afterwards, also when it throws.
 */
export async function withResident<R>(residents: readonly Evictable[], work: () => Promise<R>): Promise<R> {
  const guests = [...new Set(residents)].filter((r) => !r.here);
  for (const guest of guests) guest.restore();
  try {
    return await work();
  } finally {
    for (const guest of guests) await guest.evict();
  }
}
