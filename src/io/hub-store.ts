/** What the hub's parts share: which repository is meant, how it is fetched, and where downloads are kept. */

/** A repository of the hub at a revision. */
export interface Repo {
  kind: "models" | "datasets";
  /** "org/name", or a name alone. */
  id: string;
  revision: string;
  /** Of many GGUF files the one that is meant: its path, or its kind of quantization ("Q4_K_M"). */
  file?: string;
}

/** A file on its way into the store. */
export interface Download {
  /** Bytes that are there already. */
  readonly size: number;
  write(bytes: Uint8Array): Promise<void>;
  /** Throws away what is there. */
  restart(): Promise<void>;
  /** The hash of all bytes in hexadecimal; git's has the header "blob <size>\0" before them. */
  hash(kind: "sha256" | "git-sha1"): Promise<string>;
  /** Gives the file its name. */
  finish(): Promise<void>;
  /** Leaves it to be gone on with later. */
  leave(): Promise<void>;
}

/** Where downloads are kept: the standard cache on disk, or a browser's private files. */
export interface HubStore {
  /** For messages. */
  readonly where: string;
  commitOf(repo: Repo): Promise<string | null>;
  writeCommit(repo: Repo, commit: string): Promise<void>;
  /** The path under which the files of a commit are found. */
  folder(repo: Repo, commit: string): string;
  /** Names of the files of a commit that are there, in subfolders too. */
  names(repo: Repo, commit: string): Promise<string[]>;
  read(repo: Repo, commit: string, name: string): Promise<Uint8Array | null>;
  hasBlob(repo: Repo, etag: string): Promise<boolean>;
  /** Waits where another page loads the same file; `signal` ends the waiting. */
  download(repo: Repo, etag: string, signal?: AbortSignal): Promise<Download>;
  /**
   * Told once before so many bytes are loaded. Gives what is worth knowing of it, or null.
   * @throws UserError where there is no room for them
   */
  reserve?(bytes: number): Promise<string | null>;
  /** Gives a stored blob a name within a commit. */
  link(repo: Repo, commit: string, name: string, etag: string): Promise<void>;
}

/** How models and datasets are fetched. */
export interface HubOptions {
  store: HubStore;
  /** Never use the network. */
  offline?: boolean;
  /** Default https://huggingface.co. */
  endpoint?: string;
  token?: string | null;
  signal?: AbortSignal;
  onProgress?: (file: string, received: number, total: number) => void;
  /** Hears what is worth knowing, a line at a time. */
  say?: (line: string) => void;
  fetch?: typeof fetch;
  /** Milliseconds before the first repetition of a request that failed, three times as many before the next; default 200. */
  retryMs?: number;
  /** For the answer to a question about a repository. Default: a minute. */
  timeoutMs?: number;
}
