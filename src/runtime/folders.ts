/** Making folders on disk. */
import fs from "node:fs/promises";
import path from "node:path";

/**
 * Makes a folder and those that it lies in, where they are missing. (Node's own way to do so never comes back from a file
 * system that denies having its own folders, as /proc does.)
 */
export async function makeFolder(folder: string): Promise<void> {
  if (await isFolder(folder)) return;
  try {
    await makeOne(folder);
  } catch (error) {
    const parent = path.dirname(folder);
    if ((error as NodeJS.ErrnoException).code !== "ENOENT" || parent === folder) throw error;
    // Somebody else may make the parent at the same time, or have made it since: what counts is the second try.
    await makeFolder(parent);
    await makeOne(folder);
  }
}

async function makeOne(folder: string): Promise<void> {
  await fs.mkdir(folder).catch(async (error: NodeJS.ErrnoException) => {
    if (error.code !== "EEXIST" || !(await isFolder(folder))) throw error;
  });
}

const isFolder = (folder: string): Promise<boolean> =>
  fs.stat(folder).then(
    (info) => info.isDirectory(),
    () => false,
  );
