/** Files with secrets, on disk. Node and Deno. */
import { randomUUID } from "node:crypto";
import { open, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { explain } from "./file-errors.ts";
import { makeFolder } from "./folders.ts";

/** Replaces a file by one that only its owner may read, from its first byte on. */
export async function writeSecret(path: string, text: string): Promise<void> {
  const temporary = `${path}.partial-${process.pid}-${randomUUID().slice(0, 8)}`;
  try {
    await makeFolder(dirname(path));
    const handle = await open(temporary, "wx", 0o600);
    try {
      await handle.writeFile(text);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw explain(error, "write", path);
  }
}
