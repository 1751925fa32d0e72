/** Keeps two runs from writing into one folder: each would delete what the other is about to rename. */
import { readFile, rmdir, stat } from "node:fs/promises";
import { hostname } from "node:os";
import { UserError } from "../runtime/errors.ts";
import type { Files } from "../runtime/files.ts";
import { readJson, writeJson } from "../runtime/json-files.ts";

interface Holder {
  readonly pid: number;
  readonly host: string;
  /** When the process began, in the system's own count: process ids are used again. */
  readonly began: string | null;
}

/** Marks a folder as in use until the returned function is called. A mark whose process is gone does not count. */
export async function lockFolder(files: Files, dir: string): Promise<() => Promise<void>> {
  const path = `${dir}/.running.json`;
  const holder = await readJson<Holder>(files, path);
  if (holder !== null && (await lives(holder))) {
    throw new UserError(
      `${dir}: another run (process ${holder.pid}) is writing here: wait for it, or choose another --output_dir`,
    );
  }
  const existed = await stat(dir).then(
    () => true,
    () => false,
  );
  await writeJson(files, path, { pid: process.pid, host: hostname(), began: await began(process.pid) });
  return async () => {
    await files.remove(path);
    if (!existed) await rmdir(dir).catch(() => {}); // a run that failed at once leaves no empty folder
  };
}

/** Of another machine's process nothing can be known: it counts as gone, as after a crash on a shared disk. */
async function lives({ pid, host, began: then }: Holder): Promise<boolean> {
  if (host !== hostname() || pid === process.pid) return false;
  try {
    process.kill(pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EPERM") return false;
  }
  return then === (await began(pid));
}

async function began(pid: number): Promise<string | null> {
  const text = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => null); // Linux
  return text?.slice(text.lastIndexOf(")") + 2).split(" ")[19] ?? null;
}
