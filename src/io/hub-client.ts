/** What is asked of a Hugging Face hub over HTTP. */
import { UserError } from "../runtime/errors.ts";
import { type OpenFile, urlFile } from "../runtime/open.ts";
import { pause } from "./http.ts";
import type { Download, HubOptions, Repo } from "./hub-store.ts";

export interface HubFile {
  /** Path within the repository. */
  name: string;
  size: number;
  /** sha256 of a large file, git's sha1 of a small one; also the name of its blob in the cache. */
  hash: string;
  large: boolean;
}

const TRIES = 4;
/** A body that stands still for so long is given up, and asked for again. */
const STALL_MS = 60_000;
/** The most bytes that a page of a list of files may have. */
const LARGEST_LIST = 32 << 20;

export class HubClient {
  private readonly endpoint: string;
  private readonly options: HubOptions;

  constructor(options: HubOptions) {
    this.endpoint = (options.endpoint ?? "https://huggingface.co").replace(/\/+$/, "");
    this.options = options;
  }

  /** The commit that a revision stands for. */
  async commitOf(repo: Repo): Promise<string> {
    const { sha } = (await this.json(repo, `revision/${encodeURIComponent(repo.revision)}`)) as { sha?: unknown };
    if (typeof sha !== "string" || !/^[0-9a-f]{40}$/.test(sha)) throw this.unexpected("names no commit");
    return sha;
  }

  /** All files of a commit. */
  async list(repo: Repo, commit: string): Promise<HubFile[]> {
    const files: HubFile[] = [];
    let path: string | null = `tree/${commit}?recursive=true`;
    for (let page = 0; path !== null; page++) {
      if (page > 1000) throw this.unexpected("lists files without end");
      const { value, next } = await this.page(repo, path);
      if (!Array.isArray(value)) throw this.unexpected("lists no files");
      // Names that could lead elsewhere are not taken; no model or dataset needs them.
      for (const entry of value) {
        if (entry?.type === "file" && isSafeName(String(entry.path))) files.push(this.file(entry));
      }
      path = next;
    }
    return files;
  }

  /** Loads a file into a download, going on where it stands, until it is whole. */
  async load(
    repo: Repo,
    commit: string,
    file: HubFile,
    download: Download,
    onProgress: (received: number) => void,
  ): Promise<void> {
    const url = this.urlOf(repo, commit, file);
    let failures = 0;
    while (download.size < file.size) {
      const before = download.size;
      try {
        await this.loadRest(url, file, download, onProgress);
        if (download.size < file.size) throw new TypeError(`the connection ended after ${download.size} bytes`);
      } catch (error) {
        if (error instanceof UserError || this.options.signal?.aborted) throw error;
        failures = download.size > before ? 0 : failures + 1;
        if (failures >= TRIES) throw this.unreachable(error as Error);
        await pause((this.options.retryMs ?? 200) * 3 ** (failures - 1), this.options.signal);
      }
    }
    if (download.size > file.size) {
      await download.restart();
      throw new UserError(
        `${repo.id}: ${file.name} is longer than the ${file.size} bytes that the hub lists; try again`,
      );
    }
  }

  /** Opens a file where it is: what is read of it is fetched, and nothing kept. */
  async open(repo: Repo, commit: string, file: HubFile): Promise<OpenFile> {
    const request = (url: RequestInfo | URL, init?: RequestInit) =>
      this.request(String(url), init?.headers as Record<string, string>, AbortSignal.timeout(STALL_MS));
    const opened = await urlFile(this.urlOf(repo, commit, file), request).catch((error: Error) => {
      throw error instanceof UserError || this.options.signal?.aborted ? error : this.unreachable(error);
    });
    if (!opened) throw this.unexpected(`has no ${file.name} any more`);
    return opened;
  }

  private urlOf(repo: Repo, commit: string, file: HubFile): string {
    const prefix = repo.kind === "datasets" ? "datasets/" : "";
    const name = file.name.split("/").map(encodeURIComponent).join("/");
    return `${this.endpoint}/${prefix}${repo.id}/resolve/${commit}/${name}`;
  }

