/** Names that stand for models and datasets: paths, URLs, and `org/name[@revision][:quantization]` on the hub. */
import { isDataFile } from "../data/formats.ts";
import { type HubOptions, lookAtModel, parseRepo, type Repo, resolveDataset, resolveModel } from "../io/hub.ts";
import { isGguf } from "../io/model-files.ts";
import type { Files } from "../runtime/files.ts";
import { hasDisk } from "../runtime/open.ts";
import { basename, dirname, isAddress } from "../runtime/paths.ts";
import { filesOf, readsUrls, type Surroundings } from "./surroundings.ts";

/** Where something was found. */
export interface Located {
  readonly path: string;
  /** What it was asked for by, without a revision: a path, or `org/name`. */
  readonly name: string;
  /** Whether it is a hub name's main revision, so that others find it by that name. */
  readonly main: boolean;
  /** Where the path is read. */
  readonly files: Files;
}

/** Choice of a revision on the hub, and of whether the network may be asked. */
export interface HubChoice {
  /** Branch, tag or commit of models named org/name. Default: main. */
  modelRevision?: string | null | undefined;
  /** Take what is named org/name from the cache only. Default false. */
  offline?: boolean | undefined;
}

/** The short name of what was found: the last part of its name, not the hash of a commit. */
export const labelOf = ({ name }: Pick<Located, "name">): string => basename(name);

/** The name under which others find it again: its name on the hub, or its path. */
export const savedName = ({ name, path, main }: Located): string => (main ? name : path);

/**
 * Finds a model, or its tokenizer alone, and loads it where it is a name on the hub.
 * @throws UserError that names the ways to supply what is missing
 */
export async function locateModel(
  name: string,
  wanted: "model" | "tokenizer",
  options: HubChoice & Surroundings,
): Promise<Located> {
  const repo = await repoNamed(name, "models", options, options.modelRevision);
  if (!repo) return { path: name, name, main: false, files: await filesOf(options) };
  const { files, ...access } = await accessOf(options);
  const path = await resolveModel(repo, wanted, access);
  const file = repo.file === undefined ? "" : `${isGguf(repo.file) ? "/" : ":"}${repo.file}`;
  return { path, name: repo.id + file, main: repo.revision === "main", files };
}

/**
 * Finds a model without loading it: what is not here yet is read where it is on the hub.
 * @returns where its configuration can be read, and the bytes that loading it would take
 * @throws UserError that names the ways to supply what is missing
 */
export async function lookAt(
  name: string,
  options: HubChoice & Surroundings,
): Promise<{ files: Files; path: string; download: number }> {
  const repo = await repoNamed(name, "models", options, options.modelRevision);
  if (!repo) return { path: name, files: await filesOf(options), download: 0 };
  const { files, ...access } = await accessOf(options);
  const here = await resolveModel(repo, "model", { ...access, offline: true }).catch((error) => {
    if (access.offline) throw error;
    return null;
  });
  return here === null ? lookAtModel(repo, access) : { path: here, files, download: 0 };
}

/**
 * Finds a dataset on the hub, with the data files of the part that is meant; null where the text is no such name.
 * @throws UserError that names the ways to supply what is missing
 */
export async function locateDataset(
  name: string,
  part: { config?: string | null; splits: readonly string[] },
  options: HubChoice & Surroundings,
): Promise<Located | null> {
  const repo = await repoNamed(name, "datasets", options);
  if (!repo) return null;
  const { files, ...access } = await accessOf(options);
  return { path: await resolveDataset(repo, part, access), name: repo.id, main: repo.revision === "main", files };
}

/** Whether there is such a file, or a folder with something in it. */
export async function exists(files: Files, path: string): Promise<boolean> {
  if ((await files.list(path)).length > 0) return true;
  const file = await files.open(path).catch(() => null);
  await file?.close();
  return file !== null;
}

/** The repository that a name means; null for a path. Names have two parts. What exists is a path, and so is what stands in a folder that exists. */
export async function repoNamed(
  name: string,
  kind: Repo["kind"],
  around: Surroundings,
  revision?: string | null,
): Promise<Repo | null> {
  const repo = parseRepo(name, kind, revision ?? undefined);
  if (!repo?.id.includes("/")) return null;
  if (name.startsWith("hf://")) return repo;
  const files = await filesOf(around);
  // Of a page's files only those can be listed that it wrote itself.
  if (readsUrls(around)) return isPath(name) || (await files.list(name)).length > 0 ? null : repo;
  if (await exists(files, name)) return null;
  return (await files.list(dirname(name))).length > 0 ? null : repo;
}

/** Where nothing can be listed, the look of a name decides: files have endings that are known. */
const isPath = (name: string): boolean =>
  /^\.{0,2}\//.test(name) || isGguf(name) || isDataFile(name) || isAddress(name);

/** The hub as the surroundings and the environment say. */
export async function accessOf(options: HubChoice & Surroundings): Promise<HubOptions & { files: Files }> {
  const { hub = {}, signal, progress, say, offline = false } = options;
  const own = await usualAccess(hub.store);
  const endpoint = hub.endpoint ?? own.endpoint;
  return {
    store: own.store,
    files: own.store.files ?? (await filesOf(options)),
    offline: offline || own.offline,
    token: hub.token ?? own.token,
    ...(endpoint !== undefined && { endpoint }),
    ...(hub.fetch && { fetch: hub.fetch }),
    ...(signal && { signal }),
    ...(progress && { onProgress: progress }),
    ...(say && { say }),
  };
}

async function usualAccess(given: NonNullable<Surroundings["hub"]>["store"]) {
  if (!hasDisk) {
    const store = given ?? (await (await import("../io/hub-browser.ts")).browserStore());
    return { store, offline: false, endpoint: undefined, token: null };
  }
  const { diskStore, hubEnvironment } = await import("../runtime/hub-disk.ts");
  const { cache, ...rest } = await hubEnvironment();
  return { store: given ?? (diskStore(cache) as NonNullable<typeof given>), ...rest };
}
