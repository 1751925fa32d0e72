/** Finds the model that a visitor means: in the picked files, among the downloads, or on the hub. */
import { parseRepo, resolveModel, UserError } from "webrlhf";
import { hubStore, studioFiles } from "./places.ts";
import type { Source } from "./protocol.ts";

/** A model's place in `studioFiles`, and the name that others know it by. */
export interface Located {
  path: string;
  base: string;
}

/**
 * Finds a model; what is on the hub and not here is downloaded.
 * @throws UserError in words
 */
export function locate(
  source: Source,
  around: { signal: AbortSignal; progress: (file: string, done: number, total: number) => void },
): Promise<Located> {
  return source.from === "disk" ? onDisk(source.label) : onHub(source, around);
}

async function onDisk(label: string): Promise<Located> {
  const path = `picked/${label}`;
  if (/\.gguf$/i.test(label)) {
    if (!(await studioFiles.open(path))) throw gone(label);
    return { path, base: label };
  }
  const names = await studioFiles.list(path);
  if (names.length === 0) throw gone(label);
  const ggufs = names.filter((name) => /\.gguf$/i.test(name));
  if (names.includes("adapter_config.json")) {
    throw new UserError(`${label} is an adapter, not a model: pick the model that it was trained on`);
  }
  if (names.includes("config.json")) return { path, base: label };
  if (ggufs.length === 1) return { path: `${path}/${ggufs[0]}`, base: ggufs[0] };
  if (ggufs.length > 1) throw new UserError(`there are several GGUF files: pick one of ${ggufs.join(", ")}`);
  throw new UserError(
    `this is no model: among ${some(names)} there is neither a .gguf file nor a config.json. Pick one .gguf file, or a ` +
      "folder of Hugging Face with config.json, tokenizer.json and model.safetensors",
  );
}

const some = (names: readonly string[]): string =>
  names.length <= 4 ? names.join(", ") : `${names.slice(0, 3).join(", ")} and ${names.length - 3} more`;

const gone = (label: string): UserError =>
  new UserError(`${label} is not here any more: a page loses picked files when it is loaded again. Pick it once more`);

async function onHub(
  { name, endpoint }: Extract<Source, { from: "hub" }>,
  { signal, progress }: { signal: AbortSignal; progress: (file: string, done: number, total: number) => void },
): Promise<Located> {
  const repo = repoNamed(name);
  const mirror = mirrorAt(endpoint);
  const store = await hubStore();
  const path = await resolveModel(repo, "model", { store, signal, onProgress: progress, ...mirror });
  const file = repo.file === undefined ? "" : /\.gguf$/i.test(repo.file) ? `/${repo.file}` : `:${repo.file}`;
  return { path: `hub/${path}`, base: repo.id + file };
}

/** A repository of the hub by the name that somebody typed. */
export function repoNamed(name: string): NonNullable<ReturnType<typeof parseRepo>> {
  const repo = parseRepo(name.trim(), "models");
  if (repo?.id.includes("/")) return repo;
  throw new UserError(
    `${JSON.stringify(name.trim())} is no name on the hub: write org/name, or org/name:Q4_K_M for one of several GGUF files`,
  );
}

/** The hub's address, where it is another than Hugging Face's. */
export function mirrorAt(endpoint: string): { endpoint?: string } {
  const text = endpoint.trim();
  if (text === "") return {};
  const url = URL.canParse(text) ? new URL(text) : null;
  const isHttp = url?.protocol === "https:" || url?.protocol === "http:";
  if (!url || !isHttp || url.username || url.password || url.search || url.hash) {
    throw new UserError(`${JSON.stringify(text)} is no address of a hub: write one such as https://hub.example.org`);
  }
  return { endpoint: url.href.replace(/\/+$/, "") };
}