  private async loadRest(url: string, file: HubFile, download: Download, onProgress: (received: number) => void) {
    const stalled = new AbortController();
    const stop = () => stalled.abort(new TypeError(`nothing came for ${STALL_MS / 1000} seconds`));
    let timer = setTimeout(stop, STALL_MS);
    try {
      const headers: Record<string, string> = download.size > 0 ? { Range: `bytes=${download.size}-` } : {};
      const response = await this.request(url, headers, stalled.signal);
      const from = /^bytes (\d+)-/.exec(response.headers.get("content-range") ?? "")?.[1];
      if (response.status === 416 || (response.status === 206 && Number(from) !== download.size)) {
        await response.body?.cancel();
        return await download.restart();
      }
      // A server that knows no ranges sends the whole again.
      if (response.status !== 206 && download.size > 0) await download.restart();
      const reader = (response.body as ReadableStream<Uint8Array>).getReader();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return;
        clearTimeout(timer);
        timer = setTimeout(stop, STALL_MS);
        await download.write(value);
        onProgress(download.size);
        if (download.size > file.size) return await reader.cancel();
      }
    } finally {
      clearTimeout(timer);
    }
  }

  private async json(repo: Repo, path: string): Promise<unknown> {
    return (await this.page(repo, path)).value;
  }

  private async page(repo: Repo, path: string): Promise<{ value: unknown; next: string | null }> {
    const base = `${this.endpoint}/api/${repo.kind}/${repo.id}/`;
    for (let failures = 1; ; failures++) {
      try {
        const response = await this.request(base + path, {}, AbortSignal.timeout(this.options.timeoutMs ?? STALL_MS));
        const value = await this.jsonOf(response);
        const next = /<([^>]*)>;\s*rel="next"/.exec(response.headers.get("link") ?? "")?.[1];
        // Only the query is taken over: where to ask is not for the answer to say.
        const query = next?.includes("?") ? next.slice(next.indexOf("?")) : null;
        return { value, next: query === null ? null : path.split("?")[0] + query };
      } catch (error) {
        if (error instanceof UserError || this.options.signal?.aborted) throw error;
        if (failures >= TRIES) throw this.unreachable(error as Error);
        await pause((this.options.retryMs ?? 200) * 3 ** (failures - 1), this.options.signal);
      }
    }
  }

  /** An answer's JSON. Nobody sends more than `LARGEST_LIST` bytes of it in earnest. */
  private async jsonOf(response: Response): Promise<unknown> {
    const chunks: Uint8Array[] = [];
    let size = 0;
    const reader = response.body?.getReader();
    for (;;) {
      const { done, value } = (await reader?.read()) ?? { done: true };
      if (done) break;
      size += value.length;
      if (size > LARGEST_LIST) {
        await reader?.cancel();
        throw this.unexpected(`answers with more than ${LARGEST_LIST >> 20} MiB`);
      }
      chunks.push(value);
    }
    try {
      return JSON.parse(await new Blob(chunks as BlobPart[]).text());
    } catch {
      throw this.unexpected("does not answer in JSON");
    }
  }

  /** One request; the token goes to the hub only, not to where it redirects. Answers that say no become UserErrors. */
  private async request(url: string, headers: Record<string, string>, stalled?: AbortSignal): Promise<Response> {
    const { token, signal } = this.options;
    const signals = [signal, stalled].filter((one) => one !== undefined);
    const response = await (this.options.fetch ?? fetch)(url, {
      headers: { ...headers, ...(token && { Authorization: `Bearer ${token}` }) },
      ...(signals.length > 0 && { signal: AbortSignal.any(signals) }),
    });
    if (response.ok || response.status === 416) return response;
    const reason = response.headers.get("x-error-message") ?? (await response.text().catch(() => "")).slice(0, 200);
    if (response.status === 429 || response.status >= 500) throw new TypeError(`HTTP status ${response.status}`);
    throw new UserError(this.refusal(response.status, reason));
  }

  private refusal(status: number, reason: string): string {
    const said = reason && !reason.trimStart().startsWith("<") ? ` (${reason.trim()})` : "";
    if (status === 401) {
      const how = this.options.token
        ? "HF_TOKEN is not accepted"
        : "it does not exist, or it is private and HF_TOKEN is not set";
      return `${this.endpoint} refuses it: ${how}${said}`;
    }
    if (status === 403)
      return `${this.endpoint} refuses it: ask for access on its page, with the account of HF_TOKEN${said}`;
    if (status === 404) return `${this.endpoint} has no such repository, revision or file${said}`;
    return `${this.endpoint} answers with HTTP status ${status}${said}`;
  }

  private file(entry: {
    path?: unknown;
    size?: unknown;
    oid?: unknown;
    lfs?: { oid?: unknown; size?: unknown };
  }): HubFile {
    const large = entry.lfs !== undefined && entry.lfs !== null;
    const hash = String(large ? entry.lfs?.oid : entry.oid).replace(/^sha256:/, "");
    const size = Number(large ? (entry.lfs?.size ?? entry.size) : entry.size);
    const name = String(entry.path);
    if (!(large ? /^[0-9a-f]{64}$/ : /^[0-9a-f]{40}$/).test(hash) || !Number.isSafeInteger(size) || size < 0) {
      throw this.unexpected(`lists ${name} without size and hash`);
    }
    return { name, size, hash, large };
  }

  private unreachable(error: Error): UserError {
    const cause =
      error.cause instanceof Error ? error.cause.message || String((error.cause as { code?: string }).code) : "";
    return new UserError(`${this.endpoint} cannot be reached: ${error.message}${cause && `, ${cause}`}`, {
      cause: error,
    });
  }

  private unexpected(what: string): UserError {
    return new UserError(`${this.endpoint} ${what}; is it a Hugging Face hub?`);
  }
}

/** A relative path that stays below its folder on every system. */
export function isSafeName(name: string): boolean {
  if (name === "" || name.length > 1000 || /[\\<>:"|?*\p{Cc}]/u.test(name)) return false;
  return name.split("/").every((part) => part !== "" && part !== "." && part !== ".." && !/[ .]$/.test(part));
}
