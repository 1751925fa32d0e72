/** Asking an HTTP server in earnest: with a limit on its silence, tries anew when a failure may pass, and clear errors. */
import { UserError } from "../runtime/errors.ts";

/** How long an HTTP client waits, and how often it tries again. */
export interface HttpOptions {
  /** Sent as a bearer token. */
  apiKey?: string | null;
  /** Tries after the first, for connections that fail and answers 408, 429 and 5xx. Default 4. */
  retries?: number;
  /** For a whole answer, or between two events of a stream. Default 10 minutes. */
  timeoutMs?: number;
  /** First pause before another try; it doubles each time. Default 500. */
  backoffMs?: number;
  /** The most bytes that an answer may have, those of streams apart. Default 64 MiB. */
  largestAnswer?: number;
  fetch?: typeof fetch;
}

/** An answer that is not a success. */
export class HttpError extends UserError {
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

const LONGEST_PAUSE = 60_000;
const LARGEST_ANSWER = 64 << 20;

/** Reads a server's address. Throws `UserError` where it is none that can be asked. */
export function serverUrl(text: string): URL {
  let url: URL;
  try {
    url = new URL(text);
  } catch {
    throw new UserError(`${JSON.stringify(text)} is no URL; a server is named like http://127.0.0.1:8000`);
  }
  if (!/^https?:$/.test(url.protocol)) throw new UserError(`${text}: only http and https servers can be asked`);
  if (url.username !== "" || url.password !== "") {
    throw new UserError(`${url.origin}: leave the name and password out of the address and give the key as an option`);
  }
  return url;
}

/** Whether nobody on the way can read what is sent there: over https, or to this machine. */
export const isPrivate = ({ protocol, hostname }: URL): boolean =>
  protocol === "https:" || /^(localhost|127(\.\d{1,3}){3}|\[::1\])$/.test(hostname);

export class HttpClient {
  /** What paths are appended to; named in errors. */
  readonly base: string;
  private readonly options: HttpOptions;

  constructor(base: string, options: HttpOptions = {}) {
    this.base = base;
    const apiKey = options.apiKey?.trim();
    // `fetch` would say so with the key in its message.
    if (apiKey && /\p{Cc}/u.test(apiKey)) {
      throw new UserError(
        `the key for ${base} holds a character that cannot be sent: is it the whole key, and only that?`,
      );
    }
    this.options = { ...options, ...(apiKey !== undefined && { apiKey }) };
  }

  get timeoutMs(): number {
    return this.options.timeoutMs ?? 600_000;
  }

  /** The body of a successful answer, as text. */
  text(method: string, path: string, body: object | undefined, signal?: AbortSignal): Promise<string> {
    return this.whole(path, signal, async (limit) => this.bodyOf(await this.send(method, path, body, limit)));
  }

  async json(method: string, path: string, body: object | undefined, signal?: AbortSignal): Promise<unknown> {
    return this.whole(path, signal, async (limit) => {
      const response = await this.send(method, path, body, limit);
      const text = await this.bodyOf(response);
      try {
        return JSON.parse(text);
      } catch {
        throw new HttpError(response.status, `${this.base}${path} answered with something that is not JSON`);
      }
    });
  }

  /** One request. Throws `HttpError` for an answer that is not a success. */
  async send(method: string, path: string, body: object | undefined, signal: AbortSignal): Promise<Response> {
    const { apiKey, fetch: ask = fetch } = this.options;
    const response = await ask(this.base + path, {
      method,
      signal,
      headers: {
        ...(body && { "Content-Type": "application/json" }),
        ...(apiKey && { Authorization: `Bearer ${headerBytes(apiKey)}` }),
      },
      ...(body && { body: JSON.stringify(body) }),
    });
    if (response.ok) return response;
    // Servers repeat a key that they do not know.
    const said = await this.bodyOf(response).catch(() => "");
    const text = apiKey ? said.replaceAll(apiKey, "***") : said;
    const error = new HttpError(response.status, `${this.base}${path}: ${response.status} ${reasonIn(text)}`.trimEnd());
    throw Object.assign(error, { pauseMs: retryAfter(response) });
  }

  private bodyOf(response: Response): Promise<string> {
    return boundedText(response, this.options.largestAnswer ?? LARGEST_ANSWER, this.base);
  }

