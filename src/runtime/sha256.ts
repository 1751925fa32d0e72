/** SHA-256 of files and of bytes that come in pieces. */
import type { Files } from "./files.ts";
import { hasDisk, type OpenFile } from "./open.ts";
import { PlainSha256 } from "./plain-sha256.ts";

/** A hash that grows with the bytes that are added. */
export interface Hasher {
  /** Adds bytes, or a text's UTF-8. */
  add(bytes: Uint8Array | string): void;
  /** The hash as hex. */
  end(): Promise<string>;
}

/**
 * Begins a hash: SHA-256, or the SHA-1 that git names small files by. Of the latter a page holds all bytes until the end,
 * because its own function wants them so.
 */
export async function hasher(kind: "sha256" | "sha1" = "sha256"): Promise<Hasher> {
  if (hasDisk) {
    const { createHash } = await import("node:crypto");
    const hash = createHash(kind);
    return { add: (bytes) => void hash.update(bytes), end: async () => hash.digest("hex") };
  }
  if (kind === "sha256") return new PlainSha256();
  const parts: (Uint8Array<ArrayBuffer> | string)[] = [];
  return {
    add: (bytes) => void parts.push(typeof bytes === "string" ? bytes : bytes.slice()),
    async end() {
      const digest = await crypto.subtle.digest("SHA-1", await new Blob(parts).arrayBuffer());
      return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
    },
  };
}

/** SHA-256 of a text's UTF-8. */
export async function sha256Text(text: string): Promise<string> {
  const hash = await hasher();
  hash.add(text);
  return hash.end();
}

/** SHA-256 of a file's bytes, or null where there is no such file. */
export async function sha256File(files: Files, path: string): Promise<string | null> {
  const file = await files.open(path);
  return file && hashOpened(file, await hasher());
}

/** Adds a file's bytes to a hash that was begun, closes the file, and gives the hash. */
export async function hashOpened(file: OpenFile, hash: Hasher): Promise<string> {
  try {
    for (let at = 0; ; ) {
      const piece = await file.read(at, 1 << 20);
      if (piece.length === 0) return await hash.end();
      hash.add(piece);
      at += piece.length;
    }
  } finally {
    await file.close();
  }
}

/** Adds a blob's bytes to a hash that was begun, some at a time. */
export async function addBlob(hash: Hasher, blob: Blob): Promise<void> {
  for (let at = 0; at < blob.size; at += 1 << 20) {
    hash.add(new Uint8Array(await blob.slice(at, at + (1 << 20)).arrayBuffer()));
  }
}
