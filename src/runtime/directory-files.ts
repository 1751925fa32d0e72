/**
 * Files in a folder that a browser gives a page: one that somebody picked, or one of the origin's private file system.
 * A browser renames files in one step, but folders not at all: a new version of a folder is first written beside it, then
 * declared whole, then moved in file by file. Whoever finds a version that is whole and whose writer is gone moves on.
 */
import { explainInBrowser } from "./browser-errors.ts";
import { UserError } from "./errors.ts";
import { absent, addTo, type Folder, fileIn, fill, folderIn, moveAll, moveFile, removeFrom } from "./file-handles.ts";
import { checkName, type FileContent, type Files, PARTIAL } from "./files.ts";
import { innerPath } from "./inner-path.ts";
import { takeLock } from "./locks.ts";
import { blobFile } from "./open.ts";
import { thisWriter, type Writer } from "./writers.ts";

/**
 * Files in a folder that somebody picked with `showDirectoryPicker({ mode: "readwrite" })`. Paths are inside of it ("run/a");
 * none leads out. Reading works without the permission to write. Two pages do not write to one folder at a time where they
 * `claim` it.
 */
export const directoryFiles = (folder: FileSystemDirectoryHandle): Files => filesIn(folder, `picked ${folder.name}`);

/**
 * The same for one writer.
 * @param place names the folder among those of this origin: runs are claimed by it
 */
