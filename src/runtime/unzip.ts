/** Zip files in, from anybody: what one claims is not believed. */
import type { FileEntry } from "@zip.js/zip.js/lib/zip-core-custom.js";
import { crc32 } from "./crc32.ts";
import { UserError } from "./errors.ts";
import type { Files } from "./files.ts";
import { innerPath } from "./inner-path.ts";
import { blobFile, bytesFile, type OpenFile } from "./open.ts";
import { filesAt } from "./served.ts";

/** How much a zip file may hold. */
export interface UnzipLimits {
  /** Files; default 10,000. */
  readonly maxFiles?: number;
  /** Bytes of all files together, unpacked; default 16 GiB. */
  readonly maxBytes?: number;
  /** Bytes of one compressed file, unpacked, which is held in memory while it is open; default 1 GiB. */
  readonly maxCompressed?: number;
  /** Says of a path whether it is wanted; others are as if they were not there, and the limits do not count their bytes. */
  readonly only?: (path: string) => boolean;
}

const LOCAL_HEADER = 30;

/**
 * The files in a zip file, read only, each unpacked when it is read. Files that are stored as they are, as weights should be, are
 * read in ranges.
 * @throws UserError for what is no zip file or is cut, a path that leads out of it, two files of one path, links, encryption,
 *   unknown compression, files that overlap, and more than the limits; when a file is read, where its content is not what the
 *   zip file says
 */
export async function unzipFiles(blob: Blob, limits: UnzipLimits = {}): Promise<Files> {
  const { maxFiles = 10_000, maxBytes = 16 * 2 ** 30, maxCompressed = 2 ** 30, only } = limits;
  const { ZipReader, BlobReader } = await import("@zip.js/zip.js/lib/zip-core-custom.js");
  const reader = new ZipReader(new BlobReader(blob), { strictness: "strict", filenameValidation: "tolerant" });
  const entries = new Map<string, FileEntry>();
  let count = 0;
  let bytes = 0;
  try {
    for await (const entry of reader.getEntriesGenerator()) {
      const name = entry.filename;
      if (++count > maxFiles) throw refused(`it holds more than ${maxFiles} files`);
      const path = innerPath(name).join("/");
      if (entry.symlink) throw refused(`${name} is a link`);
      if (entry.directory) continue;
      if (entry.encrypted) throw refused(`${name} is encrypted`);
      if (only?.(path) === false) continue;
      if (entries.has(path)) throw refused(`it holds two files ${path}`);
      if (entry.compressionMethod !== 0 && entry.compressionMethod !== 8) {
        throw refused(`${name} is compressed in an unusual way: pack it again with "deflate", or store it`);
      }
      if (entry.compressionMethod === 0 && entry.uncompressedSize !== entry.compressedSize) {
        throw refused(`${name} has two sizes`);
      }
      if (entry.compressionMethod === 8 && entry.uncompressedSize > maxCompressed) {
        throw refused(`${name} would have ${entry.uncompressedSize} bytes: pack it without compression`);
      }
      bytes += entry.uncompressedSize;
      if (bytes > maxBytes) throw refused(`its files have more than ${maxBytes} bytes`);
      entries.set(path, entry as FileEntry);
    }
    for (const path of entries.keys()) {
      for (let at = path.lastIndexOf("/"); at > 0; at = path.lastIndexOf("/", at - 1)) {
        if (entries.has(path.slice(0, at))) throw refused(`${path.slice(0, at)} is a file and a folder`);
      }
    }
    await checkPlaces(blob, [...entries.values()]);
  } catch (error) {
    throw explain(error);
  } finally {
    await reader.close();
  }
  const files = filesAt(entries, (entry) => (entry.compressionMethod === 0 ? stored(blob, entry) : inflated(entry)));
  return {
    ...files,
    async read(path) {
      const content = await files.read(path);
      const entry = entries.get(innerPath(path).join("/"));
      if (content && entry?.compressionMethod === 0 && crc32(content) !== entry.crc32) {
        throw refused(`${path} is damaged`);
      }
      return content;
    },
  };
}

/** Bytes that are read twice would let a small file be a large one. */
async function checkPlaces(blob: Blob, entries: readonly FileEntry[]): Promise<void> {
  const sorted = entries.toSorted((a, b) => a.offset - b.offset);
  for (const [i, entry] of sorted.entries()) {
    const end = entry.offset + LOCAL_HEADER + entry.rawFilename.length + entry.compressedSize;
    const next = sorted[i + 1]?.offset ?? blob.size;
    if (end > next) throw refused(i + 1 < sorted.length ? "its files overlap" : "it is cut off");
  }
}

async function stored(blob: Blob, entry: FileEntry): Promise<OpenFile> {
  const header = new DataView(await blob.slice(entry.offset, entry.offset + LOCAL_HEADER).arrayBuffer());
  if (header.byteLength < LOCAL_HEADER || header.getUint32(0, true) !== 0x04034b50) {
    throw refused(`${entry.filename} is not where it should be`);
  }
  const start = entry.offset + LOCAL_HEADER + header.getUint16(26, true) + header.getUint16(28, true);
  if (start + entry.compressedSize > blob.size) throw refused(`${entry.filename} is cut off`);
  return blobFile(blob.slice(start, start + entry.compressedSize));
}

/** Unpacks no more than the file said that it has. */
async function inflated(entry: FileEntry): Promise<OpenFile> {
  const bytes = new Uint8Array(entry.uncompressedSize);
  let filled = 0;
  const into = new WritableStream<Uint8Array>({
    write(piece) {
      if (filled + piece.length > bytes.length) throw refused(`${entry.filename} is larger than it says`);
      bytes.set(piece, filled);
      filled += piece.length;
    },
  });
  try {
    await entry.getData(into, { checkCrc32: true, strictness: "strict", useWebWorkers: false });
  } catch (error) {
    throw explain(error, entry.filename);
  }
  if (filled !== bytes.length) throw refused(`${entry.filename} is smaller than it says`);
  return bytesFile(bytes);
}

const refused = (why: string, cause?: unknown): UserError =>
  new UserError(`cannot unpack the zip file: ${why}`, { cause });

function explain(error: unknown, name?: string): unknown {
  const { name: kind, message } = error as Error;
  if (kind === "UserError") return message.startsWith("cannot unpack") ? error : refused(message, error);
  return refused(
    name === undefined ? `it is none, or it is cut off (${message})` : `${name} is damaged (${message})`,
    error,
  );
}
