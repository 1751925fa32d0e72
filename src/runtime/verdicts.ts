/** What was found out about an adapter with its driver, kept in this user's cache folder: one small file per finding. */
import fs from "node:fs/promises";
import path from "node:path";
import { cacheFolder } from "./cache.ts";
import { diskFiles } from "./files.ts";

/** A finding, and whether the next process may rely on it. */
export interface Finding<T> {
  value: T;
  keep: boolean;
}

/**
 * The finding that an earlier process kept, else what `find` finds now.
 * @param topic what was found out
 * @param about what it depends on: the adapter, its driver, versions of packages
 */
export async function verdict<T>(topic: string, about: readonly string[], find: () => Promise<Finding<T>>): Promise<T> {
  const file = await fileAbout(topic, about).catch(() => null); // no folder is writable: find out each time
  const kept = file === null ? null : await read(file, about);
  if (kept) return kept.value as T;
  const { value, keep } = await find();
  if (keep && file !== null) {
    const text = `${JSON.stringify({ about, value }, null, 2)}\n`;
    await (await diskFiles()).writeFile(file, text).catch(() => {}); // a full disk: the same
  }
  return value;
}

/** The file for what is known of `topic`, which depends on `about`. Throws where no cache folder is writable. */
export async function fileAbout(topic: string, about: readonly string[]): Promise<string> {
  const name = [topic, ...about].map((word) => word.replaceAll(/[^\w.-]+/g, "-")).join("_");
  return path.join(await cacheFolder(), "adapters", `${name.slice(0, 200)}.json`);
}

interface Kept {
  about: readonly string[];
  value: unknown;
}

async function read(file: string, about: readonly string[]): Promise<Kept | null> {
  try {
    const kept = JSON.parse(await fs.readFile(file, "utf8")) as Kept;
    return JSON.stringify(kept.about) === JSON.stringify(about) ? kept : null; // names may fall together
  } catch {
    return null;
  }
}
