/** Files that somebody picked or dropped in a page. */
import { UserError } from "./errors.ts";
import type { Files } from "./files.ts";
import { innerPath } from "./inner-path.ts";
import { blobFile } from "./open.ts";
import { filesAt } from "./served.ts";

/**
 * The files of an `<input type="file">` (also `webkitdirectory` and `multiple`), read only. Of a picked folder, paths are
 * inside of it: "config.json", not "my-model/config.json".
 * @throws UserError for two files of one path
 */
export const fileListFiles = (files: Iterable<File>): Files =>
  picked(Array.from(files, (file) => [file.webkitRelativePath || file.name, file]));

/**
 * The files and folders of a drop, read only. Call it in the event's handler before anything is awaited, because the browser
 * empties the list then: `element.ondrop = (event) => use(droppedFiles(event.dataTransfer.items))`. Of one folder, paths are
 * inside of it.
 * @throws UserError for two files of one path, and for what cannot be read
 */
export async function droppedFiles(items: Iterable<DataTransferItem>): Promise<Files> {
  const entries = Array.from(items, (item) => (item.kind === "file" ? item.webkitGetAsEntry() : null));
  const found: [string, File][] = [];
  const visit = async (entry: FileSystemEntry): Promise<void> => {
    if (entry.isDirectory) {
      for (const inner of await entriesOf(entry as FileSystemDirectoryEntry)) await visit(inner);
      return;
    }
    const file = await new Promise<File>((resolve, reject) =>
      (entry as FileSystemFileEntry).file(resolve, reject),
    ).catch((cause) => {
      throw new UserError(`cannot read ${entry.fullPath.slice(1)}: the browser may not read it`, { cause });
    });
    found.push([entry.fullPath.slice(1), file]);
  };
  for (const entry of entries) if (entry) await visit(entry);
  return picked(found);
}

/** A browser gives a folder's entries a hundred at a time, and at last none. */
async function entriesOf(folder: FileSystemDirectoryEntry): Promise<FileSystemEntry[]> {
  const reader = folder.createReader();
  const all: FileSystemEntry[] = [];
  for (;;) {
    const some = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject)).catch(
      (cause) => {
        throw new UserError(`cannot read the folder ${folder.fullPath.slice(1)}`, { cause });
      },
    );
    if (some.length === 0) return all;
    all.push(...some);
  }
}

function picked(files: readonly (readonly [path: string, file: File])[]): Files {
  const parts = files.map(([path]) => innerPath(path));
  const isInOne = parts.every((path) => path.length > 1 && path[0] === parts[0][0]);
  const byPath = new Map<string, File>();
  for (const [i, [, file]] of files.entries()) {
    const path = parts[i].slice(isInOne ? 1 : 0).join("/");
    if (byPath.has(path)) throw new UserError(`there are two files ${path}: pick the folder that they are in`);
    byPath.set(path, file);
  }
  return filesAt(byPath, async (file) => blobFile(file));
}
