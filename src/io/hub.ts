/**
 * Models and datasets by name, `org/name[@revision]`, as on the Hugging Face hub: first out of the standard cache, then over
 * the network. Plain `fetch` and a cache of our own make in Python's layout, so that both programs share one download; the
 * package @huggingface/hub would ask the network even for what is cached, resumes nothing and knows no browser storage.
 *
 * Every file is checked against the hash that the hub lists for it (sha256 of large files, git's sha1 of small ones) before
 * it gets its name. What was loaded in part goes on where it stopped.
 */
import { UserError } from "../runtime/errors.ts";
import type { Files } from "../runtime/files.ts";
import { filesAt } from "../runtime/served.ts";
import { HubClient, type HubFile, isSafeName } from "./hub-client.ts";
import type { HubOptions, HubStore, Repo } from "./hub-store.ts";
import { datasetFiles, modelFiles, type Wanted } from "./hub-wanted.ts";

export type { HubOptions, Repo };

const NAME = "[A-Za-z0-9][\\w.-]{0,95}";
const REPO = new RegExp(
  `^(?:hf://(?:datasets/)?)?((?:${NAME}/)?${NAME})(?:/([\\w./-]+\\.gguf))?(?:@(\\w[\\w./-]*))?(?::([A-Za-z0-9][\\w.-]*))?$`,
);

/**
 * Whether a text can be the name of a repository, perhaps with "@revision". A model's may say which GGUF file is meant, as
 * llama.cpp's -hf does: "org/name:Q4_K_M" or "org/name/file.gguf". A path that exists comes first: ask before.
 */
export function parseRepo(text: string, kind: Repo["kind"] = "models", revision?: string): Repo | null {
  const [, id, path, at, quantization] = REPO.exec(text) ?? [];
  if (id === undefined || /\.\.|--|\.git$/.test(id)) return null;
  const asked = at ?? revision ?? "main";
  if (!/^\w[\w./-]*$/.test(asked) || /(^|\/)\.{1,2}(\/|$)|\/\/|\/$/.test(asked)) return null;
  const file = path ?? quantization;
  if (file === undefined) return { kind, id, revision: asked };
  if (kind !== "models" || (path !== undefined && (quantization !== undefined || !isSafeName(path)))) return null;
  return { kind, id, revision: asked, file };
}

/**
 * The folder with what is wanted of a model: "model" is configuration, tokenizer and weights, "tokenizer" the tokenizer only. Of a
 * repository with many GGUF files it is the path of the one that `file` names, by its path or its quantization ("Q4_K_M").
 * Files of a cached commit are taken without asking the network, save for whether a GGUF file is the only one.
 * @throws UserError that names the ways to supply what is missing, or the GGUF files that are there
 */
export function resolveModel(
  repo: Repo,
  wanted: "model" | "tokenizer",
  { file = repo.file, ...options }: HubOptions & { file?: string | undefined },
): Promise<string> {
  return resolve(repo, (names, read) => modelFiles(names, read, wanted, repo.id, file), options);
}

/** A model where it is on the hub. */
export interface ModelOnHub {
  /** Reads its files in ranges; nothing is kept. */
  files: Files;
  /** The folder or GGUF file within `files`. */
  path: string;
  /** Bytes that `resolveModel` would load: those that the store has not got yet. */
  download: number;
}

/**
 * Looks at a model on the hub before it is loaded: its configuration can be read, and how much there is to load is known.
 * @throws UserError that names the ways to supply what is missing, or the GGUF files that are there
 */
export async function lookAtModel(
  repo: Repo,
  { file = repo.file, ...options }: HubOptions & { file?: string | undefined },
): Promise<ModelOnHub> {
  const client = new HubClient(options);
  const commit = await client.commitOf(repo).catch((error: Error) => {
    throw missing(repo, options.store, error.message, error);
  });
  const listed = new Map((await client.list(repo, commit)).map((one) => [one.name, one]));
  const files = filesAt(listed, (one) => client.open(repo, commit, one));
  const read = async (name: string) => (listed.has(name) ? files.read(name) : null);
  const wanted = await modelFiles([...listed.keys()], read, "model", repo.id, file);
  if ("reason" in wanted) throw new UserError(wanted.reason);
  const download = await bytesToLoad(
    repo,
    wanted.files.map((name) => listed.get(name) as HubFile),
    options.store,
  );
  return { files, path: wanted.path || ".", download };
}

async function bytesToLoad(repo: Repo, files: readonly HubFile[], store: HubStore): Promise<number> {
  let bytes = 0;
  for (const { hash, size } of files) if (!(await store.hasBlob(repo, hash))) bytes += size;
  return bytes;
}

