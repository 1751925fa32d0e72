/** The files of a dataset as options name it: a file, a Hugging Face dataset folder, or `org/name` on the hub. */
import { open, readdir, readFile, stat } from "node:fs/promises";
import { join, relative, sep } from "node:path";
import { chooseDataFiles } from "../../io/dataset-card.ts";
import { locateDataset } from "../models/hub.ts";
import type { Terminal } from "../terminal.ts";

/** The part of the options that says which files of a dataset are meant. */
export interface SourceChoice {
  readonly dataset_config?: string | null;
  readonly offline?: boolean;
}

/** @param split of a folder or a dataset on the hub; a file is all there is of it */
export async function dataFiles(
  name: string,
  split: string,
  choice: SourceChoice,
  terminal: Terminal,
): Promise<string[]> {
  const { dataset_config: config = null, offline = false } = choice;
  const found = await stat(name).catch(() => null);
  const folder = found?.isDirectory()
    ? name
    : found
      ? null
      : await locateDataset(name, { config, splits: [split] }, offline, { terminal });
  if (folder === null) return [name]; // a file, or nothing: whoever reads it says so
  const card = await readFile(join(folder, "README.md"), "utf8").catch(() => null);
  const there = await namesIn(folder);
  const names =
    (await containersIn(folder, there, split)) ?? (await chooseDataFiles(there, card, { config, split }, name));
  return names.map((file) => join(folder, file));
}

/**
 * All *.json files of a folder whose files are LMFlow's containers, which know no splits. Null for another folder, another
 * split, and where a file's name says that it is held out.
 */
async function containersIn(folder: string, names: readonly string[], split: string): Promise<string[] | null> {
  const jsons = names.filter((name) => /^[^/.][^/]*\.json$/.test(name));
  if (split !== "train" || jsons.some((name) => /test|valid|eval|dev/i.test(name))) return null;
  for (const name of jsons) if (/^\s*\{\s*"(type|instances)"\s*:/.test(await startOf(join(folder, name)))) return jsons;
  return null;
}

async function startOf(file: string): Promise<string> {
  const handle = await open(file);
  try {
    const { buffer, bytesRead } = await handle.read(new Uint8Array(256));
    return new TextDecoder().decode(buffer.subarray(0, bytesRead));
  } finally {
    await handle.close();
  }
}

async function namesIn(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => !entry.isDirectory())
    .map((entry) =>
      relative(folder, join(entry.parentPath ?? entry.path, entry.name))
        .split(sep)
        .join("/"),
    )
    .sort();
}
