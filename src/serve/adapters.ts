/** Adapters that are loaded into a running server and taken out again, as vLLM does at run time. */
import { realpath, stat } from "node:fs/promises";
import { join, resolve, sep } from "node:path";
import { ADAPTER_CONFIG, ADAPTER_WEIGHTS } from "../nn/peft.ts";
import { isUserError } from "../runtime/errors.ts";
import { ApiError, badField, tooMany } from "./errors.ts";
import { Fields } from "./fields.ts";
import { Line } from "./line.ts";
import type { TextModel } from "./model.ts";

/** Where adapters may come from, and how they are opened. */
export interface AdapterSource {
  /** Folders below which adapters may lie. */
  folders: readonly string[];
  /** Adapters at once. */
  most: number;
  /** Opens the adapter of a folder on the server's model, under a name. */
  open(folder: string, name: string): Promise<OpenModel>;
}

/** A model, and what frees it. */
export interface OpenModel {
  model: TextModel;
  close(): Promise<void>;
}

interface Loaded extends OpenModel {
  folder: string;
  /** Requests that use it. */
  users: number;
  usedAt: number;
}

const LONGEST_NAME = 200;
const CONFIG_BYTES = 1 << 20;
const WEIGHTS_BYTES = 1 << 30;
/** Nobody has asked for it for so long: it makes room for others. Whoever loaded it may have ended without a word. */
const IDLE_MS = 600_000;

/** The adapters that a server has, by name. */
export class Adapters {
  private readonly base: TextModel;
  private readonly source: AdapterSource | null;
  private readonly loaded = new Map<string, Loaded>();
  /** One is loaded at a time. */
  private readonly line = new Line();
  private pending = 0;
  private readonly closing = new Set<Promise<void>>();

  constructor(base: TextModel, source: AdapterSource | null = null) {
    this.base = base;
    this.source = source;
  }

  get models(): TextModel[] {
    return [...this.loaded.values()].map(({ model }) => model);
  }

  /** An adapter by its name, or null. It stays until it is released, whoever unloads it. */
  use(name: string): { model: TextModel; release(): void } | null {
    const found = this.loaded.get(name);
    if (!found) return null;
    found.users += 1;
    found.usedAt = performance.now();
    const release = () => {
      found.users -= 1;
      found.usedAt = performance.now();
      if (this.loaded.get(name) !== found) this.closeUnused(found);
    };
    return { model: found.model, release };
  }

  /** Answers `/v1/load_lora_adapter`. */
  async load(body: unknown): Promise<string> {
    const source = this.needed();
    const f = new Fields(body);
    const name = text(f, "lora_name");
    const path = text(f, "lora_path");
    f.raw("lora_int_id");
    f.raw("base_model_name");
    f.unsupported({ load_inplace: (v) => v === false });
    f.refuseUnknown();
    if (name.length > LONGEST_NAME || /[\p{Cc}\p{Surrogate}]/u.test(name)) {
      throw badField("lora_name", `lora_name must be a name of at most ${LONGEST_NAME} characters`);
    }
    if (this.pending >= source.most) throw tooMany("Other adapters are being loaded. Please try again later.");
    this.pending += 1;
    try {
      await this.line.run(() => this.open(source, name, path));
    } finally {
      this.pending -= 1;
    }
    return `Success: LoRA adapter '${name}' added successfully.`;
  }

  /** Answers `/v1/unload_lora_adapter`. Requests that use the adapter go on to their end. */
  unload(body: unknown): string {
    this.needed();
    const f = new Fields(body);
    const name = text(f, "lora_name");
    f.raw("lora_int_id");
    f.refuseUnknown();
    if (!this.remove(name)) {
      throw new ApiError(404, `No LoRA adapter is loaded under the name '${name.slice(0, LONGEST_NAME)}'.`, {
        type: "not_found_error",
        param: "lora_name",
      });
    }
    return `Success: LoRA adapter '${name}' removed successfully.`;
  }

