/**
 * The hub in a web page: downloads are kept in the origin's private file system, where they outlive the page. A file is
 * stored in parts, because only closed files survive a closed tab: what was loaded before it goes on from its last part.
 */

import { explainInBrowser } from "../runtime/browser-errors.ts";
import { UserError } from "../runtime/errors.ts";
import type { Files } from "../runtime/files.ts";
import { locked, takeLock } from "../runtime/locks.ts";
import { blobFile, type OpenFile } from "../runtime/open.ts";
import { privateRoot } from "../runtime/opfs.ts";
import { addBlob, hasher } from "../runtime/sha256.ts";
import { makeRoom } from "../runtime/storage-room.ts";
import type { Download, HubStore, Repo } from "./hub-store.ts";

const PART = 16 << 20;

/**
 * The store of this origin, e.g. `resolveModel(repo, "model", { store: await browserStore() })`. Before its first large download it
 * asks the browser to keep files until somebody deletes them.
 * @throws UserError where the browser keeps no files
 */
export async function browserStore(): Promise<HubStore & { files: Files }> {
  const root = await privateRoot();
  const store = directoryStore(await root.getDirectoryHandle("webrlhf-hub", { create: true }));
  return { ...store, reserve: makeRoom };
}

/** A store in any directory that a page may write to. Its `files` read what is stored. */
export function directoryStore(root: FileSystemDirectoryHandle): HubStore & { files: Files } {
  const rootOf = ({ kind, id }: Pick<Repo, "kind" | "id">) => `${kind}--${id.replaceAll("/", "--")}`;
  const folder = (repo: Repo, commit: string) => `${rootOf(repo)}/snapshots/${commit}`;
  const names = (path: string) => readJson(root, `${path}.json`);
  // Read, changed and written by one page at a time, or names that two pages add would get lost.
  const addName = (file: string, name: string, value: string) =>
    locked(`webrlhf hub ${root.name}/${file}`, async () =>
      writeJson(root, file, { ...(await readJson(root, file)), [name]: value }),
    );
  const stored = async (path: string): Promise<Blob | null> => {
    const [, repo, commit, name] = /^([^/]+)\/snapshots\/([^/]+)\/(.+)$/.exec(path) ?? [];
    if (repo === undefined) return null;
    const etag = (await names(`${repo}/snapshots/${commit}`))[name];
    const parts = etag && (await enter(root, `${repo}/blobs/${etag}`));
    return parts ? new Blob(await readParts(parts)) : null;
  };
  const bytesOf = async (blob: Blob | null) => blob && new Uint8Array(await blob.arrayBuffer());
  return {
    where: "this page's private files",
    folder,
    async commitOf(repo) {
      if (/^[0-9a-f]{40}$/.test(repo.revision)) {
        return Object.keys(await names(folder(repo, repo.revision))).length > 0 ? repo.revision : null;
      }
      const found = (await readJson(root, `${rootOf(repo)}/refs.json`))[repo.revision];
      return found ?? null;
    },
    writeCommit: (repo, commit) => addName(`${rootOf(repo)}/refs.json`, repo.revision, commit),
    names: async (repo, commit) => Object.keys(await names(folder(repo, commit))).sort(),
    read: async (repo, commit, name) => bytesOf(await stored(`${folder(repo, commit)}/${name}`)),
    hasBlob: async (repo, etag) => "size" in (await readJson(root, `${rootOf(repo)}/blobs/${etag}.json`)),
    async download(repo, etag, signal) {
      const release = await takeLock(`webrlhf hub ${root.name}/${rootOf(repo)}/${etag}`, true, signal);
      try {
        const blobs = await enter(root, `${rootOf(repo)}/blobs`, true);
        return await openDownload(blobs as FileSystemDirectoryHandle, etag, release);
      } catch (error) {
        release();
        throw error;
      }
    },
    link: (repo, commit, name, etag) => addName(`${folder(repo, commit)}.json`, name, etag),
    files: readOnly(
      async (path) => bytesOf(await stored(path)),
      async (path) => {
        const blob = await stored(path);
        return blob && blobFile(blob);
      },
      async (path) => {
        const [, commit, inner = ""] = /^([^/]+\/snapshots\/[^/]+)\/?(.*)$/.exec(path) ?? [];
        if (commit === undefined) return [];
        const inside = Object.keys(await names(commit)).filter((name) => inner === "" || name.startsWith(`${inner}/`));
        return [...new Set(inside.map((name) => name.slice(inner === "" ? 0 : inner.length + 1).split("/")[0]))].sort();
      },
    ),
  };
}

