/**
 * The standard Hugging Face cache on disk, in the layout that Python's huggingface_hub reads and writes:
 * `models--org--name/{blobs/<hash>, refs/<revision>, snapshots/<commit>/<file> -> blob}`.
 */
import { randomBytes } from "node:crypto";
import fs from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { makeFolder } from "./folders.ts";
import { openFile } from "./open.ts";
import { hasher, hashOpened } from "./sha256.ts";
import { systemError } from "./system-errors.ts";

interface Repo {
  kind: "models" | "datasets";
  id: string;
  revision: string;
}

/** What the environment says about the hub. */
export interface HubEnvironment {
  /** Folder of the cache. */
  cache: string;
  offline: boolean;
  endpoint: string | undefined;
  token: string | null;
}

const isOn = (value: string | undefined) => /^(1|on|yes|true)$/i.test(value ?? "");

/** Reads HF_HUB_CACHE, HUGGINGFACE_HUB_CACHE, HF_HOME, XDG_CACHE_HOME, HF_HUB_OFFLINE, HF_ENDPOINT, HF_TOKEN and the token file. */
export async function hubEnvironment(env: Record<string, string | undefined> = process.env): Promise<HubEnvironment> {
  const expand = (folder: string) => (folder.startsWith("~") ? path.join(os.homedir(), folder.slice(1)) : folder);
  const home = expand(env.HF_HOME || path.join(env.XDG_CACHE_HOME || path.join(os.homedir(), ".cache"), "huggingface"));
  const file = expand(env.HF_TOKEN_PATH || path.join(home, "token"));
  const saved = await fs.readFile(file, "utf8").catch(() => "");
  const token = (env.HF_TOKEN || env.HUGGING_FACE_HUB_TOKEN || saved).replaceAll(/[\r\n]/g, "").trim();
  return {
    cache: expand(env.HF_HUB_CACHE || env.HUGGINGFACE_HUB_CACHE || path.join(home, "hub")),
    offline: isOn(env.HF_HUB_OFFLINE) || isOn(env.TRANSFORMERS_OFFLINE),
    endpoint: env.HF_ENDPOINT || undefined,
    token: token === "" ? null : token,
  };
}

/** @param cache folder of the cache; it is made when something is written */
export function diskStore(cache: string) {
  const root = (repo: Repo) => path.join(cache, `${repo.kind}--${repo.id.replaceAll("/", "--")}`);
  const blob = (repo: Repo, etag: string) => path.join(root(repo), "blobs", etag);
  const folder = (repo: Repo, commit: string) => path.join(root(repo), "snapshots", commit);
  return {
    where: cache,
    folder,

    async commitOf(repo: Repo): Promise<string | null> {
      if (/^[0-9a-f]{40}$/.test(repo.revision))
        return (await exists(folder(repo, repo.revision))) ? repo.revision : null;
      const text = await fs.readFile(path.join(root(repo), "refs", repo.revision), "utf8").catch(() => "");
      return /^[0-9a-f]{40}$/.test(text.trim()) ? text.trim() : null;
    },

    async writeCommit(repo: Repo, commit: string): Promise<void> {
      if (repo.revision === commit) return;
      const file = path.join(root(repo), "refs", repo.revision);
      await make(path.dirname(file));
      await replaceWith(file, (temporary) => fs.writeFile(temporary, commit));
    },

    async names(repo: Repo, commit: string): Promise<string[]> {
      const found = await fs.readdir(folder(repo, commit), { recursive: true, withFileTypes: true }).catch(() => []);
      const names: string[] = [];
      for (const entry of found) {
        const file = path.join(entry.parentPath ?? entry.path, entry.name);
        // A link whose blob is gone is no file.
        const stat = await fs.stat(file).catch(() => null);
        if (stat?.isFile()) names.push(path.relative(folder(repo, commit), file).replaceAll(path.sep, "/"));
      }
      return names.sort();
    },

    read: (repo: Repo, commit: string, name: string): Promise<Uint8Array | null> =>
      fs.readFile(path.join(folder(repo, commit), name)).catch(() => null),

    hasBlob: (repo: Repo, etag: string): Promise<boolean> => exists(blob(repo, etag)),

    download: (repo: Repo, etag: string) => openDownload(blob(repo, etag)),

    async link(repo: Repo, commit: string, name: string, etag: string): Promise<void> {
      const file = path.join(folder(repo, commit), name);
      await make(path.dirname(file));
      const target = path.relative(path.dirname(file), blob(repo, etag));
      if ((await fs.readlink(file).catch(() => null)) === target) return;
      await replaceWith(file, async (temporary) => {
        await fs.symlink(target, temporary).catch((error: NodeJS.ErrnoException) => {
          // Windows lets few users make links.
          if (!["EPERM", "ENOSYS", "ENOTSUP", "EINVAL"].includes(error.code ?? "")) throw error;
          return fs.copyFile(blob(repo, etag), temporary);
        });
      });
    },
  };
}