  /** Opens all anew, after the model they stand on. One that cannot be opened any more is gone. */
  async revive(): Promise<void> {
    for (const [name, one] of this.loaded) {
      const { close } = one;
      try {
        Object.assign(one, await this.needed().open(one.folder, name));
      } catch {
        this.loaded.delete(name);
      }
      await close().catch(() => {}); // its memory went with its device
    }
  }

  /** Frees all. */
  async close(): Promise<void> {
    await this.line.done();
    for (const name of [...this.loaded.keys()]) this.remove(name);
    await Promise.all(this.closing);
  }

  private needed(): AdapterSource {
    if (this.source) return this.source;
    throw new ApiError(403, "This server loads no adapters: start it with --lora_folders to say from where it may.", {
      type: "permission_error",
      code: "adapters_not_allowed",
    });
  }

  private async open(source: AdapterSource, name: string, path: string): Promise<void> {
    if (name === this.base.name || this.loaded.has(name)) {
      throw badField(
        "lora_name",
        `A model of the name '${name}' is loaded already: unload it, or choose another name.`,
      );
    }
    const folder = await allowedFolder(path, source.folders);
    this.makeRoom(source.most);
    try {
      const opened = await source.open(folder, name);
      this.loaded.set(name, { ...opened, folder, users: 0, usedAt: performance.now() });
    } catch (error) {
      if (isUserError(error)) throw new ApiError(400, error.message, { param: "lora_path" });
      throw error;
    }
  }

  private makeRoom(most: number): void {
    if (this.loaded.size < most) return;
    const [oldest] = [...this.loaded].sort(([, a], [, b]) => a.usedAt - b.usedAt);
    const [name, { users, usedAt }] = oldest;
    if (users === 0 && performance.now() - usedAt > IDLE_MS) this.remove(name);
    else throw tooMany(`${most} adapters are loaded already (--max_loras): unload one of them first.`);
  }

  private remove(name: string): boolean {
    const found = this.loaded.get(name);
    if (!found) return false;
    this.loaded.delete(name);
    this.closeUnused(found);
    return true;
  }

  private closeUnused({ users, close }: Loaded): void {
    if (users > 0) return;
    const done = close()
      .catch(() => {}) // nobody is left who could be told
      .finally(() => this.closing.delete(done));
    this.closing.add(done);
  }
}

function text(f: Fields, name: string): string {
  const value = f.raw(name);
  if (typeof value === "string" && value !== "") return value;
  throw badField(name, `${name} must be a string that is not empty`);
}

/** The folder that a path means, if that and its files lie where adapters may, whatever links there are on the way. */
async function allowedFolder(path: string, folders: readonly string[]): Promise<string> {
  const foreign = () =>
    new ApiError(403, "lora_path is not below the folders that this server loads adapters from (--lora_folders).", {
      type: "permission_error",
      param: "lora_path",
      code: "path_not_allowed",
    });
  // What lies elsewhere is not looked at: an answer would say what is there.
  const wanted = resolve(path);
  const real = await Promise.all(folders.map((folder) => realpath(folder).catch(() => resolve(folder))));
  if (path.includes("\0") || ![...folders.map((f) => resolve(f)), ...real].some((f) => isWithin(wanted, f))) {
    throw foreign();
  }
  const found = await realpath(wanted).catch(() => null);
  if (found === null) throw badField("lora_path", "lora_path: there is no such folder");
  if (!real.some((folder) => isWithin(found, folder))) throw foreign();
  for (const [name, most] of [
    [ADAPTER_CONFIG, CONFIG_BYTES],
    [ADAPTER_WEIGHTS, WEIGHTS_BYTES],
  ] as const) {
    const file = await realpath(join(found, name)).catch(() => null);
    if (file === null) throw badField("lora_path", `lora_path: ${name} is missing there`);
    if (!real.some((folder) => isWithin(file, folder))) throw foreign();
    const { size, isFile } = await stat(file).then((s) => ({ size: s.size, isFile: s.isFile() }));
    if (!isFile || size > most) throw badField("lora_path", `lora_path: ${name} is no file of at most ${most} bytes`);
  }
  return found;
}

const isWithin = (path: string, folder: string): boolean =>
  path.startsWith(folder.endsWith(sep) ? folder : folder + sep);