  /** Tries until it works, fails for good, or has failed often enough. */
  async persist<R>(signal: AbortSignal | undefined, attempt: () => Promise<R>): Promise<R> {
    const { retries = 4, backoffMs = 500 } = this.options;
    for (let tried = 0; ; tried++) {
      try {
        return await attempt();
      } catch (error) {
        signal?.throwIfAborted();
        if (tried >= retries || !isPassing(error)) throw explained(error, this.base);
        const asked = (error as { pauseMs?: number }).pauseMs ?? 0;
        const jitter = 0.75 + Math.random() / 2; // so that many clients do not come back at once
        await pause(Math.min(LONGEST_PAUSE, Math.max(asked, backoffMs * 2 ** tried * jitter)), signal);
      }
    }
  }

  /** A limit on the server's silence, to be cleared in the end. */
  limit(path: string, signal?: AbortSignal): TimeLimit {
    return new TimeLimit(this.timeoutMs, this.base + path, signal);
  }

  private whole<R>(path: string, signal: AbortSignal | undefined, ask: (limit: AbortSignal) => Promise<R>): Promise<R> {
    return this.persist(signal, async () => {
      const limit = this.limit(path, signal);
      try {
        return await ask(limit.signal);
      } finally {
        limit.clear();
      }
    });
  }
}

/**
 * An answer's text.
 * @param most bytes of it
 * @param asked who was asked, for the error where the answer does not say
 * @throws UserError where it is longer: nobody could hold it
 */
export async function boundedText(response: Response, most: number, asked: string): Promise<string> {
  const decoder = new TextDecoder();
  const parts: string[] = [];
  let size = 0;
  const reader = response.body?.getReader();
  for (;;) {
    const { done, value } = (await reader?.read()) ?? { done: true };
    if (done) return parts.join("") + decoder.decode();
    size += value.length;
    if (size > most) {
      await reader?.cancel();
      throw new UserError(`${response.url || asked} answered with more than ${most} bytes: is it the right server?`);
    }
    parts.push(decoder.decode(value, { stream: true }));
  }
}

/** Milliseconds that an answer asks to wait before the next try; 0 where it asks for none, or for a date. */
export function retryAfter(response: Response): number {
  const seconds = Number(response.headers.get("retry-after"));
  return Number.isFinite(seconds) && seconds > 0 ? Math.min(LONGEST_PAUSE, seconds * 1000) : 0;
}

/** A text as a header's value: `fetch` sends each character as one byte, and the bytes are to be those of UTF-8. */
const headerBytes = (text: string): string => String.fromCharCode(...new TextEncoder().encode(text));

/** Aborts when the caller does, or when nothing has come for too long. */
export class TimeLimit {
  private readonly controller = new AbortController();
  private readonly outer: AbortSignal | undefined;
  private readonly ms: number;
  private readonly url: string;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private readonly onAbort = () => this.controller.abort(this.outer?.reason);

  constructor(ms: number, url: string, outer?: AbortSignal) {
    this.ms = ms;
    this.url = url;
    this.outer = outer;
    if (outer?.aborted) this.onAbort();
    else outer?.addEventListener("abort", this.onAbort, { once: true });
    this.restart();
  }

  get signal(): AbortSignal {
    return this.controller.signal;
  }

  restart(): void {
    clearTimeout(this.timer);
    const late = () =>
      this.controller.abort(new UserError(`${this.url}: the server said nothing for ${this.ms / 1000} s`));
    this.timer = setTimeout(late, this.ms);
  }

  clear(): void {
    clearTimeout(this.timer);
    this.outer?.removeEventListener("abort", this.onAbort);
  }
}

/** Errors that may pass by themselves. */
const isPassing = (error: unknown): boolean =>
  error instanceof HttpError
    ? error.status === 408 || error.status === 429 || error.status >= 500
    : error instanceof TypeError; // what `fetch` throws when there is no connection

function explained(error: unknown, base: string): unknown {
  if (!(error instanceof TypeError)) return error;
  const cause = (error.cause as { code?: string; message?: string } | undefined) ?? {};
  const why = cause.code ?? cause.message ?? error.message;
  return new UserError(`${base} cannot be reached (${why}): is the server running there?`, { cause: error });
}

function reasonIn(text: string): string {
  try {
    const { error, message, detail } = JSON.parse(text) as { error?: unknown; message?: string; detail?: unknown };
    if (typeof error === "string") return error;
    return (error as { message?: string } | undefined)?.message ?? message ?? JSON.stringify(detail ?? {});
  } catch {
    return text.slice(0, 200);
  }
}

/** Resolves after so many milliseconds; rejects with the signal's reason when that fires. */
export function pause(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, ms);
    if (signal?.aborted) stop();
    else signal?.addEventListener("abort", stop, { once: true });
  });
}
