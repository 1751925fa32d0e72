/** A client for servers that speak OpenAI's HTTP interface: vLLM, llama.cpp, `webrlhf serve` and others. */
import { HttpClient, HttpError, type HttpOptions, serverUrl } from "./http.ts";
import type { ChatChunk, ChatResponse, CompletionResponse, ErrorBody } from "./openai-types.ts";
import { serverSentEvents } from "./sse.ts";

export { HttpError, type HttpOptions } from "./http.ts";

/** Where an `OpenAIClient` finds its server. */
export interface OpenAIClientOptions extends HttpOptions {
  /** "http://127.0.0.1:8000", with or without "/v1". */
  baseUrl: string;
}

/** A client of any server that speaks OpenAI's protocol for completions and chats. */
export class OpenAIClient {
  private readonly http: HttpClient;

  constructor(options: OpenAIClientOptions) {
    const url = serverUrl(options.baseUrl);
    const path = url.pathname.replace(/\/+$/, "");
    this.http = new HttpClient(`${url.origin}${path === "" ? "/v1" : path}`, options);
  }

  /** Names of the server's models, those of adapters among them. */
  async models(signal?: AbortSignal): Promise<string[]> {
    return (await this.cards(signal)).map(({ id }) => id);
  }

  /** Names of the server's models that are no adapters on others. */
  async baseModels(signal?: AbortSignal): Promise<string[]> {
    return (await this.cards(signal)).flatMap(({ id, parent }) => (parent ? [] : [id]));
  }

  private async cards(signal?: AbortSignal): Promise<{ id: string; parent?: string | null }[]> {
    const { data } = (await this.http.json("GET", "/models", undefined, signal)) as { data?: { id: string }[] };
    return data ?? [];
  }

  completion(body: object, signal?: AbortSignal): Promise<CompletionResponse> {
    return this.http.json("POST", "/completions", body, signal) as Promise<CompletionResponse>;
  }

  chat(body: object, signal?: AbortSignal): Promise<ChatResponse> {
    return this.http.json("POST", "/chat/completions", body, signal) as Promise<ChatResponse>;
  }

  /** Posts to an endpoint beside the standard ones; the answer as text. */
  post(path: string, body: object, signal?: AbortSignal): Promise<string> {
    return this.http.text("POST", path, body, signal);
  }

  completionStream(body: object, signal?: AbortSignal): AsyncGenerator<CompletionResponse, void, undefined> {
    return this.events<CompletionResponse>("/completions", body, signal);
  }

  chatStream(body: object, signal?: AbortSignal): AsyncGenerator<ChatChunk, void, undefined> {
    return this.events<ChatChunk>("/chat/completions", body, signal);
  }

  private async *events<T>(path: string, body: object, signal?: AbortSignal): AsyncGenerator<T, void, undefined> {
    const { http } = this;
    const limit = http.limit(path, signal);
    try {
      const response = await http.persist(signal, () => {
        limit.restart();
        return http.send("POST", path, { ...body, stream: true }, limit.signal);
      });
      if (!response.body) throw new HttpError(response.status, `${http.base}${path} answered without a body`);
      for await (const data of serverSentEvents(response.body)) {
        limit.restart();
        if (data === "[DONE]") return;
        const event: unknown = JSON.parse(data);
        const { error } = event as Partial<ErrorBody>;
        if (error) throw new HttpError(500, `${http.base}${path}: ${error.message}`);
        yield event as T;
      }
      throw new HttpError(500, `${http.base}${path}: the stream broke off before its end`);
    } finally {
      limit.clear();
    }
  }
}
