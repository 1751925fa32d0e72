/** Models and datasets that options name as `org/name[@revision]`. */
import { access, readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { type HubOptions, parseRepo, type Repo, resolveDataset, resolveModel } from "../../io/hub.ts";
import { diskStore, hubEnvironment } from "../../runtime/hub-disk.ts";
import { options, type Table } from "../option.ts";
import { short } from "../progress.ts";
import type { Terminal } from "../terminal.ts";
import type { Context } from "../verb.ts";

const model = options("Model");

/** Options of every verb that opens models. */
export const hubOptions = {
  model_revision: model.text(null, "Branch, tag or commit of models named org/name; default: main", {
    aliases: ["revision"],
  }),
  offline: model.bool(false, "Take models and datasets named org/name from the cache only; also HF_HUB_OFFLINE=1", {
    aliases: ["local_files_only"],
  }),
};

const MODEL = /^(?:\w+_)?(?:model|tokenizer)(?:_name_or)?_path$|^adapter_path$/;
const namesModel = (name: string) => MODEL.test(name);

/** A verb's options with those above, where it opens models. */
export function withHubOptions<T extends Table>(table: T): T {
  return Object.keys(table).some(namesModel) ? { ...table, ...hubOptions } : table;
}

/** Names that were found, by the path they stand for, and the other way round. */
const pathOf = new Map<string, string>();
const nameOf = new Map<string, string>();
const isMain = new Set<string>();

/** Where a name was found; a path is itself. */
export const locate = (name: string): string => pathOf.get(name) ?? name;

/** What to call what is at a path: the last part of its name, not the hash of a commit. */
export function labelAt(path: string): string {
  const name = (nameOf.get(path) ?? path).replace(/[/\\]+$/, "");
  return name.split(/[/\\]/).at(-1) || name;
}

/** The name under which others find what is at a path: none for a path, nor for a revision other than the main one. */
export const hubNameAt = (path: string): string | undefined => (isMain.has(path) ? nameOf.get(path) : undefined);

/** The options with the paths of what is named `org/name`, which are loaded where needed. */
export async function locateModels(
  table: Table,
  values: Readonly<Record<string, unknown>>,
  context: Pick<Context, "terminal" | "signal">,
): Promise<Record<string, unknown>> {
  const found: Record<string, unknown> = { ...values };
  const find = async (name: string, wanted: "model" | "tokenizer") => {
    const repo = await repoNamed(name, "models", values.model_revision);
    if (!repo) return name;
    const path = await resolveModel(repo, wanted, await settings(values.offline === true, context));
    pathOf.set(name, path);
    nameOf.set(path, repo.id);
    if (repo.revision === "main") isMain.add(path);
    return path;
  };
  for (const name of Object.keys(table).filter(namesModel)) {
    const value = values[name];
    if (typeof value !== "string") continue;
    const path = await find(value, name.startsWith("tokenizer") ? "tokenizer" : "model");
    found[name] = path;
    const base = await baseOfAdapter(path);
    if (base !== null && !values.base_model_name_or_path) await find(base, "model");
  }
  return found;
}

/** The data files of a dataset named `org/name`, or null where the text is no such name. */
export async function locateDataset(
  name: string,
  part: { config?: string | null; splits: readonly string[] },
  offline: boolean,
  context: { terminal: Terminal; signal?: AbortSignal },
): Promise<string | null> {
  const repo = await repoNamed(name, "datasets");
  return repo && resolveDataset(repo, part, await settings(offline, context));
}

/** Names have two parts. What exists is a path, and so is what stands in a folder that exists. */
async function repoNamed(name: string, kind: Repo["kind"], revision?: unknown): Promise<Repo | null> {
  const repo = parseRepo(name, kind, typeof revision === "string" ? revision : undefined);
  if (!repo?.id.includes("/") || (await exists(name))) return null;
  return (await exists(dirname(name))) ? null : repo;
}

async function baseOfAdapter(folder: string): Promise<string | null> {
  try {
    const config = JSON.parse(await readFile(join(folder, "adapter_config.json"), "utf8"));
    return typeof config.base_model_name_or_path === "string" ? config.base_model_name_or_path : null;
  } catch {
    return null; // no adapter, or one that is refused when it is opened
  }
}

const exists = (path: string) =>
  access(path).then(
    () => true,
    () => false,
  );

async function settings(
  offline: boolean,
  { terminal, signal }: { terminal: Terminal; signal?: AbortSignal },
): Promise<HubOptions> {
  const environment = await hubEnvironment();
  return {
    store: diskStore(environment.cache),
    offline: offline || environment.offline,
    token: environment.token,
    ...(environment.endpoint !== undefined && { endpoint: environment.endpoint }),
    ...(signal && { signal }),
    onProgress: showProgress(terminal),
  };
}

/** One line that is written anew in a terminal; elsewhere a line per large file. */
function showProgress(terminal: Terminal): NonNullable<HubOptions["onProgress"]> {
  let last = 0;
  let announced = "";
  return (file, received, total) => {
    const done = received >= total;
    if (!terminal.tty) {
      if (file !== announced && total > 10e6) terminal.line(`loading ${file} (${size(total)})`);
      announced = file;
      return;
    }
    const now = performance.now();
    if (!done && now - last < 100) return;
    last = now;
    const text = `loading ${file}: ${size(received)} of ${size(total)}`.slice(0, terminal.columns - 1);
    terminal.write(`\r${text.padEnd(terminal.columns - 1)}${done ? `\r${" ".repeat(terminal.columns - 1)}\r` : ""}`);
  };
}

function size(bytes: number): string {
  const [unit, name] = bytes >= 1e9 ? [1e9, "GB"] : bytes >= 1e6 ? [1e6, "MB"] : [1e3, "kB"];
  return `${short(bytes / (unit as number))} ${name}`;
}