/** The folder with a dataset's README and the data files of a part of it. */
export function resolveDataset(
  repo: Repo,
  part: { config?: string | null; splits: readonly string[] },
  options: HubOptions,
): Promise<string> {
  return resolve(repo, (names, read) => datasetFiles(names, read, part, repo.id), options);
}

async function resolve(repo: Repo, choose: Choose, options: HubOptions): Promise<string> {
  const { store } = options;
  const cached = await store.commitOf(repo);
  if (cached !== null) {
    const names = await store.names(repo, cached);
    const wanted = await choose(names, (name) => store.read(repo, cached, name)).catch(onlyUserError);
    if (wanted && "files" in wanted && wanted.complete) {
      const all = wanted.onlyOne && !options.offline ? await namesOf(repo, cached, options) : null;
      const again = all && (await choose(all, (name) => store.read(repo, cached, name)));
      if (again && "reason" in again) throw new UserError(again.reason);
      if (!again || again.path === wanted.path) return join(store.folder(repo, cached), wanted.path);
    }
  }
  if (options.offline) throw missing(repo, store, "the network is not to be used (--offline or HF_HUB_OFFLINE)");
  const client = new HubClient(options);
  const commit = await client.commitOf(repo).catch((error: Error) => {
    throw missing(repo, store, error.message, error);
  });
  const listed = new Map((await client.list(repo, commit)).map((file) => [file.name, file]));
  const read = async (name: string) => {
    const file = listed.get(name);
    if (!file) return null;
    await fetchFile(client, repo, commit, file, options);
    return store.read(repo, commit, name);
  };
  const wanted = await choose([...listed.keys()], read);
  if ("reason" in wanted) throw new UserError(wanted.reason);
  const files = wanted.files.map((name) => listed.get(name) as HubFile);
  const bytes = await bytesToLoad(repo, files, store);
  const note = bytes > 0 ? await store.reserve?.(bytes) : null;
  if (note) options.say?.(note);
  for (const file of files) await fetchFile(client, repo, commit, file, options);
  await store.writeCommit(repo, commit);
  return join(store.folder(repo, commit), wanted.path);
}

/** All files of a commit, or null where nobody can be asked. */
const namesOf = (repo: Repo, commit: string, options: HubOptions): Promise<string[] | null> =>
  new HubClient({ ...options, timeoutMs: Math.min(options.timeoutMs ?? 3000, 3000) }).list(repo, commit).then(
    (files) => files.map(({ name }) => name),
    () => null,
  );

type Choose = (names: string[], read: (name: string) => Promise<Uint8Array | null>) => Promise<Wanted>;

const join = (folder: string, path: string) => (path === "" ? folder : `${folder}/${path}`);

function onlyUserError(error: Error): null {
  if (error instanceof UserError) return null; // what is cached is not enough, or damaged
  throw error;
}

/** Loads one file unless it is there, and gives it its name within the commit. */
async function fetchFile(
  client: HubClient,
  repo: Repo,
  commit: string,
  file: HubFile,
  { store, onProgress, signal }: HubOptions,
): Promise<void> {
  if (!(await store.hasBlob(repo, file.hash))) {
    const download = await store.download(repo, file.hash, signal);
    try {
      await client.load(repo, commit, file, download, (received) => onProgress?.(file.name, received, file.size));
      const found = await download.hash(file.large ? "sha256" : "git-sha1");
      if (found !== file.hash) {
        await download.restart();
        throw new UserError(
          `${repo.id}: ${file.name} is not what the hub lists: its ${file.large ? "sha256" : "git sha1"} is ${found}, not ` +
            `${file.hash}; the download was thrown away, try again`,
        );
      }
      await download.finish();
    } catch (error) {
      await download.leave();
      throw error;
    }
  }
  await store.link(repo, commit, file.name, file.hash);
}

function missing(repo: Repo, store: HubStore, reason: string, cause?: Error): UserError {
  const what = repo.kind === "models" ? "model" : "dataset";
  const folder =
    repo.kind === "models" ? "a folder with config.json and weights, or a .gguf file" : "a file or a folder";
  const type = repo.kind === "models" ? "" : " --repo-type dataset";
  return new UserError(
    `${repo.id}${repo.revision === "main" ? "" : `@${repo.revision}`}: there is no such ${what} here, and ${reason}. ` +
      `There are three ways to supply it: the path of ${folder}; the cache in ${store.where}, which ` +
      `"hf download ${repo.id}${type}" fills on a machine with a network; or org/name with the network allowed, ` +
      "with HF_TOKEN set if it is private, or HF_ENDPOINT if you use a mirror",
    { cause },
  );
}
