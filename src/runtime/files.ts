/**
 * Files as the rest of the project sees them: whole reads, and writes that either happen completely or not at all. Node
 * and Deno use the disk; a browser page keeps them in memory.
 */
import { UserError } from "./errors.ts";

export type FileContent = Uint8Array | string;

export interface Files {
  /** The file's bytes, or null if there is no such file. */
  read(path: string): Promise<Uint8Array | null>;
  /** Replaces a file: written under a temporary name, synced, renamed. */
  writeFile(path: string, content: FileContent): Promise<void>;
  /** Replaces a folder by one with exactly these files ("name" or "subfolder/name"), likewise. */
  writeFolder(path: string, files: Record<string, FileContent>): Promise<void>;
  /** Adds to the end of a file. */
  append(path: string, text: string): Promise<void>;
  /** Names in a folder, sorted; empty if there is no such folder. */
  list(path: string): Promise<string[]>;
  /** Deletes a file or folder, if it is there. */
  remove(path: string): Promise<void>;
}

/** The part of a folder name that marks an unfinished write; such names are never read. */
const PARTIAL = ".partial-";
export const isPartial = (name: string): boolean => name.includes(PARTIAL);

/** Files on disk (Node and Deno). */
export async function diskFiles(): Promise<Files> {
  const fs = await import("node:fs/promises");
  const { dirname, join } = await import("node:path");

  const writeSynced = async (path: string, content: FileContent) => {
    const handle = await fs.open(path, "w");
    try {
      await handle.writeFile(content);
      await handle.sync();
    } finally {
      await handle.close();
    }
  };
  const syncFolder = async (path: string) => {
    const handle = await fs.open(path, "r").catch(() => null); // some platforms cannot open folders
    await handle?.sync().catch(() => {});
    await handle?.close();
  };
  /** Runs `write` on a temporary name and renames it into place; leaves nothing behind on failure. */
  const replace = async (path: string, write: (temporary: string) => Promise<void>) => {
    const temporary = `${path}${PARTIAL}${process.pid}`;
    try {
      await fs.mkdir(dirname(path), { recursive: true });
      await write(temporary);
      try {
        await fs.rename(temporary, path);
      } catch (error) {
        // A folder cannot replace a folder that has files in it: move the old one aside first.
        if (!["ENOTEMPTY", "EEXIST"].includes((error as NodeJS.ErrnoException).code ?? "")) throw error;
        const old = `${path}${PARTIAL}old-${process.pid}`;
        await fs.rename(path, old);
        await fs.rename(temporary, path);
        await fs.rm(old, { recursive: true, force: true });
      }
      await syncFolder(dirname(path));
    } catch (error) {
      await fs.rm(temporary, { recursive: true, force: true }).catch(() => {});
      throw explain(error, "write", path);
    }
  };

  return {
    async read(path) {
      try {
        return await fs.readFile(path);
      } catch (error) {
        if (["ENOENT", "ENOTDIR"].includes((error as NodeJS.ErrnoException).code ?? "")) return null;
        throw explain(error, "read", path);
      }
    },
    writeFile: (path, content) => replace(path, (temporary) => writeSynced(temporary, content)),
    writeFolder: (path, files) =>
      replace(path, async (temporary) => {
        await fs.rm(temporary, { recursive: true, force: true });
        await fs.mkdir(temporary);
        for (const [name, content] of Object.entries(files)) {
          if (!/^[\w-][\w.-]*(\/[\w-][\w.-]*)?$/.test(name)) {
            throw new Error(`a file in a folder cannot be called ${JSON.stringify(name)}`);
          }
          await fs.mkdir(dirname(join(temporary, name)), { recursive: true });
          await writeSynced(join(temporary, name), content);
        }
        await syncFolder(temporary);
      }),
    async append(path, text) {
      try {
        await fs.mkdir(dirname(path), { recursive: true });
        await fs.appendFile(path, text);
      } catch (error) {
        throw explain(error, "write", path);
      }
    },
    list: (path) =>
      fs.readdir(path).then(
        (names) => names.sort(),
        () => [],
      ),
    remove: (path) => fs.rm(path, { recursive: true, force: true }),
  };
}

/** Files in memory, for browsers and tests. */
export function memoryFiles(): Files {
  const store = new Map<string, Uint8Array>();
  const bytes = (content: FileContent) =>
    typeof content === "string" ? new TextEncoder().encode(content) : content.slice();
  const remove = (path: string) => {
    for (const name of store.keys()) if (name === path || name.startsWith(`${path}/`)) store.delete(name);
  };
  return {
    read: async (path) => store.get(path) ?? null,
    writeFile: async (path, content) => void store.set(path, bytes(content)),
    writeFolder: async (path, files) => {
      remove(path);
      for (const [name, content] of Object.entries(files)) store.set(`${path}/${name}`, bytes(content));
    },
    append: async (path, text) => {
      const before = store.get(path) ?? new Uint8Array();
      const more = bytes(text);
      const joined = new Uint8Array(before.length + more.length);
      joined.set(before);
      joined.set(more, before.length);
      store.set(path, joined);
    },
    list: async (path) => {
      const inside = [...store.keys()].filter((name) => name.startsWith(`${path}/`));
      return [...new Set(inside.map((name) => name.slice(path.length + 1).split("/")[0]))].sort();
    },
    remove: async (path) => remove(path),
  };
}

/** Reads a file that must be there. */
export async function readNeeded(files: Files, path: string, what: string): Promise<Uint8Array> {
  const found = await files.read(path);
  if (!found) throw new UserError(`${path} is missing: ${what}`);
  return found;
}

/** Parses a JSON file. */
export function parseJson<T = Record<string, unknown>>(content: Uint8Array, path: string): T {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(content)) as T;
  } catch (error) {
    throw new UserError(`${path} is not valid JSON: ${(error as Error).message}`);
  }
}

function explain(error: unknown, verb: string, path: string): Error {
  const reasons: Record<string, string> = {
    ENOSPC: "the disk is full: free some space and resume",
    EDQUOT: "the disk quota is used up: free some space and resume",
    EACCES: "permission denied",
    EROFS: "the file system is read-only",
    EISDIR: "it is a folder",
    ENOTDIR: "a part of the path is not a folder",
  };
  const reason = reasons[(error as NodeJS.ErrnoException).code ?? ""];
  return reason ? new UserError(`cannot ${verb} ${path}: ${reason}`, { cause: error }) : (error as Error);
}
