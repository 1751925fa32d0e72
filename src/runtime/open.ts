/**
 * Reading large files in pieces: as a stream, or at any offset. Node and Deno read the disk, a browser page fetches the
 * path as a URL.
 */
import { UserError } from "./errors.ts";

/** A file open for reading at any offset. */
export interface OpenFile {
  size: number;
  /** `length` bytes from `offset`, fewer when the file ends before. */
  read(offset: number, length: number): Promise<Uint8Array>;
  close(): Promise<void>;
}

const hasDisk = "process" in globalThis || "Deno" in globalThis;

/** The file's bytes as a stream. */
export async function openStream(path: string): Promise<ReadableStream<Uint8Array>> {
  if (!hasDisk) {
    const response = await fetch(path);
    if (!response.ok || !response.body) throw new UserError(`cannot read ${path}: HTTP status ${response.status}`);
    return response.body;
  }
  const file = await openFile(path);
  let at = 0;
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const bytes = await file.read(at, 1 << 18);
        at += bytes.length;
        if (bytes.length > 0) return controller.enqueue(bytes);
        controller.close();
        await file.close();
      },
      cancel: () => file.close(),
    },
    { highWaterMark: 1 },
  );
}

/** Opens a file on disk (Node and Deno). */
export async function openFile(path: string): Promise<OpenFile> {
  const { open } = await import("node:fs/promises");
  try {
    const handle = await open(path, "r");
    const stat = await handle.stat();
    if (stat.isDirectory()) {
      await handle.close();
      throw new UserError(`cannot read ${path}: it is a folder`);
    }
    return {
      size: stat.size,
      async read(offset, length) {
        const bytes = new Uint8Array(length);
        let filled = 0;
        while (filled < length) {
          const { bytesRead } = await handle.read(bytes, filled, length - filled, offset + filled);
          if (bytesRead === 0) return bytes.subarray(0, filled);
          filled += bytesRead;
        }
        return bytes;
      },
      close: () => handle.close(),
    };
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === "ENOENT" || code === "ENOTDIR")
      throw new UserError(`cannot read ${path}: no such file`, { cause: error });
    if (code === "EACCES") throw new UserError(`cannot read ${path}: permission denied`, { cause: error });
    if (code === "EISDIR") throw new UserError(`cannot read ${path}: it is a folder`, { cause: error });
    throw error;
  }
}
