/** A client for servers that speak OpenAI's HTTP interface: vLLM, llama.cpp, `webrlhf serve` and others. */
import { UserError } from "../runtime/errors.ts";
import type { ChatChunk, ChatResponse, CompletionResponse, ErrorBody } from "./openai-types.ts";
import { serverSentEvents } from "./sse.ts";

export interface OpenAIClientOptions {
  /** "http://127.0.0.1:8000", with or without "/v1". */
  baseUrl: string;
  apiKey?: string | null;
  /** Tries after the first, for connections that fail and answers 408, 429 and 5xx. Default 4. */
  retries?: number;
  /** For a whole answer, or between two events of a stream. Default 10 minutes. */
  timeoutMs?: number;
  /** First pause before another try; it doubles each time. Default 500. */
  backoffMs?: number;
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

export class OpenAIClient {
  private readonly base: string;
  private readonly options: OpenAIClientOptions;

  constructor(options: OpenAIClientOptions) {
    let url: URL;
    try {
      url = new URL(options.baseUrl);
    } catch {
      throw new UserError(`${JSON.stringify(options.baseUrl)} is no URL; a server is named like http://127.0.0.1:8000`);
    }
    if (!/^https?:$/.test(url.protocol))
      throw new UserError(`${options.baseUrl}: only http and https servers can be asked`);
    const path = url.pathname.replace(/\/+$/, "");
    this.base = `${url.origin}${path === "" ? "/v1" : path}`;
    this.options = options;
  }

  /** Names of the server's models. */
  async models(signal?: AbortSignal): Promise<string[]> {
    const { data } = (await this.json("GET", "/models", undefined, signal)) as { data?: { id: string }[] };
    return (data ?? []).map(({ id }) => id);
  }

  completion(body: object, signal?: AbortSignal): Promise<CompletionResponse> {
    return this.json("POST", "/completions", body, signal) as Promise<CompletionResponse>;
  }

  chat(body: object, signal?: AbortSignal): Promise<ChatResponse> {
    return this.json("POST", "/chat/completions", body, signal) as Promise<ChatResponse>;
  }

  /** Posts to an endpoint beside the standard ones; the answer as text. */
  async post(path: string, body: object, signal?: AbortSignal): Promise<string> {
    return this.persist(signal, async () => {
      const limit = new TimeLimit(this.timeout, signal);
      try {
        return await (await this.send("POST", path, body, limit.signal)).text();
      } finally {
        limit.clear();
      }
    });
  }

  completionStream(body: object, signal?: AbortSignal): AsyncGenerator<CompletionResponse, void, undefined> {
    return this.events<CompletionResponse>("/completions", body, signal);
  }

  chatStream(body: object, signal?: AbortSignal): AsyncGenerator<ChatChunk, void, undefined> {
    return this.events<ChatChunk>("/chat/completions", body, signal);
  }

  private async json(method: string, path: string, body: object | undefined, signal?: AbortSignal): Promise<unknown> {
    return this.persist(signal, async () => {
      const limit = new TimeLimit(this.timeout, signal);
      try {
        const response = await this.send(method, path, body, limit.signal);
        const text = await response.text();
        try {
          return JSON.parse(text);
        } catch {
          throw new HttpError(response.status, `${this.base}${path} answered with something that is not JSON`);
        }
      } finally {
        limit.clear();
      }
    });
  }

  private async *events<T>(path: string, body: object, signal?: AbortSignal): AsyncGenerator<T, void, undefined> {
    const limit = new TimeLimit(this.timeout, signal);
    try {
      const response = await this.persist(signal, () => {
        limit.restart();
        return this.send("POST", path, { ...body, stream: true }, limit.signal);
      });
      if (!response.body) throw new HttpError(response.status, `${this.base}${path} answered without a body`);
      for await (const data of serverSentEvents(response.body)) {
        limit.restart();
        if (data === "[DONE]") return;
        const event: unknown = JSON.parse(data);
        const { error } = event as Partial<ErrorBody>;
        if (error) throw new HttpError(500, `${this.base}${path}: ${error.message}`);
        yield event as T;
      }
      throw new HttpError(500, `${this.base}${path}: the stream broke off before its end`);
    } finally {
      limit.clear();
    }
  }

  private get timeout(): number {
    return this.options.timeoutMs ?? 600_000;
  }

  private async send(method: string, path: string, body: object | undefined, signal: AbortSignal): Promise<Response> {
    const { apiKey, fetch: ask = fetch } = this.options;
    const response = await ask(this.base + path, {
      method,
      signal,
      headers: {
        ...(body && { "Content-Type": "application/json" }),
        ...(apiKey && { Authorization: `Bearer ${apiKey}` }),
      },
      ...(body && { body: JSON.stringify(body) }),
    });
    if (response.ok) return response;
    const text = await response.text().catch(() => "");
    const error = new HttpError(response.status, `${this.base}${path}: ${response.status} ${reasonIn(text)}`.trimEnd());
    const pause = Number(response.headers.get("retry-after"));
    throw Object.assign(error, { pauseMs: Number.isFinite(pause) && pause > 0 ? pause * 1000 : 0 });
  }

  /** Tries until it works, fails for good, or has failed often enough. */
  private async persist<R>(signal: AbortSignal | undefined, attempt: () => Promise<R>): Promise<R> {
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
}

/** Aborts when the caller does, or when nothing has come for too long. */
class TimeLimit {
  private readonly controller = new AbortController();
  private readonly outer: AbortSignal | undefined;
  private readonly ms: number;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private readonly onAbort = () => this.controller.abort(this.outer?.reason);

  constructor(ms: number, outer?: AbortSignal) {
    this.ms = ms;
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
    const late = () => this.controller.abort(new UserError(`the server said nothing for ${this.ms / 1000} s`));
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

function pause(ms: number, signal?: AbortSignal): Promise<void> {
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
