/**
 * Puts files into a repository of a Hugging Face hub by its HTTP interface: the repository is made, the hub says which files are large,
 * these go to its store (Git LFS's batch protocol, in parts where the store wants that), and one commit, which comes last, names
 * all of them. What breaks off before leaves the repository as it was.
 */

import { toBase64 } from "../runtime/base64.ts";
import { UserError } from "../runtime/errors.ts";
import type { OpenFile } from "../runtime/open.ts";
import { hasher } from "../runtime/sha256.ts";
import { boundedText, isPrivate, pause, retryAfter, serverUrl } from "./http.ts";

/** A file to upload. */
export interface UploadedFile {
  /** Its path in the repository. */
  path: string;
  size: number;
  open(): Promise<OpenFile>;
}

/** How a hub is reached that is written to. */
export interface HubUploadOptions {
  /** Default https://huggingface.co. */
  endpoint?: string | undefined;
  token: string;
  fetch?: typeof fetch;
  /** First pause before another try, in milliseconds. Default 500. */
  retryMs?: number;
  /** Hears which large file is on its way, and how much of it is there. */
  onProgress?: (path: string, done: number, total: number) => void;
  signal?: AbortSignal | undefined;
}

const TRIES = 5;
/** Bytes that are read, and held, at a time. */
const PIECE = 8 << 20;
const LONGEST_SAID = 300;
const LARGEST_ANSWER = 16 << 20;
const JSON_TYPE = "application/json";
const LFS_TYPE = "application/vnd.git-lfs+json";

/** A file as the store names it. */
interface Large {
  file: UploadedFile;
  oid: string;
}

interface Action {
  href: string;
  header?: Record<string, string>;
}

/** A commit that the hub may have made, though it did not say so. */
export class UncertainCommit extends UserError {}

/** An answer that says no. */
class Refused extends UserError {
  readonly status: number;
  /** How long it asks to wait before the next try. */
  readonly pauseMs: number;

  constructor(status: number, message: string, pauseMs: number) {
    super(message);
    this.status = status;
    this.pauseMs = pauseMs;
  }
}

/** Writes to a hub. */
export class HubUpload {
  readonly endpoint: string;
  private readonly options: HubUploadOptions;

  /** @throws UserError where somebody on the way could read the token */
  constructor(options: HubUploadOptions) {
    this.endpoint = (options.endpoint ?? "https://huggingface.co").replace(/\/+$/, "");
    this.options = options;
    if (isPrivate(serverUrl(this.endpoint))) return;
    throw new UserError(`${this.endpoint} would get the token for everybody on the way to read: use https`);
  }

  /** The name of the token's account. */
  async account(): Promise<string> {
    const { name } = (await this.json("GET", "/api/whoami-v2")) as { name?: unknown };
    if (typeof name === "string" && name !== "") return name;
    throw new UserError(`${this.endpoint} does not say whose the token is; is it a Hugging Face hub?`);
  }

  /** Makes a model's repository, where there is none yet; null leaves to the hub who sees it. */
  async makeRepo(id: string, hidden: boolean | null): Promise<void> {
    const [organization, name] = id.split("/");
    try {
      await this.json("POST", "/api/repos/create", {
        type: "model",
        name,
        organization,
        ...(hidden !== null && { private: hidden }),
      });
    } catch (error) {
      if (!(error instanceof Refused) || error.status !== 409) throw error;
    }
  }

  /**
   * Uploads files as one commit of the branch main.
   * @returns the commit's address
   */
  async push(id: string, files: readonly UploadedFile[], summary: string): Promise<string> {
    const modes = await this.modesOf(id, files);
    const large: Large[] = [];
    const lines: object[] = [{ key: "header", value: { summary, description: "" } }];
    for (const file of files) {
      if (modes.get(file.path) !== "lfs") {
        lines.push({
          key: "file",
          value: { path: file.path, encoding: "base64", content: toBase64(await whole(file)) },
        });
        continue;
      }
      const oid = await sha256Of(file);
      large.push({ file, oid });
      lines.push({ key: "lfsFile", value: { path: file.path, algo: "sha256", oid, size: file.size } });
    }
    await this.store(id, large);
    const body = lines.map((line) => `${JSON.stringify(line)}\n`).join("");
    const url = `${this.endpoint}/api/models/${id}/commit/main`;
    const asked = { method: "POST", body, type: "application/x-ndjson", once: true };
    const answer = await this.answer(url, asked).catch((error: Error) => {
      if (error instanceof Refused && error.status < 500) throw error;
      throw new UncertainCommit(error.message, { cause: error });
    });
    const { commitUrl } = answer as { commitUrl?: unknown };
    return typeof commitUrl === "string" ? commitUrl : `${this.endpoint}/${id}`;
  }

