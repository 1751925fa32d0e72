/** SHA-256 of files and of bytes that come in pieces. */
import type { Files } from "./files.ts";
import { hasDisk } from "./open.ts";

/** A SHA-256 that grows with the bytes that are added. */
export interface Hasher {
  add(bytes: Uint8Array): void;
  /** The hash as hex. */
  end(): Promise<string>;
}

/** Begins a SHA-256. A page holds all bytes until the end, because its own function wants them so. */
export async function hasher(): Promise<Hasher> {
  if (hasDisk) {
    const { createHash } = await import("node:crypto");
    const hash = createHash("sha256");
    return { add: (bytes) => void hash.update(bytes), end: async () => hash.digest("hex") };
  }
  const parts: Uint8Array<ArrayBuffer>[] = [];
  return {
    add: (bytes) => void parts.push(bytes.slice()),
    async end() {
      const digest = await crypto.subtle.digest("SHA-256", await new Blob(parts).arrayBuffer());
      return [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
    },
  };
}

/** SHA-256 of a text's UTF-8. */
export async function sha256Text(text: string): Promise<string> {
  const hash = await hasher();
  hash.add(new TextEncoder().encode(text));
  return hash.end();
}

/** SHA-256 of a file's bytes, or null where there is no such file. */
export async function sha256File(files: Files, path: string): Promise<string | null> {
  const file = await files.open(path);
  if (!file) return null;
  try {
    const hash = await hasher();
    for (let at = 0; ; ) {
      const piece = await file.read(at, 1 << 20);
      if (piece.length === 0) return hash.end();
      hash.add(piece);
      at += piece.length;
    }
  } finally {
    await file.close();
  }
}
