/** A policy's weights as files that travel, and the model that a worker makes of them. */

import { type AdapterWire, packedAdapter, unpackedAdapter } from "../nn/adapter-wire.ts";
import type { HeadKind } from "../nn/huggingface.ts";
import type { CausalLM, Model, ScoreModel } from "../nn/models.ts";
import { adapterFiles, openAdapter, readAdapterFolder, restoreAdapter } from "../nn/peft.ts";
import { loadCausalLM, loadScoreModel, modelFiles } from "../nn/pretrained.ts";
import { restoreTrained } from "../nn/trained.ts";
import { deviceFailure } from "../open/surviving.ts";
import { UserError } from "../runtime/errors.ts";
import { type FileContent, memoryFiles } from "../runtime/files.ts";
import type { BlobWriter } from "./blob-writer.ts";
import { deltaName, sha256Of } from "./blobs.ts";
import { applied, deltaOf } from "./delta.ts";
import type { FileRef, PolicyRef } from "./wire.ts";

/** Bytes of one file of weights: what is lost when a transfer breaks off. */
const SHARD = 256 << 20;

const WEIGHTS = /\.safetensors$/;

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
  /** @param mirror where else they are: see `PolicyRef` */
  get(ref: FileRef, signal?: AbortSignal, mirror?: string): Promise<Uint8Array>;
  /** What leads from one file to another, where that is there; see `deltaOf`. */
  delta?(from: FileRef, to: FileRef, signal?: AbortSignal): Promise<Uint8Array | null>;
}

/** The weights of one version, to be put and, where the store was lost, put again. */
export interface PublishedPolicy extends FileSource {
  ref: PolicyRef;
  /** All of its files. */
  files: readonly FileRef[];
  /** What leads to them from the version before, by `deltaName`. */
  deltas: readonly FileRef[];
  /** Puts what the store lacks. */
  put(store: Pick<BlobWriter, "put">): Promise<void>;
}

/**
 * Makes versions of a policy: its base travels once, its adapter every time; without an adapter all of it travels, and beside it what
 * is enough for who has the version before.
 */
export class PolicyPublisher {
  private readonly wire: AdapterWire;
  private readonly deltas: boolean;
  private base: { model: object; refs: FileRef[] } | null = null;
  private last: { refs: readonly FileRef[]; files: Folder } | null = null;

  /**
   * @param wire how adapters travel; their numbers are those that it can say. Default f32
   * @param deltas whole models travel as what has changed, too. Default false
   */
  constructor(wire: AdapterWire = "f32", deltas = false) {
    this.wire = wire;
    this.deltas = deltas;
  }

  /** The policy as it is now. */
  async take(model: CausalLM | ScoreModel): Promise<PublishedPolicy> {
    const whole = model.adapter?.isMerged ? mergedBase(model) : model.adapter ? null : model;
    if (whole) {
      refuseRounded(whole);
      const files = await bytesOf(await modelFiles(whole, { maxShardSize: SHARD }));
      const refs = await refsOf(files);
      const deltas = this.deltas ? await this.deltasTo(refs, files) : new Map<FileRef, Uint8Array>();
      return publishedOf({ base: refs, adapter: null }, async ({ name }) => files.get(name), deltas);
    }
    const { baseModel } = model;
    if (!baseModel) throw new Error("an adapter without a base");
    refuseRounded(baseModel);
    const bases = async () => bytesOf(await modelFiles(baseModel, { maxShardSize: SHARD }));
    if (this.base?.model !== baseModel) this.base = { model: baseModel, refs: await refsOf(await bases()) };
    const { refs } = this.base;
    const files = await bytesOf(packedAdapter(await adapterFiles(model), this.wire));
    const adapter = await refsOf(files);
    // The base is frozen, so that it need not be kept beside its model.
    return publishedOf({ base: refs, adapter }, async (ref) =>
      adapter.includes(ref) ? files.get(ref.name) : (await bases()).get(ref.name),
    );
  }

  /** What leads to files from those of the version before. */
  private async deltasTo(refs: readonly FileRef[], files: Folder): Promise<Map<FileRef, Uint8Array>> {
    const found = new Map<FileRef, Uint8Array>();
    const { last } = this;
    this.last = { refs, files };
    for (const to of refs) {
      const from = last && changedFrom(last.refs, to);
      if (!from || from.sha256 === to.sha256) continue;
      const delta = await deltaOf(last.files.get(from.name) as Uint8Array, files.get(to.name) as Uint8Array);
      if (delta) found.set({ name: to.name, sha256: deltaName(from, to), size: delta.length }, delta);
    }
    return found;
  }
}

/** The file of weights of another version that a file is made of; undefined for files that are small, or of another size. */
const changedFrom = (refs: readonly FileRef[], { name, size }: FileRef): FileRef | undefined =>
  WEIGHTS.test(name) ? refs.find((one) => one.name === name && one.size === size) : undefined;

/** The base that has a model's adapter in its weights, where it computes what the model does. */
function mergedBase(model: CausalLM | ScoreModel): Model {
  const { adapter, baseModel } = model;
  const ownHead = "head" in model && model.head !== null;
  if (!baseModel || (adapter?.saved.length ?? 0) > 0 || ownHead) {
    throw new UserError(
      "an adapter with whole modules beside its low-rank ones (modules_to_save) cannot be sent to workers on top of its base: put " +
        "it into the base first, with webrlhf merge",
    );
  }
  return baseModel;
}

/** What workers make of files is float32. */
function refuseRounded({ store: { format } }: Model): void {
  if (format === "float32") return;
  throw new UserError(
    `weights that are stored as ${format} cannot be sent to workers: leave out dtype, load_in_4bit and the like, or the cluster`,
  );
}

