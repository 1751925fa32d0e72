/**
 * A mirror of the weights: a folder that some web server or content network hands out, each file named by its hash. What it sends is
 * looked at as what the cluster's own store sends is, so that nobody need trust it.
 */
import type { Files } from "../runtime/files.ts";
import { join } from "../runtime/paths.ts";
import { sha256Of } from "./blobs.ts";
import type { FileSource } from "./policy.ts";
import type { FileRef } from "./wire.ts";

/** Writes a mirror's files; for a trainer. */
export class MirrorFolder {
  private readonly files: Files;
  private readonly folder: string;
  private readonly there = new Set<string>();

  constructor(files: Files, folder: string) {
    this.files = files;
    this.folder = folder;
  }

  /** Writes a file unless it has written it. Throws a UserError where the disk does not take it. */
  async put({ sha256 }: FileRef, bytes: () => Promise<Uint8Array>): Promise<void> {
    if (this.there.has(sha256)) return;
    await this.files.writeFile(join(this.folder, sha256), await bytes());
    this.there.add(sha256);
  }

  async remove(sha256: string): Promise<void> {
    if (this.there.delete(sha256)) await this.files.remove(join(this.folder, sha256));
  }
}

/** A mirror that sends nothing for so long is given up, milliseconds. */
const STALLED_MS = 20_000;

/**
 * A file's bytes from a mirror.
 * @param mirror the address of its folder
 * @param heard hears how many bytes are here
 * @throws Error where it does not send them, or sends others
 */
export async function fromMirror(
  mirror: string,
  file: FileRef,
  heard: (file: FileRef, bytes: number) => void = () => {},
  signal?: AbortSignal,
): Promise<Uint8Array> {
  const { name, sha256, size } = file;
  const stop = new AbortController();
  const stalled = () => stop.abort(new Error(`nothing for ${STALLED_MS / 1000} s`));
  let timer = setTimeout(stalled, STALLED_MS);
  try {
    const response = await fetch(`${mirror.replace(/\/$/, "")}/${sha256}`, {
      signal: signal ? AbortSignal.any([signal, stop.signal]) : stop.signal,
      credentials: "omit",
      referrerPolicy: "no-referrer",
    });
    if (!response.ok || !response.body) throw new Error(`HTTP ${response.status}`);
    const bytes = new Uint8Array(size);
    let at = 0;
    for (const reader = response.body.getReader(); ; ) {
      const { done, value } = await reader.read();
      if (done) break;
      if (at + value.length > size) {
        await reader.cancel();
        throw new Error(`more than the ${size} bytes of ${name}`);
      }
      bytes.set(value, at);
      at += value.length;
      heard(file, at);
      clearTimeout(timer);
      timer = setTimeout(stalled, STALLED_MS);
    }
    if (at < size || (await sha256Of(bytes)) !== sha256) throw new Error(`other bytes than those of ${name}`);
    return bytes;
  } finally {
    clearTimeout(timer);
  }
}

/** A mirror that failed is left alone for so long, milliseconds. */
const REST_MS = 60_000;

/** Files from a mirror where there is one, else, and where it fails, from the cluster's store. */
export function mirroredFiles(
  store: FileSource,
  heard: (file: FileRef, bytes: number) => void,
  say: (line: string) => void,
): FileSource {
  let rests = 0;
  return {
    delta: async (...asked) => (await store.delta?.(...asked)) ?? null,
    async get(file, signal, mirror) {
      if (mirror !== undefined && Date.now() >= rests) {
        try {
          return await fromMirror(mirror, file, heard, signal);
        } catch (error) {
          signal?.throwIfAborted();
          if (rests === 0) say(`${mirror} gave ${(error as Error).message}: weights come from the cluster's server`);
          rests = Date.now() + REST_MS;
        }
      }
      return store.get(file, signal);
    },
  };
}