  /** Which files the hub takes as large ones. */
  private async modesOf(id: string, files: readonly UploadedFile[]): Promise<Map<string, string>> {
    const modes = new Map<string, string>();
    for (let at = 0; at < files.length; at += 256) {
      const asked = await Promise.all(
        files.slice(at, at + 256).map(async (file) => ({
          path: file.path,
          size: file.size,
          sample: toBase64(await reading(file, (opened) => opened.read(0, 512))),
        })),
      );
      const { files: found } = (await this.json("POST", `/api/models/${id}/preupload/main`, { files: asked })) as {
        files?: { path?: unknown; uploadMode?: unknown }[];
      };
      if (!Array.isArray(found)) throw this.strange("does not say how it takes the files");
      for (const { path, uploadMode } of found) modes.set(String(path), String(uploadMode));
    }
    const missing = files.find(({ path }) => !modes.has(path));
    if (missing) throw this.strange(`does not say how it takes ${missing.path}`);
    return modes;
  }

  /** Brings large files to the store. What it has already is not sent. */
  private async store(id: string, large: readonly Large[]): Promise<void> {
    for (let at = 0; at < large.length; at += 100) {
      const part = large.slice(at, at + 100);
      const body = JSON.stringify({
        operation: "upload",
        transfers: ["basic", "multipart"],
        hash_algo: "sha256",
        ref: { name: "main" },
        objects: part.map(({ oid, file }) => ({ oid, size: file.size })),
      });
      const url = `${this.endpoint}/${id}.git/info/lfs/objects/batch`;
      const answer = (await this.answer(url, { method: "POST", body, type: LFS_TYPE })) as {
        objects?: { oid?: unknown; error?: { message?: unknown }; actions?: { upload?: Action; verify?: Action } }[];
      };
      for (const one of part) {
        const told = answer.objects?.find(({ oid }) => oid === one.oid);
        if (!told) throw this.strange(`says nothing of ${one.file.path}`);
        if (told.error) throw new UserError(`${this.endpoint} refuses ${one.file.path}: ${said(told.error.message)}`);
        const { upload, verify } = told.actions ?? {};
        if (upload) await this.send(one, upload);
        this.options.onProgress?.(one.file.path, one.file.size, one.file.size);
        if (!verify) continue;
        const verified = {
          method: "POST",
          body: JSON.stringify({ oid: one.oid, size: one.file.size }),
          type: LFS_TYPE,
        };
        await this.answer(this.sendable(verify.href), { ...verified, headers: verify.header ?? {} });
      }
    }
  }

  /** Sends a large file: as a whole, or in the parts that the store gives addresses for. */
  private async send({ file, oid }: Large, { href, header = {} }: Action): Promise<void> {
    const chunk = Number(header.chunk_size);
    if (!Number.isSafeInteger(chunk) || chunk <= 0) {
      const range = { file, from: 0, size: file.size };
      await this.request(this.sendable(href), { method: "PUT", range, headers: header });
      return;
    }
    const urls = Object.entries(header)
      .filter(([key]) => /^\d+$/.test(key))
      .sort(([a], [b]) => Number(a) - Number(b));
    if (urls.length !== Math.ceil(file.size / chunk)) {
      throw this.strange(`gives ${urls.length} addresses for ${Math.ceil(file.size / chunk)} parts of ${file.path}`);
    }
    const parts: { partNumber: number; etag: string }[] = [];
    for (const [i, [number, url]] of urls.entries()) {
      const range = { file, from: i * chunk, size: Math.min(chunk, file.size - i * chunk) };
      const response = await this.request(this.sendable(url), { method: "PUT", range });
      const etag = response.headers.get("etag");
      if (!etag) throw this.strange(`does not acknowledge part ${number} of ${file.path}`);
      parts.push({ partNumber: Number(number), etag });
      this.options.onProgress?.(file.path, range.from + range.size, file.size);
    }
    await this.answer(this.sendable(href), { method: "POST", body: JSON.stringify({ oid, parts }), type: LFS_TYPE });
  }

  /** An address that the hub named. */
  private sendable(href: string): string {
    if (URL.canParse(href) && isPrivate(new URL(href))) return href;
    throw this.strange("names an address for a file that is neither https nor on this machine");
  }

  private json(method: string, path: string, body?: object): Promise<unknown> {
    return this.answer(this.endpoint + path, { method, type: JSON_TYPE, ...(body && { body: JSON.stringify(body) }) });
  }