function publishedOf(
  ref: PolicyRef,
  read: (ref: FileRef) => Promise<Uint8Array | undefined>,
  deltas: ReadonlyMap<FileRef, Uint8Array> = new Map(),
): PublishedPolicy {
  const files = [...ref.base, ...(ref.adapter ?? [])];
  const get = async (file: FileRef) => (await read(file)) as Uint8Array;
  return {
    ref,
    files,
    deltas: [...deltas.keys()],
    get,
    async put(store) {
      // Who finds these takes them, and the files else.
      for (const [file, bytes] of deltas) await store.put(file, async () => bytes);
      for (const file of files) await store.put(file, () => get(file));
    },
  };
}

const nameOf = (refs: readonly FileRef[]): string => refs.map(({ name, sha256 }) => `${name}:${sha256}`).join(" ");
/** Files of a model that differ from version to version; where the others are the same, a model takes the new ones over. */
const shapeOf = (refs: readonly FileRef[]): string => nameOf(refs.filter(({ name }) => !WEIGHTS.test(name)));

const LABELS: Record<HeadKind, string> = { lm: "policy", score: "reward model" };

interface Held<M> {
  refs: readonly FileRef[];
  model: M;
}

/** Weights that a worker keeps from one `runWorker` to the next, so that they need not be fetched again. */
export interface HeldWeights {
  /** Frees them; a later `runWorker` fetches them anew. */
  destroy(): void;
}

/** Makes a place for weights that outlive a call of `runWorker`; it is empty at first. */
export const holdWeights = (): HeldWeights => new HeldPolicy();

/** The model with a head of some kind. */
type WithHead<K extends HeadKind> = K extends "lm" ? CausalLM : ScoreModel;

/** The models that a worker holds: one base and one adapter on it, which take over the weights of the next version. */
export class HeldPolicy<K extends HeadKind = "lm"> implements HeldWeights {
  private readonly own: WithHead<K> | null;
  private readonly kind: K;
  private files: FileSource | null;
  private base: Held<WithHead<K>> | null = null;
  private adapter: Held<WithHead<K>> | null = null;

  /**
   * @param files where a version's files are; null where `from` says it
   * @param own the base of all adapters, where it is at hand; it stays the caller's
   * @param kind what the models are for. Default: to draw
   */
  constructor(files: FileSource | null = null, own: WithHead<K> | null = null, kind: K = "lm" as K) {
    this.files = files;
    this.kind = kind;
    this.own = own;
  }

  /** Reads the next versions from elsewhere. */
  from(files: FileSource): this {
    this.files = files;
    return this;
  }

  /** The model of a version; valid until the next call. */
  async model({ base, adapter, mirror }: PolicyRef, signal?: AbortSignal): Promise<WithHead<K>> {
    const under = adapter && this.own ? this.own : await this.baseOf(base, mirror, signal);
    if (!adapter) return under;
    if (this.adapter && nameOf(this.adapter.refs) === nameOf(adapter)) return this.adapter.model;
    const files = await this.folder(adapter, mirror, signal);
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
    const model = (await openAdapter(files, folder, under, this.kind, { label: LABELS[this.kind] })) as WithHead<K>;
    this.adapter = { refs: adapter, model };
    return model;
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

  private async baseOf(
    refs: readonly FileRef[],
    mirror: string | undefined,
    signal: AbortSignal | undefined,
  ): Promise<WithHead<K>> {
    if (this.base && nameOf(this.base.refs) === nameOf(refs)) return this.base.model;
    const files = await this.folder(refs, mirror, signal, this.base);
    if (this.base && !this.adapter && shapeOf(this.base.refs) === shapeOf(refs)) {
      const { model } = this.base;
      this.base = null;
      await restoreTrained(model, files, "m");
      this.base = { refs, model };
      return model;
    }
    this.destroy();
    const load = this.kind === "lm" ? loadCausalLM : loadScoreModel;
    const model = (await load(files, "m", LABELS[this.kind])) as WithHead<K>;
    this.base = { refs, model };
    return model;
  }

  /** @param held a version before: what its files lead to need not be fetched */
  private async folder(
    refs: readonly FileRef[],
    mirror: string | undefined,
    signal: AbortSignal | undefined,
    held: Held<WithHead<K>> | null = null,
  ) {
    if (!this.files) throw new Error("nobody has said where the weights are");
    const store: Folder = new Map();
    for (const ref of refs) {
      const known = held && mirror === undefined ? await this.changed(held, ref, signal) : null;
      store.set(ref.name, known ?? (await this.files.get(ref, signal, mirror)));
    }
    return memoryFiles(new Map([...unpackedAdapter(store)].map(([name, bytes]) => [`m/${name}`, bytes])));
  }

  /** A file as the held version's own, or by what has changed since. Null where that leads to no such file. */
  private async changed(held: Held<WithHead<K>>, to: FileRef, signal?: AbortSignal): Promise<Uint8Array | null> {
    const from = changedFrom(held.refs, to);
    if (!from) return null;
    try {
      const delta = from.sha256 === to.sha256 ? null : await this.files?.delta?.(from, to, signal);
      if (!delta && from.sha256 !== to.sha256) return null;
      const content = (await modelFiles(held.model, { maxShardSize: SHARD }))[to.name];
      const own = (await bytesOf({ [to.name]: content })).get(to.name) as Uint8Array;
      const bytes = delta ? await applied(own, delta) : own;
      return (await sha256Of(bytes)) === to.sha256 ? bytes : null;
    } catch (error) {
      signal?.throwIfAborted();
      if (deviceFailure(error)) throw error;
      return null; // the file itself is there, too
    }
  }
}