export function filesIn(root: Folder, place: string, writer: Writer = thisWriter()): Files {
  const settled = new Map<string, Promise<void>>();
  let publishing: Promise<unknown> = Promise.resolve();
  const appending = new Map<string, Promise<void>>();

  /** Moves a folder's whole version, or none for a deleted one, to its place; goes on where that broke off. */
  const publish = async (parent: Folder, name: string, version: string) => {
    if (!(await fileIn(parent, version + CLEARED))) {
      await removeFrom(parent, name);
      await parent.getFileHandle(version + CLEARED, { create: true });
    }
    const from = await folderIn(parent, version);
    if (from) {
      await moveAll(from, await parent.getDirectoryHandle(name, { create: true }));
      await removeFrom(parent, version);
    }
    // In this order: a version that is whole and not cleared would delete the folder once more.
    await removeFrom(parent, version + WHOLE);
    await removeFrom(parent, version + CLEARED);
  };
  const publishNew = (parent: Folder, name: string, version: string) => {
    const published = publishing.then(async () => {
      await parent.getFileHandle(version + WHOLE, { create: true });
      await publish(parent, name, version);
    });
    publishing = published.catch(() => {});
    return published;
  };

  /** Finishes or removes what writers that are gone left in a folder. */
  const settle = async (folder: Folder) => {
    const names: string[] = [];
    for await (const name of folder.keys()) if (name.includes(PARTIAL)) names.push(name);
    for (const found of names) {
      const [, version, name, id] = VERSION.exec(found) ?? [];
      if (version === undefined || writer.writing.has(version)) continue;
      if (id !== writer.id && (await writer.isAlive(id))) continue;
      if (await fileIn(folder, version + WHOLE)) await publish(folder, name, version);
      else for (const left of [version, version + CLEARED]) await removeFrom(folder, left);
    }
  };
  const settleOnce = (key: string, folder: Folder): Promise<void> => {
    const done =
      settled.get(key) ??
      settle(folder).catch((error: Error) => {
        settled.delete(key);
        if (error.name !== "NotAllowedError") throw error; // a folder that may only be read
      });
    settled.set(key, done);
    return done;
  };

  /** The folder with these parts, or null where there is none and it is not to be made. */
  const enter = async (parts: readonly string[], create = false): Promise<Folder | null> => {
    await publishing;
    let folder: Folder | null = root;
    await settleOnce("", root);
    for (const [i, name] of parts.entries()) {
      folder = await folder.getDirectoryHandle(name, { create }).catch(create ? undefined : absent);
      if (!folder) return null;
      await settleOnce(parts.slice(0, i + 1).join("/"), folder);
    }
    return folder;
  };
  const placeOf = async (path: string): Promise<{ parent: Folder; name: string }> => {
    const parts = innerPath(path);
    const name = parts.pop();
    if (name === undefined)
      throw new UserError(`${JSON.stringify(path)} is the whole folder: name a file or folder in it`);
    return { parent: (await enter(parts, true)) as Folder, name };
  };
  const find = async (path: string): Promise<File | null> => {
    const parts = innerPath(path);
    const name = parts.pop();
    const parent = name === undefined ? null : await enter(parts);
    const handle = parent && name !== undefined ? await fileIn(parent, name) : null;
    return handle && (await handle.getFile());
  };
  const inWords = async <T>(
    verb: "read" | "write" | "delete",
    path: string,
    run: () => Promise<T>,
    needed?: number,
  ) => {
    try {
      return await run();
    } catch (error) {
      throw await explainInBrowser(error, verb, path, needed);
    }
  };

  const files: Files = {
    read: (path) =>
      inWords("read", path, async () => {
        const file = await find(path);
        return file && new Uint8Array(await file.arrayBuffer());
      }),
    open: (path) =>
      inWords("read", path, async () => {
        const file = await find(path);
        if (!file) return null;
        const { size, read, close } = blobFile(file);
        return { size, close, read: (at, length) => inWords("read", path, () => read(at, length)) };
      }),
    writeFile: (path, content) => inWords("write", path, () => writeAll([[path, content]]), sizeOf([content])),
    async writeFiles(path, contents) {
      const all = Object.entries(contents).map(([name, content]): [string, FileContent] => {
        checkName(name);
        return [`${path}/${name}`, content];
      });
      return inWords("write", path, () => writeAll(all), sizeOf(Object.values(contents)));
    },
    writeFolder: (path, contents) =>
      inWords(
        "write",
        path,
        async () => {
          const { parent, name } = await placeOf(path);
          const version = await writer.begin(`${name}${PARTIAL}`);
          try {
            const folder = await parent.getDirectoryHandle(version, { create: true });
            for (const [inner, content] of Object.entries(contents)) {
              checkName(inner);
              const [last, sub] = inner.split("/").reverse();
              const into = sub === undefined ? folder : await folder.getDirectoryHandle(sub, { create: true });
              await fill(await into.getFileHandle(last, { create: true }), content);
            }
            await publishNew(parent, name, version);
          } catch (error) {
            if (!(await fileIn(parent, version + WHOLE))) await removeFrom(parent, version);
            throw error;
          } finally {
            writer.writing.delete(version);
            forget(path);
          }
        },
        sizeOf(Object.values(contents)),
      ),
    append(path, content) {
      const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content.slice();
      const added = (appending.get(path) ?? Promise.resolve())
        .catch(() => {}) // who added that heard of it
        .then(() =>
          inWords("write", path, async () => {
            const { parent, name } = await placeOf(path);
            await addTo(await parent.getFileHandle(name, { create: true }), bytes);
          }),
        )
        .finally(() => {
          if (appending.get(path) === added) appending.delete(path);
        });
      appending.set(path, added);
      return added;
    },
    list: (path) =>
      inWords("read", path, async () => {
        const folder = await enter(innerPath(path));
        const names: string[] = [];
        if (folder) for await (const name of folder.keys()) names.push(name);
        return names.sort();
      }),
    remove: (path) =>
      inWords("delete", path, async () => {
        const parts = innerPath(path);
        const parent = await enter(parts.slice(0, -1));
        const name = parts.at(-1);
        if (name === undefined) throw new UserError("the whole folder is not deleted: name a file or folder in it");
        if (!parent) return;
        if (name.includes(PARTIAL) || !(await folderIn(parent, name))) return removeFrom(parent, name);
        const version = await writer.begin(`${name}${PARTIAL}`);
        try {
          await publishNew(parent, name, version);
        } finally {
          writer.writing.delete(version);
          forget(path);
        }
      }),
    claim: async (path) => claim(`${place}/${innerPath(path).join("/")}`, path, () => clear(innerPath(path))),
  };

  /** Writes every file under another name, then moves all of them. */
  async function writeAll(all: readonly (readonly [path: string, content: FileContent])[]): Promise<void> {
    const written: { parent: Folder; name: string; version: string }[] = [];
    try {
      for (const [path, content] of all) {
        const { parent, name } = await placeOf(path);
        const version = await writer.begin(`${name}${PARTIAL}`);
        written.push({ parent, name, version });
        await fill(await parent.getFileHandle(version, { create: true }), content);
      }
      for (const { parent, name, version } of written) {
        await moveFile(await parent.getFileHandle(version), parent, version, parent, name);
      }
    } catch (error) {
      for (const { parent, version } of written) await removeFrom(parent, version).catch(() => {});
      throw error;
    } finally {
      for (const { version } of written) writer.writing.delete(version);
    }
  }

  /** A folder that was replaced or deleted may come to hold leftovers that were not looked at. */
  function forget(path: string): void {
    const key = innerPath(path).join("/");
    for (const known of settled.keys()) if (known === key || known.startsWith(`${key}/`)) settled.delete(known);
    settled.delete(innerPath(path).slice(0, -1).join("/")); // where a version may have broken off
  }

  /** What killed writers left beside and in a folder, some levels deep: runs have folders in theirs. */
  async function clear(parts: readonly string[]): Promise<void> {
    settled.clear();
    const inside = async (path: readonly string[], depth: number): Promise<void> => {
      const folder = await enter(path);
      const names: string[] = [];
      if (folder && depth > 0)
        for await (const [name, handle] of folder.entries()) if (handle.kind === "directory") names.push(name);
      for (const name of names) await inside([...path, name], depth - 1);
    };
    await inside(parts, 3);
  }
  return files;
}

const WHOLE = ".whole";
const CLEARED = ".cleared";
/** A version that is being written of a file or folder, by which writer, or what is known of it. */
const VERSION = new RegExp(`^((.+)\\${PARTIAL}([a-z0-9]+)-\\d+)(?:\\${WHOLE}|\\${CLEARED})?$`);

/** Takes a run's folder until the returned function is called, or its page is closed. */
async function claim(name: string, path: string, clear: () => Promise<void>): Promise<() => Promise<void>> {
  const release = await takeLock(`webrlhf run ${name}`, false);
  if (!release) {
    throw new UserError(
      `${path}: another run, perhaps in another tab, is writing here: wait for it, or choose another output folder`,
    );
  }
  try {
    await clear();
  } catch (error) {
    release();
    throw await explainInBrowser(error, "write", path);
  }
  return async () => release();
}

/** Bytes that are to be written, where that is known before. */
function sizeOf(contents: readonly FileContent[]): number | undefined {
  let sum = 0;
  for (const content of contents) {
    if (typeof content !== "string" && !(content instanceof Uint8Array)) return undefined;
    sum += content.length;
  }
  return sum;
}
