/** A directory handle in memory, as far as the hub's store for browsers uses it. Writing shows when a stream is closed. */

class NotFound extends Error {
  override readonly name = "NotFoundError";
}

class FakeFile {
  readonly kind = "file";
  content = new Blob([]);

  async getFile(): Promise<Blob> {
    return this.content;
  }

  async createWritable() {
    const parts: Blob[] = [];
    return {
      write: async (part: Blob) => void parts.push(part),
      close: async () => {
        this.content = new Blob(parts);
      },
      abort: async () => {},
    };
  }
}

export class FakeDirectory {
  readonly kind = "directory";
  readonly entries = new Map<string, FakeDirectory | FakeFile>();

  async getDirectoryHandle(name: string, { create = false } = {}): Promise<FakeDirectory> {
    return this.get(name, "directory", create ? () => new FakeDirectory() : null) as FakeDirectory;
  }

  async getFileHandle(name: string, { create = false } = {}): Promise<FakeFile> {
    return this.get(name, "file", create ? () => new FakeFile() : null) as FakeFile;
  }

  async removeEntry(name: string): Promise<void> {
    if (!this.entries.delete(name)) throw new NotFound(name);
  }

  private get(name: string, kind: string, make: (() => FakeDirectory | FakeFile) | null): FakeDirectory | FakeFile {
    if (name === "" || name === "." || name === ".." || /[\\/]/.test(name)) throw new TypeError(`bad name ${name}`);
    let entry = this.entries.get(name);
    if (!entry && make) {
      entry = make();
      this.entries.set(name, entry);
    }
    if (!entry || entry.kind !== kind) throw new NotFound(name);
    return entry;
  }
}
