/**
 * Reading large files in pieces: as a stream, or at any offset. Node and Deno read the disk, a browser page fetches the
 * path as a URL.
 */
import { UserError } from "./errors.ts";
import { systemError } from "./system-errors.ts";

/** A file open for reading at any offset. */
export interface OpenFile {
  size: number;
  /** `length` bytes from `offset`, fewer when the file ends before. */
  read(offset: number, length: number): Promise<Uint8Array>;
  close(): Promise<void>;
}

/** Bytes in memory as a file. */
export const bytesFile = (bytes: Uint8Array): OpenFile => ({
  size: bytes.length,
  read: async (offset, length) => bytes.subarray(offset, offset + length),
  close: async () => {},
});

/** A blob as a file: what a page gets from a file picker or the origin's private file system. */
export const blobFile = (blob: Blob): OpenFile => ({
  size: blob.size,
  read: async (offset, length) => new Uint8Array(await blob.slice(offset, offset + length).arrayBuffer()),
  close: async () => {},
});

/**
 * A file on a web server, read in ranges; null where the server has no such file. A server that knows no ranges sends
 * the whole file once.
 * @param request instead of `fetch`, e.g. with a token
 */
export async function urlFile(url: string, request: typeof fetch = fetch): Promise<OpenFile | null> {
  const get = async (first: number, last: number) => {
    const response = await request(url, { headers: { Range: `bytes=${first}-${last}` } });
    if (response.ok || response.status === 404 || response.status === 416) return response;
    throw new UserError(`cannot read ${url}: HTTP status ${response.status}`);
  };
  const bytes = async (response: Response) => new Uint8Array(await response.arrayBuffer());
  const start = await get(0, 0);
  if (start.status === 404) return null;
  if (start.status === 416) return bytesFile(new Uint8Array());
  const total = /\/(\d+)$/.exec(start.headers.get("content-range") ?? "");
  if (start.status !== 206 || !total) return bytesFile(await bytes(start.status === 206 ? await request(url) : start));
  const size = Number(total[1]);
  await start.body?.cancel();
  return {
    size,
    async read(offset, length) {
      const end = Math.min(offset + length, size);
      if (end <= offset) return new Uint8Array();
      const response = await get(offset, end - 1);
      const part = response.status === 206 ? await bytes(response) : null;
      if (part?.length !== end - offset) throw new UserError(`cannot read ${url}: the server sent another range`);
      return part;
    },
    close: async () => {},
  };
}

export const hasDisk = "Deno" in globalThis || globalThis.process?.versions?.node !== undefined;

/** The file's bytes as a stream. */
export async function openStream(path: string): Promise<ReadableStream<Uint8Array>> {
  if (!hasDisk) {
    const response = await fetch(path);
    if (!response.ok || !response.body) throw new UserError(`cannot read ${path}: HTTP status ${response.status}`);
    return response.body;
  }
  return streamOf(await openFile(path));
}

/** The bytes of an open file as a stream, which closes the file at its end. */
export function streamOf(file: OpenFile): ReadableStream<Uint8Array> {
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
    throw systemError(error, { verb: "read", path }) ?? error;
  }
}
