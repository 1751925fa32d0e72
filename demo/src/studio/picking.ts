/** Files that somebody picked or dropped, with paths for the worker. */

export interface Picked {
  /** What was picked, by name: a .gguf file, a folder, or "files". */
  label: string;
  files: (readonly [path: string, file: File])[];
}

/** Of an `<input type="file">`; of a folder, paths begin with its name. Null where nothing was picked. */
export function pickedFiles(list: Iterable<File>): Picked | null {
  return grouped(Array.from(list, (file) => [file.webkitRelativePath || file.name, file] as const));
}

/** Of a drop. Call it in the event's handler before anything is awaited: the browser empties the list then. */
export async function droppedOnes(items: Iterable<DataTransferItem>): Promise<Picked | null> {
  const entries = Array.from(items, (item) => (item.kind === "file" ? item.webkitGetAsEntry() : null));
  const found: (readonly [string, File])[] = [];
  const visit = async (entry: FileSystemEntry): Promise<void> => {
    if (entry.isDirectory) {
      const reader = (entry as FileSystemDirectoryEntry).createReader();
      // A browser gives a folder's entries a hundred at a time, and at last none.
      for (;;) {
        const some = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
        if (some.length === 0) return;
        for (const inner of some) await visit(inner);
      }
    }
    const file = await new Promise<File>((resolve, reject) => (entry as FileSystemFileEntry).file(resolve, reject));
    found.push([entry.fullPath.slice(1), file]);
  };
  for (const entry of entries) if (entry) await visit(entry);
  return grouped(found);
}

function grouped(files: readonly (readonly [string, File])[]): Picked | null {
  const [first] = files;
  if (!first) return null;
  if (files.length === 1 && !first[0].includes("/")) {
    // A file alone may be a model; as one of a folder it is told what it lacks.
    return /\.gguf$/i.test(first[0])
      ? { label: first[0], files: [first] }
      : { label: "files", files: [[`files/${first[0]}`, first[1]]] };
  }
  const folder = first[0].split("/")[0];
  const isInOne = files.every(([path]) => path.startsWith(`${folder}/`));
  if (isInOne) return { label: folder, files: [...files] };
  return { label: "files", files: files.map(([path, file]) => [`files/${path}`, file] as const) };
}