/**
 * Parts lie in a folder "<hash>"; once the file is whole, "<hash>.json" beside it says so.
 * @param release lets other pages have it
 */
async function openDownload(blobs: FileSystemDirectoryHandle, etag: string, release: () => void): Promise<Download> {
  const parts = await blobs.getDirectoryHandle(etag, { create: true });
  const there = await readParts(parts);
  let size = there.reduce((sum, part) => sum + part.size, 0);
  let next = there.length;
  let waiting: Uint8Array<ArrayBuffer>[] = [];
  let held = 0;
  const flush = async () => {
    if (held === 0) return;
    await write(parts, partName(next++), new Blob(waiting));
    [waiting, held] = [[], 0];
  };
  return {
    get size() {
      return size;
    },
    async write(bytes) {
      waiting.push(bytes.slice());
      held += bytes.length;
      size += bytes.length;
      if (held >= PART) await flush();
    },
    async restart() {
      for (let i = 0; i < next; i++) await parts.removeEntry(partName(i));
      [waiting, held, size, next] = [[], 0, 0, 0];
    },
    async hash(kind) {
      await flush();
      const hash = await hasher(kind === "sha256" ? "sha256" : "sha1");
      if (kind === "git-sha1") hash.add(`blob ${size}\0`);
      for (const part of await readParts(parts)) await addBlob(hash, part);
      return hash.end();
    },
    async finish() {
      await flush();
      await write(blobs, `${etag}.json`, new Blob([JSON.stringify({ size, parts: next })]));
      release();
    },
    leave: () => flush().finally(release),
  };
}

const partName = (i: number) => String(i).padStart(6, "0");

async function readParts(folder: FileSystemDirectoryHandle): Promise<File[]> {
  const parts: File[] = [];
  for (;;) {
    const handle = await folder.getFileHandle(partName(parts.length)).catch(absent);
    if (!handle) return parts;
    parts.push(await handle.getFile());
  }
}

async function write(folder: FileSystemDirectoryHandle, name: string, content: Blob): Promise<void> {
  const handle = await folder.getFileHandle(name, { create: true });
  const stream = await handle.createWritable();
  try {
    await stream.write(content);
    await stream.close();
  } catch (error) {
    await stream.abort().catch(() => {});
    throw await explainInBrowser(error, "write", "a download", content.size);
  }
}

/** A folder by its path, or null where there is none and it is not to be made. */
async function enter(
  root: FileSystemDirectoryHandle,
  path: string,
  create = false,
): Promise<FileSystemDirectoryHandle | null> {
  let folder: FileSystemDirectoryHandle | null = root;
  for (const name of path.split("/").filter((part) => part !== "")) {
    folder = folder && (await folder.getDirectoryHandle(name, { create }).catch(absent));
  }
  return folder;
}

async function readJson(root: FileSystemDirectoryHandle, path: string): Promise<Record<string, string>> {
  const cut = path.lastIndexOf("/");
  const folder = await enter(root, path.slice(0, cut));
  const handle = await folder?.getFileHandle(path.slice(cut + 1)).catch(absent);
  if (!handle) return {};
  try {
    return JSON.parse(await (await handle.getFile()).text());
  } catch {
    return {}; // half written by a page that was closed
  }
}

async function writeJson(root: FileSystemDirectoryHandle, path: string, value: Record<string, string>): Promise<void> {
  const cut = path.lastIndexOf("/");
  const folder = (await enter(root, path.slice(0, cut), true)) as FileSystemDirectoryHandle;
  await write(folder, path.slice(cut + 1), new Blob([JSON.stringify(value)]));
}

function absent(error: Error): null {
  if (error.name === "NotFoundError" || error.name === "TypeMismatchError") return null;
  throw error;
}

function readOnly(
  read: (path: string) => Promise<Uint8Array | null>,
  open: (path: string) => Promise<OpenFile | null>,
  list: (path: string) => Promise<string[]>,
): Files {
  const refuse = async (path: string): Promise<never> => {
    throw new UserError(`${path}: the store of downloads is not written to`);
  };
  return {
    read,
    open,
    list,
    writeFile: refuse,
    writeFiles: refuse,
    writeFolder: refuse,
    append: refuse,
    remove: refuse,
  };
}
