/** The origin's private file system: where a page keeps files that outlive it. */
import { filesIn } from "./directory-files.ts";
import { UserError } from "./errors.ts";
import type { Files } from "./files.ts";
import { innerPath } from "./inner-path.ts";

/**
 * Files that this origin's pages and workers keep from visit to visit, e.g. `await opfsFiles("runs")`. The browser may delete
 * them when room gets short, unless `navigator.storage.persist()` was granted.
 * @param root a folder of the private file system, made where it is not there, or its handle
 * @throws UserError where the browser keeps no files: in some private windows, with blocked site data, on an insecure page
 */
export async function opfsFiles(root: string | FileSystemDirectoryHandle = "webrlhf"): Promise<Files> {
  const whole = await privateRoot();
  if (typeof root !== "string") {
    const parts = await whole.resolve(root);
    return filesIn(root, parts ? `opfs/${parts.join("/")}` : root.name);
  }
  let folder = whole;
  for (const name of innerPath(root)) folder = await folder.getDirectoryHandle(name, { create: true }).catch(refuse);
  return filesIn(folder, ["opfs", ...innerPath(root)].join("/"));
}

/**
 * The private file system's own folder.
 * @throws UserError where there is none
 */
export async function privateRoot(): Promise<FileSystemDirectoryHandle> {
  const storage = globalThis.navigator?.storage;
  if (!storage?.getDirectory) {
    throw new UserError(
      globalThis.isSecureContext === false
        ? "this page can keep no files, because it was not loaded over https: (or from localhost)"
        : "this browser has no private file system to keep files in: update it, or use memoryFiles()",
    );
  }
  return storage.getDirectory().catch(refuse);
}

function refuse(cause: unknown): never {
  throw new UserError(
    "the browser lets this page keep no files: open it in a window that is not private, and allow site data",
    { cause },
  );
}
