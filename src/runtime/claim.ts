/** A folder on disk for one writer at a time. Node and Deno. */
import { randomUUID } from "node:crypto";
import { readFileSync, rmSync } from "node:fs";
import { link, open, readdir, readFile, rename, rm, rmdir, stat, unlink, writeFile } from "node:fs/promises";
import { hostname } from "node:os";
import { basename, dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { UserError } from "./errors.ts";
import { explain } from "./file-errors.ts";
import { makeFolder } from "./folders.ts";

/** The content of a lock. */
interface Holder {
  readonly pid: number;
  readonly host: string;
  /** When the process began, in the system's own count: process ids are used again. */
  readonly began: string | null;
  /** Tells locks of one process apart. */
  readonly id?: string;
}

const LOCK = ".running.json";

/** This process's own locks, by id. They go with it, unless it is killed. */
const held = new Map<string, string>();
let watched = false;

function giveBackAtExit(): void {
  if (watched) return;
  watched = true;
  process.once("exit", () => {
    for (const [id, path] of held) if (isHeldBy(path, id)) rmSync(path, { force: true });
  });
}

function isHeldBy(path: string, id: string): boolean {
  try {
    return readFileSync(path, "utf8").includes(id);
  } catch {
    return false;
  }
}

/**
 * Takes a folder until the returned function is called, and clears what killed writers left in it and, of it, beside it. A lock
 * whose process is gone does not count.
 * @throws UserError where another run has it
 */
export async function claim(folder: string): Promise<() => Promise<void>> {
  const existed = (await stat(folder).catch(() => null)) !== null;
  await makeFolder(folder).catch((error) => {
    throw explain(error, "write", folder);
  });
  const path = join(folder, LOCK);
  const id = randomUUID();
  const text = `${JSON.stringify({ pid: process.pid, host: hostname(), began: await began(process.pid), id })}\n`;
  giveBackAtExit();
  held.set(id, path);
  try {
    const holder = await take(path, text);
    if (holder) {
      throw new UserError(
        `${folder}: another run (process ${holder.pid}) is writing here: wait for it, or choose another output folder`,
      );
    }
  } catch (error) {
    held.delete(id);
    throw error;
  }
  await clear(folder);
  return async () => {
    held.delete(id);
    if ((await readFile(path, "utf8").catch(() => null)) === text) await unlink(path);
    if (!existed) await rmdir(folder).catch(() => {}); // a run that failed at once leaves no empty folder
  };
}

/** Who has a folder, by its lock; of another machine's process nothing can be known. Null where there is no lock. */
export async function holder(folder: string): Promise<{ host: string; alive: boolean | null } | null> {
  const text = await readFile(join(folder, LOCK), "utf8").catch(() => null);
  const found = text === null ? null : parsed(text);
  if (found === null) return null;
  const host = String(found.host);
  return { host, alive: host === hostname() ? await lives(found) : null };
}

/**
 * Makes the lock with this content, or gives its living holder. Who replaces a dead lock must first hold a lock named after it,
 * so that of several who find it dead only one replaces it, and only while it is still that dead one.
 */
async function take(path: string, text: string): Promise<Holder | null> {
  for (;;) {
    if (await create(path, text)) return null;
    const found = await read(path);
    if (found === null) continue; // given back in between
    const holder = parsed(found);
    if (holder && (await lives(holder))) return holder;
    const turn = `${path}.${holder?.id ?? "old"}`;
    const other = await take(turn, text);
    if (other) return other;
    if ((await read(path)) === found) {
      await rename(turn, path);
      return null;
    }
    await rm(turn, { force: true });
  }
}

/** Makes a file that is there with all its content or not at all, unless there is one. */
async function create(path: string, text: string): Promise<boolean> {
  const temporary = `${path}.partial-${process.pid}-${randomUUID().slice(0, 8)}`;
  try {
    await writeFile(temporary, text);
    await link(temporary, path);
    return true;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    // A rival that has the folder by now clears away what was to become this lock.
    if (code === "EEXIST" || code === "ENOENT") return false;
    if (code !== "EPERM" && code !== "ENOTSUP" && code !== "ENOSYS" && code !== "EOPNOTSUPP")
      throw explain(error, "write", path);
    return createOpenly(path, text); // a file system without links
  } finally {
    await rm(temporary, { force: true });
  }
}

async function createOpenly(path: string, text: string): Promise<boolean> {
  const file = await open(path, "wx").catch((error: NodeJS.ErrnoException) => {
    if (error.code === "EEXIST") return null;
    throw explain(error, "write", path);
  });
  await file?.writeFile(text).finally(() => file.close());
  return file !== null;
}

/** The content; an empty file is given a moment, because it may be one that is just being written. */
async function read(path: string): Promise<string | null> {
  for (let tries = 0; ; tries++) {
    const text = await readFile(path, "utf8").catch(() => null);
    if (text !== "" || tries > 5) return text;
    await sleep(10);
  }
}

function parsed(text: string): Holder | null {
  try {
    return JSON.parse(text) as Holder;
  } catch {
    return null;
  }
}

/** Of another machine's process nothing can be known: it counts as gone, as after a crash on a shared disk. */
async function lives({ pid, host, began: then, id }: Holder): Promise<boolean> {
  if (host !== hostname()) return false;
  if (pid === process.pid) return id !== undefined && held.has(id);
  return isAlive(pid) && then === (await began(pid));
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

async function began(pid: number): Promise<string | null> {
  const text = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => null); // Linux
  return text?.slice(text.lastIndexOf(")") + 2).split(" ")[19] ?? null;
}

/** What is being written, or was moved aside to be deleted, by the process of this number. */
const LEFT = /\.partial-(?:old-)?(\d{1,10})(?:-[\w-]+)?$/;

/** Removes what killed processes left half-written in a folder and its folders, and half-written versions of the folder itself. */
async function clear(folder: string): Promise<void> {
  await clearVersions(folder);
  await clearInside(folder, 0);
}

/** Removes the half-written versions of a file or folder that killed processes left beside it. */
export async function clearVersions(path: string): Promise<void> {
  const above = dirname(path);
  const own = (await names(above)).filter((name) => name.startsWith(`${basename(path)}.partial-`));
  for (const name of own) if (isLeft(name)) await rm(join(above, name), { recursive: true, force: true });
}

async function clearInside(folder: string, depth: number): Promise<void> {
  const entries = await readdir(folder, { withFileTypes: true }).catch(() => []);
  for (const entry of entries) {
    const path = join(folder, entry.name);
    if (LEFT.test(entry.name) || isOldTurn(entry.name)) await rm(path, { recursive: true, force: true });
    else if (entry.isDirectory() && depth < 3 && isOfRuns(entry.name)) await clearInside(path, depth + 1);
  }
}

/** A lock by which a dead process meant to replace a dead lock. */
const isOldTurn = (name: string): boolean => name.startsWith(`${LOCK}.`) && !name.includes(".partial-");

/** Others may write beside the folder, so there it depends on whether the writer lives. */
const isLeft = (name: string): boolean => {
  const pid = LEFT.exec(name)?.[1];
  return pid !== undefined && (Number(pid) === process.pid || !isAlive(Number(pid)));
};

/** Folders that runs make in theirs; others are not looked into. */
const isOfRuns = (name: string): boolean =>
  /^(checkpoint-\d+|iteration_\d+|model|policy|value|reference|train|test)$/.test(name);

const names = (folder: string): Promise<string[]> => readdir(folder).catch(() => []);
