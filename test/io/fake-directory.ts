/**
 * A browser's directory handle in memory. Writing shows when a stream is closed, as in a browser; a file that was replaced
 * cannot be read through what was got before.
 */

export class Failure extends Error {
  constructor(name: string, message = name) {
    super(message);
    this.name = name;
  }
}

/** How the storage behaves; shared by all handles of one. */
export interface Storage {
  /** Changes until the page is gone: from then on nothing happens any more. */
  lives?: number;
  /** Bytes that fit into one file. */
  room?: number;
  /** Whether files can be renamed. */
  moves?: boolean;
  /** "sync": as in a worker of a browser without streams; "both": as in other workers. */
  writes?: "stream" | "sync" | "both";
  /** The error of everything, e.g. "NotAllowedError". */
  fails?: string;
}

function change(storage: Storage): void {
  if (storage.fails) throw new Failure(storage.fails);
  if (storage.lives !== undefined && storage.lives-- <= 0) throw new Failure("Gone", "the page is gone");
}

class FakeFile {
  readonly kind = "file";
  name: string;
  content = new Blob([]);
  readonly storage: Storage;
  parent: FakeDirectory;
  createWritable?: (options?: { keepExistingData?: boolean }) => Promise<object>;
  createSyncAccessHandle?: () => Promise<object>;
  move?: (folder: FakeDirectory, name: string) => Promise<void>;

  constructor(parent: FakeDirectory, name: string) {
    this.parent = parent;
    this.name = name;
    this.storage = parent.storage;
    const { writes = "stream", moves = true } = this.storage;
    if (writes !== "sync") this.createWritable = (options) => this.stream(options);
    if (writes !== "stream") this.createSyncAccessHandle = () => this.access();
    if (moves) this.move = (folder, name) => this.moveTo(folder, name);
  }

  async getFile(): Promise<Blob> {
    if (this.storage.fails) throw new Failure(this.storage.fails);
    return this.content;
  }

  private check(size: number): void {
    if (size > (this.storage.room ?? Number.POSITIVE_INFINITY)) throw new Failure("QuotaExceededError");
  }

  private async stream({ keepExistingData = false } = {}) {
    change(this.storage);
    let next = keepExistingData ? this.content : new Blob([]);
    return {
      write: async (part: BlobPart | { position: number; data: BlobPart }) => {
        if (typeof part === "object" && "position" in part) {
          if (part.position !== next.size) throw new Error("only at the end");
          next = new Blob([next, part.data]);
        } else next = new Blob([next, part]);
        this.check(next.size);
      },
      close: async () => {
        change(this.storage);
        this.content = next;
      },
      abort: async () => {},
    };
  }

  private async access() {
    change(this.storage);
    let bytes = new Uint8Array(await this.content.arrayBuffer());
    return {
      getSize: () => bytes.length,
      truncate: (size: number) => {
        bytes = bytes.slice(0, size);
        this.content = new Blob([bytes]);
      },
      write: (part: Uint8Array, { at }: { at: number }) => {
        change(this.storage);
        this.check(at + part.length);
        const next = new Uint8Array(Math.max(bytes.length, at + part.length));
        next.set(bytes);
        next.set(part, at);
        bytes = next;
        this.content = new Blob([bytes]);
        return part.length;
      },
      flush: () => {},
      close: () => {},
    };
  }

  private async moveTo(folder: FakeDirectory, name: string): Promise<void> {
    change(this.storage);
    if (folder.children.get(name)?.kind === "directory") throw new Failure("InvalidModificationError");
    this.parent.children.delete(this.name);
    folder.children.set(name, this);
    [this.parent, this.name] = [folder, name];
  }
}

export class FakeDirectory {
  readonly kind = "directory";
  readonly children = new Map<string, FakeDirectory | FakeFile>();
  readonly storage: Storage;
  readonly name: string;

  constructor(storage: Storage = {}, name = "") {
    this.storage = storage;
    this.name = name;
  }

  async getDirectoryHandle(name: string, { create = false } = {}): Promise<FakeDirectory> {
    return this.get(name, "directory", create ? () => new FakeDirectory(this.storage, name) : null) as FakeDirectory;
  }

  async getFileHandle(name: string, { create = false } = {}): Promise<FakeFile> {
    return this.get(name, "file", create ? () => new FakeFile(this, name) : null) as FakeFile;
  }

  async removeEntry(name: string, { recursive = false } = {}): Promise<void> {
    const entry = this.children.get(name);
    if (!entry) throw new Failure("NotFoundError", name);
    if (entry.kind === "directory" && entry.children.size > 0) {
      if (!recursive) throw new Failure("InvalidModificationError", name);
      // A browser deletes one after another: a page that goes in the middle leaves some.
      for (const inner of [...entry.children.keys()]) await entry.removeEntry(inner, { recursive });
    }
    change(this.storage);
    this.children.delete(name);
  }

  async *keys(): AsyncGenerator<string> {
    if (this.storage.fails) throw new Failure(this.storage.fails);
    yield* [...this.children.keys()];
  }

  async *entries(): AsyncGenerator<[string, FakeDirectory | FakeFile]> {
    yield* [...this.children.entries()];
  }

  private get(name: string, kind: string, make: (() => FakeDirectory | FakeFile) | null): FakeDirectory | FakeFile {
    if (this.storage.fails) throw new Failure(this.storage.fails);
    if (name === "" || name === "." || name === ".." || /[\\/]/.test(name)) throw new TypeError("Name is not allowed.");
    let entry = this.children.get(name);
    if (!entry && make) {
      change(this.storage);
      entry = make();
      this.children.set(name, entry);
    }
    if (!entry) throw new Failure("NotFoundError", name);
    if (entry.kind !== kind) throw new Failure("TypeMismatchError", name);
    return entry;
  }
}

/** An empty folder such as a page gets from a browser. */
export const fakeDirectory = (storage: Storage = {}): FileSystemDirectoryHandle =>
  new FakeDirectory(storage) as unknown as FileSystemDirectoryHandle;
