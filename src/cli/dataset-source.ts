/** The files of a dataset as options name it: a file, a Hugging Face dataset folder, or `org/name` on the hub. */
import { readdir, readFile, stat } from "node:fs/promises";
import { join, relative, sep } from "node:path";
import { chooseDataFiles } from "../io/dataset-card.ts";
import { locateDataset } from "./hub.ts";
import type { Terminal } from "./terminal.ts";

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
  const names = await chooseDataFiles(await namesIn(folder), card, { config, split }, name);
  return names.map((file) => join(folder, file));
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
