/** Files by the hash of their bytes, in the server's object store. Whoever reads one looks at its hash. */
import type { JetStreamManager } from "@nats-io/jetstream";
import type { NatsConnection } from "@nats-io/nats-core";
import type { ObjectStore } from "@nats-io/obj";
import { hasher } from "../runtime/sha256.ts";
import type { FileRef } from "./messages.ts";
import { BLOBS } from "./names.ts";
import { packages } from "./packages.ts";

const CHUNK = 512 << 10;

/** The hash that names bytes. */
export async function sha256Of(bytes: Uint8Array): Promise<string> {
  const hash = await hasher();
  hash.add(bytes);
  return hash.end();
}

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
    const { Objm, setSha256Backend } = await packages.objects();
    setSha256Backend("native");
    return new Objm(this.nc).create(BLOBS);
  }
}

/** Where the object store keeps an object's description. */
const aboutSubject = (name: string): string => {
  const text = btoa(name).replaceAll("+", "-").replaceAll("/", "_");
  return `$O.${BLOBS}.M.${text}`;
};

/**
 * Reads files; for workers, who may only ask the server for single messages: its own reader makes consumers, which could be told
 * to deliver to others' subjects.
 */
export class BlobReader {
  private readonly jsm: JetStreamManager;

  constructor(jsm: JetStreamManager) {
    this.jsm = jsm;
  }

  /** A file's bytes. Throws where they are not there, or not those that the name means. */
  async get({ name, sha256, size }: FileRef, signal?: AbortSignal): Promise<Uint8Array> {
    const stream = `OBJ_${BLOBS}`;
    const about = await this.jsm.direct.getMessage(stream, { last_by_subj: aboutSubject(sha256) });
    const told = about?.json<{ nuid?: unknown; size?: unknown; deleted?: unknown }>();
    if (!told || told.deleted === true || typeof told.nuid !== "string" || told.size !== size) {
      throw new Error(`${name} is not in the cluster's store`);
    }
    const bytes = new Uint8Array(size);
    const chunks = `$O.${BLOBS}.C.${told.nuid}`;
    for (let at = 0, seq = 1; at < size; ) {
      signal?.throwIfAborted();
      const chunk = await this.jsm.direct.getMessage(stream, { seq, next_by_subj: chunks });
      if (!chunk || chunk.data.length === 0 || at + chunk.data.length > size) {
        throw new Error(`${name} is cut off in the cluster's store`);
      }
      bytes.set(chunk.data, at);
      at += chunk.data.length;
      seq = chunk.seq + 1;
    }
    if ((await sha256Of(bytes)) !== sha256)
      throw new Error(`${name} in the cluster's store has other bytes than its name`);
    return bytes;
  }
}
