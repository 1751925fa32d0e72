/** A policy's weights as files that travel, and the model that a worker makes of them. */

import { CausalLM } from "../nn/models.ts";
import { adapterFiles, openAdapter, readAdapterFolder, restoreAdapter } from "../nn/peft.ts";
import { loadCausalLM, modelFiles } from "../nn/pretrained.ts";
import { restoreTrained } from "../nn/trained.ts";
import { UserError } from "../runtime/errors.ts";
import { type FileContent, memoryFiles } from "../runtime/files.ts";
import type { BlobWriter } from "./blob-writer.ts";
import { sha256Of } from "./blobs.ts";
import type { FileRef, PolicyRef } from "./messages.ts";

/** Bytes of one file of weights: what is lost when a transfer breaks off. */
const SHARD = 256 << 20;

type Folder = Map<string, Uint8Array>;

async function bytesOf(content: Record<string, FileContent>): Promise<Folder> {
  const store: Folder = new Map();
  await memoryFiles(store).writeFolder("m", content);
  return new Map([...store].map(([path, bytes]) => [path.slice(2), bytes]));
}

const refsOf = (folder: Folder): Promise<FileRef[]> =>
  Promise.all(
    [...folder]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(async ([name, bytes]) => {
        return { name, sha256: await sha256Of(bytes), size: bytes.length };
      }),
  );

/** Where files are read from. */
export interface FileSource {
  get(ref: FileRef, signal?: AbortSignal): Promise<Uint8Array>;
}

/** The weights of one version, to be put and, where the store was lost, put again. */
export interface PublishedPolicy extends FileSource {
  ref: PolicyRef;
  /** All of its files. */
  files: readonly FileRef[];
  /** Puts what the store lacks. */
  put(blobs: BlobWriter): Promise<void>;
}

/** Makes versions of a policy: its base travels once, its adapter every time; without an adapter all of it travels. */
export class PolicyPublisher {
  private base: { model: object; refs: FileRef[] } | null = null;

  /** The policy as it is now. */
  async take(model: CausalLM): Promise<PublishedPolicy> {
    if (!model.adapter) {
      const files = await bytesOf(await modelFiles(model, { maxShardSize: SHARD }));
      const refs = await refsOf(files);
      return publishedOf({ base: refs, adapter: null }, async ({ name }) => files.get(name));
    }
    const { baseModel } = model;
    if (!(baseModel instanceof CausalLM)) throw new Error("the policy's base is no language model");
    if (baseModel.store.format !== "float32") {
      throw new UserError(
        `the policy's base is stored as ${baseModel.store.format}, which cannot be sent to workers: leave out load_in_4bit ` +
          "and the like, or train without a cluster",
      );
    }
    const whole = async () => bytesOf(await modelFiles(baseModel, { maxShardSize: SHARD }));
    if (this.base?.model !== baseModel) this.base = { model: baseModel, refs: await refsOf(await whole()) };
    const { refs } = this.base;
    const files = await bytesOf(await adapterFiles(model));
    const adapter = await refsOf(files);
    // The base is frozen, so that it need not be kept beside its model.
    return publishedOf({ base: refs, adapter }, async (ref) =>
      adapter.includes(ref) ? files.get(ref.name) : (await whole()).get(ref.name),
    );
  }
}

function publishedOf(ref: PolicyRef, read: (ref: FileRef) => Promise<Uint8Array | undefined>): PublishedPolicy {
  const files = [...ref.base, ...(ref.adapter ?? [])];
  const get = async (file: FileRef) => (await read(file)) as Uint8Array;
  return {
    ref,
    files,
    get,
    async put(blobs) {
      for (const file of files) await blobs.put(file, () => get(file));
    },
  };
}

const nameOf = (refs: readonly FileRef[]): string => refs.map(({ name, sha256 }) => `${name}:${sha256}`).join(" ");
/** Files of a model that differ from version to version; where the others are the same, a model takes the new ones over. */
const shapeOf = (refs: readonly FileRef[]): string => nameOf(refs.filter(({ name }) => !/\.safetensors$/.test(name)));

interface Held {
  refs: readonly FileRef[];
  model: CausalLM;
}

/** Weights that a worker keeps from one `runWorker` to the next, so that they need not be fetched again. */
export interface HeldWeights {
  /** Frees them; a later `runWorker` fetches them anew. */
  destroy(): void;
}

/** Makes a place for weights that outlive a call of `runWorker`; it is empty at first. */
export const holdWeights = (): HeldWeights => new HeldPolicy();

/** The models that a worker holds: one base and one adapter on it, which take over the weights of the next version. */
export class HeldPolicy implements HeldWeights {
  private readonly own: CausalLM | null;
  private files: FileSource | null;
  private base: Held | null = null;
  private adapter: Held | null = null;

  /**
   * @param files where a version's files are; null where `from` says it
   * @param own the base of all adapters, where it is at hand; it stays the caller's
   */
  constructor(files: FileSource | null = null, own: CausalLM | null = null) {
    this.files = files;
    this.own = own;
  }

  /** Reads the next versions from elsewhere. */
  from(files: FileSource): this {
    this.files = files;
    return this;
  }

  /** The model of a version; valid until the next call. */
  async model({ base, adapter }: PolicyRef, signal?: AbortSignal): Promise<CausalLM> {
    const under = adapter && this.own ? this.own : await this.baseOf(base, signal);
    if (!adapter) return under;
    if (this.adapter && nameOf(this.adapter.refs) === nameOf(adapter)) return this.adapter.model;
    const files = await this.folder(adapter, signal);
    if (this.adapter && shapeOf(this.adapter.refs) === shapeOf(adapter)) {
      const { model } = this.adapter;
      this.adapter = null;
      await restoreAdapter(model, files, "m");
      this.adapter = { refs: adapter, model };
      return model;
    }
    this.freeAdapter();
    const folder = await readAdapterFolder(files, "m");
    if (!folder) throw new UserError("the trainer's adapter has no adapter_config.json");
    this.adapter = { refs: adapter, model: await openAdapter(files, folder, under, "lm", { label: "policy" }) };
    return this.adapter.model;
  }

  destroy(): void {
    this.freeAdapter();
    this.base?.model.destroy();
    this.base = null;
  }

  private freeAdapter(): void {
    this.adapter?.model.destroy();
    this.adapter = null;
  }

  private async baseOf(refs: readonly FileRef[], signal?: AbortSignal): Promise<CausalLM> {
    if (this.base && nameOf(this.base.refs) === nameOf(refs)) return this.base.model;
    const files = await this.folder(refs, signal);
    if (this.base && !this.adapter && shapeOf(this.base.refs) === shapeOf(refs)) {
      const { model } = this.base;
      this.base = null;
      await restoreTrained(model, files, "m");
      this.base = { refs, model };
      return model;
    }
    this.destroy();
    this.base = { refs, model: await loadCausalLM(files, "m", "policy") };
    return this.base.model;
  }

  private async folder(refs: readonly FileRef[], signal?: AbortSignal) {
    if (!this.files) throw new Error("nobody has said where the weights are");
    const store: Folder = new Map();
    for (const ref of refs) store.set(`m/${ref.name}`, await this.files.get(ref, signal));
    return memoryFiles(store);
  }
}
