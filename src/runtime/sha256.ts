/** SHA-256 of files and of bytes that come in pieces. */
import type { Files } from "./files.ts";
import { hasDisk } from "./open.ts";

/** SHA-256 as hex. Node and Deno take the pieces as they come; a page holds them all, because its own function wants them so. */
export async function sha256(pieces: AsyncIterable<Uint8Array> | Iterable<Uint8Array>): Promise<string> {
  if (hasDisk) {
    const { createHash } = await import("node:crypto");
    const hash = createHash("sha256");
    for await (const piece of pieces) hash.update(piece);
    return hash.digest("hex");
  }
  const parts: Uint8Array<ArrayBuffer>[] = [];
  for await (const piece of pieces) parts.push(piece as Uint8Array<ArrayBuffer>);
  const digest = await crypto.subtle.digest("SHA-256", await new Blob(parts).arrayBuffer());
  return [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** SHA-256 of a text's UTF-8. */
export const sha256Text = (text: string): Promise<string> => sha256([new TextEncoder().encode(text)]);

/** SHA-256 of a file's bytes, or null where there is no such file. */
export async function sha256File(files: Files, path: string): Promise<string | null> {
  const file = await files.open(path);
  if (!file) return null;
  async function* pieces() {
    for (let at = 0; ; ) {
      const piece = await file!.read(at, 1 << 20);
      if (piece.length === 0) return;
      yield piece;
      at += piece.length;
    }
  }
  return sha256(pieces()).finally(() => file.close());
}