  private async answer(url: string, asked: Asked): Promise<unknown> {
    const text = await boundedText(await this.request(url, asked), LARGEST_ANSWER, this.endpoint);
    try {
      return text === "" ? {} : JSON.parse(text);
    } catch {
      throw this.strange("does not answer in JSON");
    }
  }

  /** One request, tried anew where a failure may pass. The token goes to the hub itself alone. */
  private async request(
    url: string,
    { method, body, type, headers = {}, range, once = false }: Asked,
  ): Promise<Response> {
    const { token, signal, fetch: ask = fetch, retryMs = 500 } = this.options;
    const own = new URL(url).origin === new URL(this.endpoint).origin;
    for (let tried = 1; ; tried++) {
      signal?.throwIfAborted();
      try {
        const response = await ask(url, {
          method,
          redirect: "manual", // where to write is not for the answer to say
          headers: {
            ...headers,
            ...(type && { "Content-Type": type, Accept: type === LFS_TYPE ? LFS_TYPE : JSON_TYPE }),
            ...(own && { Authorization: `Bearer ${token}` }),
            ...(range && { "Content-Length": String(range.size) }),
          },
          ...(body !== undefined && { body }),
          ...(range && { body: await bodyOf(range), duplex: "half" }),
          ...(signal && { signal }),
        } as RequestInit);
        if (response.ok) return response;
        const text = await boundedText(response, LARGEST_ANSWER, url).catch(() => "");
        const reason = (response.headers.get("x-error-message") ?? text).replaceAll(token, "***");
        const who = own ? this.endpoint : new URL(url).host;
        throw new Refused(response.status, this.refusal(who, response.status, reason), retryAfter(response));
      } catch (error) {
        if (signal?.aborted) throw error;
        const passing =
          error instanceof Refused ? error.status === 429 || error.status >= 500 : !(error instanceof UserError);
        if (!passing || once || tried >= TRIES) throw this.told(error as Error, url);
        await pause(Math.max(error instanceof Refused ? error.pauseMs : 0, retryMs * 2 ** (tried - 1)), signal);
      }
    }
  }

  private told(error: Error, url: string): Error {
    if (error instanceof UserError) return error;
    const cause = error.cause instanceof Error ? `, ${error.cause.message}` : "";
    return new UserError(`${new URL(url).host} cannot be reached: ${error.message}${cause}`, { cause: error });
  }

  private refusal(host: string, status: number, reason: string): string {
    const because = reason.trimStart().startsWith("<") || reason === "" ? "" : ` (${said(reason)})`;
    if (status === 401) return `${host} does not accept the token${because}`;
    if (status === 403) return `${host} does not let the token write there: it needs the right to write${because}`;
    return `${host} answers with HTTP status ${status}${because}`;
  }

  private strange(what: string): UserError {
    return new UserError(`${this.endpoint} ${what}; is it a Hugging Face hub?`);
  }
}

interface Range {
  file: UploadedFile;
  from: number;
  size: number;
}

interface Asked {
  method: string;
  body?: string;
  type?: string;
  headers?: Record<string, string>;
  range?: Range;
  /** Not to be done twice. */
  once?: boolean;
}

const said = (text: unknown): string => String(text).trim().slice(0, LONGEST_SAID);

async function reading<R>(file: UploadedFile, read: (opened: OpenFile) => Promise<R>): Promise<R> {
  const opened = await file.open();
  try {
    return await read(opened);
  } finally {
    await opened.close();
  }
}

const whole = (file: UploadedFile): Promise<Uint8Array> => reading(file, (opened) => opened.read(0, file.size));

const sha256Of = (file: UploadedFile): Promise<string> =>
  reading(file, async (opened) => {
    const hash = await hasher();
    for (let at = 0; at < file.size; at += PIECE) hash.add(await opened.read(at, Math.min(PIECE, file.size - at)));
    return hash.end();
  });

/** The bytes of a part: those of a small one at once, of a large one as they are asked for. */
async function bodyOf({ file, from, size }: Range): Promise<BodyInit> {
  if (size <= PIECE) return (await reading(file, (opened) => opened.read(from, size))) as BodyInit;
  const opened = await file.open();
  let at = from;
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      const piece = at < from + size ? await opened.read(at, Math.min(PIECE, from + size - at)) : new Uint8Array();
      at += piece.length;
      if (piece.length > 0) return controller.enqueue(piece);
      await opened.close();
      controller.close();
    },
    cancel: () => opened.close(),
  });
}
