/**
 * Files as the rest of the project sees them: whole reads, and writes that either happen completely or not at all. Node
 * and Deno use the disk; a browser page keeps them in memory.
 */
import { UserError } from "./errors.ts";
import { explain } from "./file-errors.ts";
import { joinedBytes } from "./joined-bytes.ts";
import { LONGEST_JSON, readJson } from "./json.ts";
import { bytesFile, hasDisk, type OpenFile, openFile } from "./open.ts";

/** The content of a file: all of it, or its pieces as they come, for files that should not be in memory at once. */
export type FileContent = Uint8Array | string | AsyncIterable<Uint8Array>;

/** A place for files: a disk, memory, or a browser's private storage. */
export interface Files {
  /** The file's bytes, or null if there is no such file. */
  read(path: string): Promise<Uint8Array | null>;
  /** Opens a file for reading at any offset, or gives null if there is no such file. The caller closes it. */
  open(path: string): Promise<OpenFile | null>;
  /** Replaces a file: written under a temporary name, synced, renamed. What killed writers of it left goes, too. */
  writeFile(path: string, content: FileContent): Promise<void>;
  /** Replaces these files of a folder and leaves its other ones; none is replaced before all are written. */
  writeFiles(path: string, files: Record<string, FileContent>): Promise<void>;
  /** Replaces a folder by one with exactly these files ("name" or "subfolder/name"), likewise. */
  writeFolder(path: string, files: Record<string, FileContent>): Promise<void>;
  /** Adds to the end of a file. */
  append(path: string, content: string | Uint8Array): Promise<void>;
  /** Names in a folder, sorted; empty if there is no such folder. */
  list(path: string): Promise<string[]>;
  /** Deletes a file or folder, if it is there. Nobody sees a folder of which a part is deleted. */
  remove(path: string): Promise<void>;
  /** Brings to the disk what was added to a file. Absent where nothing can be lost on the way. */
  sync?(path: string): Promise<void>;
  /** The one name of a file or folder, links followed. Absent where paths have no second names. */
  real?(path: string): Promise<string>;
  /** True where paths are URLs: nothing but writes of its own can be listed, and names are known by their look. */
  readonly served?: boolean;
  /**
   * Takes a folder for one writer until the returned function is called, and clears what killed writers left in it. Throws a
   * UserError where another run has it. Absent where no other process comes.
   */
  claim?(folder: string): Promise<() => Promise<void>>;
  /** Who has a folder, and whether that process is alive: null of another machine's; null where nobody has it. Absent as `claim`. */
  holder?(folder: string): Promise<{ readonly host: string; readonly alive: boolean | null } | null>;
}

/** The part of a folder name that marks an unfinished write; such names are never read. */
export const PARTIAL = ".partial-";
export const isPartial = (name: string): boolean => name.includes(PARTIAL);

/**
 * Files on disk (Node and Deno).
 * @throws UserError in a browser page
 */
