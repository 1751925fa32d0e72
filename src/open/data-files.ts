/** The files of a dataset by its name: a file, a Hugging Face dataset folder, or `org/name` on the hub. */
import type { DataSource } from "../data/readers.ts";
import { chooseDataFiles } from "../io/dataset-card.ts";
import { UserError } from "../runtime/errors.ts";
import type { Files } from "../runtime/files.ts";
import { join } from "../runtime/paths.ts";
import { spelled } from "../settings/index.ts";
import { type HubChoice, locateDataset } from "./hub.ts";
import { filesOf, type Surroundings } from "./surroundings.ts";

/** Choice of a dataset's files, and where they are looked for. */
export interface DataFilesOptions extends Pick<HubChoice, "offline">, Surroundings {
  /** Configuration of a dataset folder. Default: its only one, or "default". */
  datasetConfig?: string | null | undefined;
  /** Columns that are called otherwise: `prompt=question` takes prompts from the column question. */
  column?: readonly string[] | null | undefined;
}

/**
 * Finds a dataset's files and loads them where it is a name on the hub. What is no folder and no such name is taken for a file:
 * whoever reads it says that it is not there.
 * @param split of a folder or a dataset on the hub; a file is all there is of it
 * @param chosen whether a person chose the split and the configuration: of a file, as in Python's datasets, only "train"
 */
export async function dataFiles(
  name: string,
  split: string,
  options: DataFilesOptions,
  chosen = false,
): Promise<DataSource[]> {
  const config = options.datasetConfig ?? null;
  const here = await filesOf(options);
  const isFolder = (await here.list(name)).length > 0;
  const found = isFolder ? null : await locateDataset(name, { config, splits: [split] }, options);
  if (!isFolder && !found) {
    const wrong = chosen && config !== null ? withoutConfigurations(options, `${name} is a file`) : null;
    return [sourceAt(here, name, wrong ?? (chosen && split !== "train" ? withoutSplits(options, name, split) : null))];
  }
  const { files, path: folder } = found ?? { files: here, path: name };
  const card = await files.read(join(folder, "README.md"));
  const there = await namesIn(files, folder);
  const names =
    (await containersIn(files, folder, there, split)) ??
    (await chooseDataFiles(there, card && new TextDecoder().decode(card), { config, split }, name));
  return names.map((file) => sourceAt(files, join(folder, file)));
}

/** @param what has no splits, as files have none */
export const withoutSplits = (options: object, what: string, split: string): UserError =>
  new UserError(
    `split "${split}" cannot be chosen from ${what}: what is no folder has the split "train" only; hold some of it out with ` +
      `${spelled(options, "testSize")}, or name another file with ${spelled(options, "evalDatasetName")}`,
  );

/** @param what has none, as a sentence */
export const withoutConfigurations = (options: object, what: string): UserError =>
  new UserError(`${what}; ${spelled(options, "datasetConfig")} is for folders and datasets on the hub`);

/** A file that is opened when it is read. */
const sourceAt = (files: Files, path: string, wrong: UserError | null = null): DataSource => ({
  name: path,
  async open() {
    const file = await files.open(path);
    if (!file) throw new UserError(`cannot read ${path}: no such file`);
    if (!wrong) return file;
    await file.close();
    throw wrong;
  },
});

/**
 * All *.json files of a folder whose files are LMFlow's containers, which know no splits. Null for another folder, another
 * split, and where a file's name says that it is held out.
 */
async function containersIn(
  files: Files,
  folder: string,
  names: readonly string[],
  split: string,
): Promise<string[] | null> {
  const jsons = names.filter((name) => /^[^/.][^/]*\.json$/.test(name));
  if (split !== "train" || jsons.some((name) => /test|valid|eval|dev/i.test(name))) return null;
  for (const name of jsons) {
    if (/^\s*\{\s*"(type|instances)"\s*:/.test(await startOf(files, join(folder, name)))) return jsons;
  }
  return null;
}

async function startOf(files: Files, path: string): Promise<string> {
  const file = await files.open(path);
  if (!file) return "";
  try {
    return new TextDecoder().decode(await file.read(0, 256));
  } finally {
    await file.close();
  }
}

/** The files of a folder and of the folders in it, by their paths within it. */
async function namesIn(files: Files, folder: string): Promise<string[]> {
  const found: string[] = [];
  for (const name of await files.list(folder)) {
    const inside = await namesIn(files, join(folder, name));
    if (inside.length === 0) found.push(name);
    for (const file of inside) found.push(`${name}/${file}`);
  }
  return found.sort();
}
