/** Files by the hash of their bytes, in the server's object store. Whoever reads one looks at its hash. */
import type { JetStreamManager } from "@nats-io/jetstream";
import { hasher } from "../runtime/sha256.ts";
import { BLOBS } from "./names.ts";
import type { FileRef } from "./wire.ts";

/** The hash that names bytes. */
export async function sha256Of(bytes: Uint8Array): Promise<string> {
  const hash = await hasher();
  hash.add(bytes);
  return hash.end();
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
  private readonly heard: (file: FileRef, bytes: number) => void;

  /** @param heard hears how many bytes of a file are here */
  constructor(jsm: JetStreamManager, heard: (file: FileRef, bytes: number) => void = () => {}) {
    this.jsm = jsm;
    this.heard = heard;
  }

  /** A file's bytes. Throws where they are not there, or not those that the name means. */
  async get(file: FileRef, signal?: AbortSignal): Promise<Uint8Array> {
    const { name, sha256, size } = file;
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
      this.heard(file, at);
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
