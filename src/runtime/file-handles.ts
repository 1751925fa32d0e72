/** What browsers' handles of files and folders do, and what they do in its place where they cannot. */
import { UserError } from "./errors.ts";
import type { FileContent } from "./files.ts";

export type Folder = FileSystemDirectoryHandle;

/** What not all browsers have. */
interface FileHandle extends Omit<FileSystemFileHandle, "createWritable"> {
  move?(folder: Folder, name: string): Promise<void>;
  createWritable?: FileSystemFileHandle["createWritable"];
  createSyncAccessHandle?(): Promise<SyncAccess>;
}

/** A file of the private file system open in a worker. */
interface SyncAccess {
  getSize(): number;
  truncate(size: number): void;
  write(bytes: Uint8Array, options: { at: number }): number;
  flush(): void;
  close(): void;
}

/** What to do where an entry is not there, or is not of the kind that was asked for. */
export function absent(error: Error): null {
  if (error.name === "NotFoundError" || error.name === "TypeMismatchError") return null;
  throw error;
}

export const fileIn = (folder: Folder, name: string): Promise<FileHandle | null> =>
  folder.getFileHandle(name).catch(absent);

export const folderIn = (folder: Folder, name: string): Promise<Folder | null> =>
  folder.getDirectoryHandle(name).catch(absent);

export const removeFrom = (folder: Folder, name: string): Promise<void> =>
  folder.removeEntry(name, { recursive: true }).catch((error) => void absent(error));

async function* piecesOf(content: FileContent): AsyncGenerator<Uint8Array> {
  if (typeof content === "string") yield new TextEncoder().encode(content);
  else if (content instanceof Uint8Array) yield content;
  else yield* content;
}

/** Writes a file's content: all at once at the end where the browser has streams, else in place. */
export async function fill(handle: FileHandle, content: FileContent): Promise<void> {
  if (!handle.createWritable) {
    const file = await openSync(handle);
    try {
      file.truncate(0);
      for await (const piece of piecesOf(content)) writeWhole(file, piece);
      file.flush();
    } finally {
      file.close();
    }
    return;
  }
  const stream = await handle.createWritable();
  try {
    for await (const piece of piecesOf(content)) await stream.write(piece as Uint8Array<ArrayBuffer>);
    await stream.close();
  } catch (error) {
    await stream.abort().catch(() => {});
    throw error;
  }
}

/** Adds to a file's end: in place in workers; on a page the browser copies the file for it. */
export async function addTo(handle: FileHandle, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
  const inPlace = await openSync(handle).catch((error) => {
    if (!handle.createWritable) throw error;
    return null; // not in a worker, or not in the private file system
  });
  if (inPlace) {
    try {
      writeWhole(inPlace, bytes);
      inPlace.flush();
    } finally {
      inPlace.close();
    }
    return;
  }
  const stream = await (handle as FileSystemFileHandle).createWritable({ keepExistingData: true });
  try {
    await stream.write({ type: "write", position: (await handle.getFile()).size, data: bytes });
    await stream.close();
  } catch (error) {
    await stream.abort().catch(() => {});
    throw error;
  }
}

async function openSync(handle: FileHandle): Promise<SyncAccess> {
  if (handle.createSyncAccessHandle) return handle.createSyncAccessHandle();
  throw new UserError("this browser cannot write files on a page: do it in a worker, or update the browser");
}

function writeWhole(file: SyncAccess, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.length; ) {
    const count = file.write(bytes.subarray(done), { at: file.getSize() });
    if (count <= 0) throw new DOMException("no more room", "QuotaExceededError");
    done += count;
  }
}

export async function moveAll(from: Folder, to: Folder): Promise<void> {
  const entries: [string, FileSystemHandle][] = [];
  for await (const entry of from.entries()) entries.push(entry);
  for (const [name, handle] of entries) {
    if (handle.kind === "file") await moveFile(handle as FileSystemFileHandle, from, name, to, name);
    else await moveAll(handle as Folder, await to.getDirectoryHandle(name, { create: true }));
  }
}

/** Moves a file over another one in one step; where the browser cannot, copies it. */
export async function moveFile(
  file: FileHandle,
  from: Folder,
  name: string,
  to: Folder,
  newName: string,
): Promise<void> {
  if (file.move) {
    try {
      return await file.move(to, newName);
    } catch (error) {
      if ((error as Error).name === "QuotaExceededError") throw error;
    }
  }
  const blob = await file.getFile();
  await fill(await to.getFileHandle(newName, { create: true }), blob.stream() as unknown as AsyncIterable<Uint8Array>);
  await removeFrom(from, name);
}
