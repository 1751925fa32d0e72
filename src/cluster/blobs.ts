/** Files by the hash of their bytes, in the server's object store. Whoever reads one looks at its hash. */
import type { JetStreamManager } from "@nats-io/jetstream";
import { hasher } from "../runtime/sha256.ts";
import { BLOBS } from "./names.ts";
import { absent } from "./streams.ts";
import type { FileRef } from "./wire.ts";

/** The hash that names bytes. */
export async function sha256Of(bytes: Uint8Array): Promise<string> {
  const hash = await hasher();
  hash.add(bytes);
  return hash.end();
}

const STREAM = `OBJ_${BLOBS}`;

/** The name of what leads from one file to another. */
export const deltaName = (from: FileRef, to: FileRef): string => `${from.sha256}-${to.sha256}`;

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
    const told = await this.about(sha256);
    if (!told || told.size !== size) throw new Error(`${name} is not in the cluster's store`);
    const bytes = await this.chunks(file, told, signal);
    if ((await sha256Of(bytes)) !== sha256)
      throw new Error(`${name} in the cluster's store has other bytes than its name`);
    return bytes;
  }

  /** What leads from one file to another: see `deltaOf`. Null where that is not there, or would be larger than the file. */
  async delta(from: FileRef, to: FileRef, signal?: AbortSignal): Promise<Uint8Array | null> {
    const told = await this.about(deltaName(from, to));
    return told && told.size <= to.size ? this.chunks(to, told, signal) : null;
  }

  private async about(name: string): Promise<{ nuid: string; size: number } | null> {
    const about = await this.jsm.direct.getMessage(STREAM, { last_by_subj: aboutSubject(name) }).catch(absent);
    const told = about?.json<{ nuid?: unknown; size?: unknown; deleted?: unknown }>();
    if (!told || told.deleted === true || typeof told.nuid !== "string" || !Number.isSafeInteger(told.size))
      return null;
    return { nuid: told.nuid, size: told.size as number };
  }

  private async chunks(
    file: FileRef,
    { nuid, size }: { nuid: string; size: number },
    signal?: AbortSignal,
  ): Promise<Uint8Array> {
    const bytes = new Uint8Array(size);
    for (let at = 0, seq = 1; at < size; ) {
      signal?.throwIfAborted();
      this.heard({ ...file, size }, at);
      const chunk = await this.jsm.direct.getMessage(STREAM, { seq, next_by_subj: `$O.${BLOBS}.C.${nuid}` });
      if (!chunk || chunk.data.length === 0 || at + chunk.data.length > size) {
        throw new Error(`${file.name} is cut off in the cluster's store`);
      }
      bytes.set(chunk.data, at);
      at += chunk.data.length;
      seq = chunk.seq + 1;
    }
    return bytes;
  }
}