export async function diskFiles(): Promise<Files> {
  if (!hasDisk)
    throw new UserError("a browser page has no disk: use opfsFiles(), memoryFiles(), or browserStore() for downloads");
  const fs = await import("node:fs/promises");
  const { basename, dirname, join } = await import("node:path");
  const { makeFolder } = await import("./folders.ts");
  const { claim, clearVersions, holder } = await import("./claim.ts");

  const writeSynced = async (path: string, content: FileContent) => {
    const handle = await fs.open(path, "w");
    try {
      if (typeof content === "string" || content instanceof Uint8Array) await handle.writeFile(content);
      else for await (const piece of content) await handle.writeFile(piece); // goes on where the last one ended
      await handle.sync();
    } finally {
      await handle.close();
    }
  };
  const real = (path: string): Promise<string> =>
    fs
      .realpath(path)
      .catch(async () => (dirname(path) === path ? path : join(await real(dirname(path)), basename(path))));
  const syncFolder = async (path: string) => {
    const handle = await fs.open(path, "r").catch(() => null); // some platforms cannot open folders
    await handle?.sync().catch(() => {});
    await handle?.close();
  };
  const failed = async (error: unknown, path: string, temporary: string): Promise<Error> => {
    await fs.rm(temporary, { recursive: true, force: true }).catch(() => {});
    return explain(error, "write", path);
  };
  /** Runs `write` on a temporary name and renames it into place; leaves nothing behind on failure. */
  const replace = async (path: string, write: (temporary: string) => Promise<void>) => {
    const temporary = `${path}${PARTIAL}${process.pid}`;
    try {
      await makeFolder(dirname(path));
      await clearVersions(path);
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
      throw await failed(error, path, temporary);
    }
  };
  const writeInto = async (folder: string, files: Record<string, FileContent>) => {
    await fs.rm(folder, { recursive: true, force: true });
    await makeFolder(folder);
    for (const [name, content] of Object.entries(files)) {
      checkName(name);
      await makeFolder(dirname(join(folder, name)));
      await writeSynced(join(folder, name), content);
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
    async open(path) {
      const there = await fs.stat(path).catch(() => null);
      return there ? openFile(path) : null;
    },
    writeFile: (path, content) => replace(path, (temporary) => writeSynced(temporary, content)),
    async writeFiles(path, files) {
      const temporary = join(path, `${PARTIAL}${process.pid}`);
      try {
        await writeInto(temporary, files);
        for (const name of Object.keys(files)) {
          await makeFolder(dirname(join(path, name)));
          await fs.rename(join(temporary, name), join(path, name));
        }
        await fs.rm(temporary, { recursive: true });
        await syncFolder(path);
      } catch (error) {
        throw await failed(error, path, temporary);
      }
    },
    writeFolder: (path, files) =>
      replace(path, async (temporary) => {
        await writeInto(temporary, files);
        await syncFolder(temporary);
      }),
    async append(path, content) {
      try {
        await makeFolder(dirname(path));
        await fs.appendFile(path, content);
      } catch (error) {
        throw explain(error, "write", path);
      }
    },
    list: (path) =>
      fs.readdir(path).then(
        (names) => names.sort(),
        () => [],
      ),
    async remove(path) {
      const info = await fs.lstat(path).catch(() => null);
      const aside = `${path}${PARTIAL}old-${process.pid}`;
      const moved =
        info?.isDirectory() &&
        !isPartial(path) &&
        (await fs.rename(path, aside).then(
          () => true,
          () => false,
        ));
      await fs.rm(moved ? aside : path, { recursive: true, force: true });
    },
    async sync(path) {
      const handle = await fs.open(path, "r+").catch(() => null);
      await handle?.sync().finally(() => handle.close());
    },
    real,
    claim,
    holder,
  };
}

/**
 * Files in memory, for browsers and tests.
 * @param store where they are, by path. Contents are replaced, never changed.
 */
export function memoryFiles(store: Map<string, Uint8Array> = new Map()): Files {
  const collect = async (path: string, files: Record<string, FileContent>) => {
    const written: [string, Uint8Array][] = [];
    for (const [name, content] of Object.entries(files)) {
      checkName(name);
      written.push([`${path}/${name}`, await bytesOf(content)]);
    }
    return written;
  };
  const remove = (path: string) => {
    for (const name of store.keys()) if (name === path || name.startsWith(`${path}/`)) store.delete(name);
  };
  return {
    read: async (path) => store.get(path) ?? null,
    open: async (path) => {
      const content = store.get(path);
      return content ? bytesFile(content) : null;
    },
    writeFile: async (path, content) => void store.set(path, await bytesOf(content)),
    writeFiles: async (path, files) => {
      for (const [name, content] of await collect(path, files)) store.set(name, content);
    },
    writeFolder: async (path, files) => {
      const written = await collect(path, files);
      remove(path);
      for (const [name, content] of written) store.set(name, content);
    },
    append: async (path, content) => {
      const added = typeof content === "string" ? new TextEncoder().encode(content) : content; // nothing is awaited here, so that no other addition is lost
      store.set(path, joinedBytes([store.get(path) ?? new Uint8Array(), added]));
    },
    list: async (path) => namesIn(path, store.keys()),
    remove: async (path) => remove(path),
  };
}

/** Names of the files and folders directly in a folder, sorted, when these are all files. */
export function namesIn(path: string, all: Iterable<string>): string[] {
  const inside = [...all].filter((name) => name.startsWith(`${path}/`));
  return [...new Set(inside.map((name) => name.slice(path.length + 1).split("/")[0]))].sort();
}

/** Throws where a name is not "name" or "subfolder/name". */
export function checkName(name: string): void {
  if (!/^[\w-][\w.-]*(\/[\w-][\w.-]*)?$/.test(name)) {
    throw new Error(`a file in a folder cannot be called ${JSON.stringify(name)}`);
  }
}

/** A copy of the content, in one piece. */
async function bytesOf(content: FileContent): Promise<Uint8Array> {
  if (typeof content === "string") return new TextEncoder().encode(content);
  if (content instanceof Uint8Array) return content.slice();
  const pieces: Uint8Array[] = [];
  for await (const piece of content) pieces.push(piece);
  return joinedBytes(pieces);
}

/** Reads a file that must be there. */
export async function readNeeded(files: Files, path: string, what: string): Promise<Uint8Array> {
  const found = await files.read(path);
  if (!found) throw new UserError(`${path} is missing: ${what}`);
  return found;
}

/** Parses a JSON file. */
export function parseJson<T = Record<string, unknown>>(content: Uint8Array, path: string): T {
  if (content.length > LONGEST_JSON) {
    throw new UserError(
      `${path} has ${content.length} bytes, more than the ${LONGEST_JSON} of the largest JSON file read`,
    );
  }
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(content);
  } catch {
    throw new UserError(`${path} is not valid JSON: it is not UTF-8`);
  }
  return readJson(text, path) as T;
}