/**
 * A blob that is being loaded. Until it is whole it is called `<hash>.incomplete`, as in Python; while a process works on
 * it, it carries the process's number as well, so that two processes never write into one file.
 */
async function openDownload(file: string) {
  const waiting = `${file}.incomplete`;
  const ours = `${file}.${process.pid}-${randomBytes(3).toString("hex")}.incomplete`;
  await make(path.dirname(file));
  for (const left of [waiting, ...(await abandoned(file))]) {
    if (
      await fs.rename(left, ours).then(
        () => true,
        () => false,
      )
    )
      break;
  }
  const handle = await fs.open(ours, "a+").catch((error) => {
    throw explain(error, ours);
  });
  let size = (await handle.stat()).size;
  let open = true;
  const close = async () => {
    if (open) await handle.close();
    open = false;
  };
  return {
    get size() {
      return size;
    },
    async write(bytes: Uint8Array): Promise<void> {
      for (let at = 0; at < bytes.length; ) {
        const { bytesWritten } = await handle.write(bytes, at).catch((error) => {
          throw explain(error, ours);
        });
        at += bytesWritten;
        size += bytesWritten;
      }
    },
    async restart(): Promise<void> {
      await handle.truncate(0);
      size = 0;
    },
    async hash(kind: "sha256" | "git-sha1"): Promise<string> {
      const hash = await hasher(kind === "sha256" ? "sha256" : "sha1");
      if (kind === "git-sha1") hash.add(`blob ${size}\0`);
      return hashOpened(await openFile(ours), hash);
    },
    async finish(): Promise<void> {
      await handle.sync();
      await close();
      await fs.rename(ours, file);
    },
    /** Also after `finish`, when there is nothing left to do. */
    async leave(): Promise<void> {
      await close();
      if (size > 0) await fs.rename(ours, waiting).catch(() => {});
      else await fs.rm(ours, { force: true });
    },
  };
}

/** What processes that are gone left of a blob. */
async function abandoned(file: string): Promise<string[]> {
  const names = await fs.readdir(path.dirname(file)).catch(() => []);
  return names.flatMap((name) => {
    const match = /^(.+)\.(\d+)-[0-9a-f]{6}\.incomplete$/.exec(name);
    if (!match || match[1] !== path.basename(file) || isRunning(Number(match[2]))) return [];
    return [path.join(path.dirname(file), name)];
  });
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

async function replaceWith(file: string, write: (temporary: string) => Promise<void>): Promise<void> {
  const temporary = `${file}.${process.pid}-${randomBytes(3).toString("hex")}.tmp`;
  try {
    await write(temporary);
    await fs.rename(temporary, file);
  } catch (error) {
    await fs.rm(temporary, { force: true });
    throw explain(error, file);
  }
}

async function make(folder: string): Promise<void> {
  await makeFolder(folder).catch((error) => {
    throw explain(error, folder);
  });
}

const exists = (file: string) =>
  fs.access(file).then(
    () => true,
    () => false,
  );

const elsewhere = "set HF_HOME to a folder you may write to";

const explain = (error: unknown, path: string): Error =>
  systemError(
    error,
    { verb: "write", path },
    {
      EACCES: `permission denied; ${elsewhere}`,
      EROFS: `the file system is read-only; ${elsewhere}`,
      ENOTDIR: "a part of the path is not a folder; set HF_HOME to another folder",
    },
  ) ?? (error as Error);
