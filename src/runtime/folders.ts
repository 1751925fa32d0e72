/** Making folders on disk. */
import fs from "node:fs/promises";
import path from "node:path";

/**
 * Makes a folder and those that it lies in, where they are missing. (Node's own way to do so never comes back from a file
 * system that denies having its own folders, as /proc does.)
 */
export async function makeFolder(folder: string): Promise<void> {
  if (
    await fs.stat(folder).then(
      (info) => info.isDirectory(),
      () => false,
    )
  )
    return;
  try {
    await fs.mkdir(folder);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const parent = path.dirname(folder);
    // Somebody else may have made it in the meantime.
    if (code === "EEXIST" && (await fs.stat(folder)).isDirectory()) return;
    if (code !== "ENOENT" || parent === folder || (await fs.stat(parent).catch(() => null))) throw error;
    await makeFolder(parent);
    await makeFolder(folder);
  }
}
