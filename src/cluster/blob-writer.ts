/** Puts files into the server's object store, by the hash of their bytes. */
import type { NatsConnection } from "@nats-io/nats-core";
import type { ObjectStore } from "@nats-io/obj";
import { BLOBS } from "./names.ts";
import { trainersPackages } from "./trainers-packages.ts";
import type { FileRef } from "./wire.ts";

const CHUNK = 512 << 10;

/** Puts files; for a trainer. */
export class BlobWriter {
  private readonly nc: NatsConnection;
  private store: ObjectStore | null = null;
  private readonly there = new Set<string>();

  constructor(nc: NatsConnection) {
    this.nc = nc;
  }

  /** Puts a file unless the server has it. */
  async put({ sha256, size }: FileRef, bytes: () => Promise<Uint8Array>): Promise<void> {
    if (this.there.has(sha256)) return;
    this.store ??= await this.open();
    const known = await this.store.info(sha256);
    if (!known || known.deleted || known.size !== size) {
      await this.store.putBlob({ name: sha256, options: { max_chunk_size: CHUNK } }, await bytes());
    }
    this.there.add(sha256);
  }

  async remove(sha256: string): Promise<void> {
    this.there.delete(sha256);
    await this.store?.delete(sha256).catch(() => {}); // it costs room and nothing else
  }

  /** Knows nothing of what is there any more: the store may have been deleted. */
  forget(): void {
    this.store = null;
    this.there.clear();
  }

  private async open(): Promise<ObjectStore> {
    const { Objm, setSha256Backend } = await trainersPackages.objects();
    setSha256Backend("native");
    return new Objm(this.nc).create(BLOBS);
  }
}
