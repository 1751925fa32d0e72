/** Answers one request after another: who may ask, and what is asked for. */
import { setMaxListeners } from "node:events";
import type { IncomingMessage, ServerResponse } from "node:http";
import { deviceFailure, OutOfMemoryError } from "../open/surviving.ts";
import { BodyReader } from "./body.ts";
import { chatCompletions } from "./chat.ts";
import { completions } from "./completions.ts";
import type { Connections } from "./connections.ts";
import { ApiError, unavailable } from "./errors.ts";
import { checkHost, checkKey, corsHeaders, PREFLIGHT } from "./guard.ts";
import type { Admission } from "./limits.ts";
import { Line } from "./line.ts";
import type { TextModel } from "./model.ts";
import type { ServedModels } from "./models.ts";
import type { ServerOptions } from "./options.ts";
import { type Answer, fail, type Reply, send } from "./reply.ts";
import { type Asker, nowSeconds, stopped, unknownModel } from "./request.ts";
import { TRAINING_PATHS, type TrainingRoute, type TrainingServer } from "./train/server.ts";

/** A request as the endpoints see it. */
interface Exchange extends Asker {
  readonly request: IncomingMessage;
  readonly signal: AbortSignal;
  /** Runs when the answer is out. */
  finally(act: () => void): void;
}

/** How often a request is tried whose device fails. */
const TRIES = 3;

type Endpoint = (body: unknown, exchange: Exchange) => Promise<Reply> | Reply;
type Route = Omit<TrainingRoute, "answer"> & { answer: Endpoint };
type Generate = typeof completions;

/** Answers requests, and knows which are under way. */
export class Service {
  /** Whole requests whose answers are not out yet. */
  readonly active = new Set<AbortController>();
  closing = false;
  private readonly models: ServedModels;
  private readonly options: ServerOptions;
  private readonly connections: Connections;
  private readonly training: TrainingServer | null;
  private readonly bodies: BodyReader;
  private readonly admission: Admission;
  private readonly created = nowSeconds();
  private readonly waiters: (() => void)[] = [];
  /** Requests that try again alone. */
  private readonly alone = new Line();

  constructor(
    models: ServedModels,
    options: ServerOptions,
    connections: Connections,
    admission: Admission,
    training: TrainingServer | null = null,
  ) {
    this.training = training;
    this.models = models;
    this.options = options;
    this.connections = connections;
    this.bodies = new BodyReader(options.maxBodyBytes, "--max_body_bytes");
    this.admission = admission;
  }

  abortAll(): void {
    for (const controller of this.active) controller.abort(unavailable("the server is shutting down"));
  }

  /** Resolves when no request is being answered. */
  drained(): Promise<void> {
    if (this.active.size === 0) return Promise.resolve();
    return new Promise((resolve) => this.waiters.push(resolve));
  }

  async answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const started = performance.now();
    const { socket } = request;
    const controller = new AbortController();
    const { signal } = controller;
    setMaxListeners(0, signal); // each of its prompts listens
    const endings: (() => void)[] = [];
    // Whoever hangs up no longer wants the answer.
    const gone = () => {
      response.destroy();
      controller.abort(new Error("the client closed the connection"));
    };
    const within = this.connections.begin(socket, gone);
    response.on("error", gone);
    let whole = false;
    try {
      if (this.closing) response.setHeader("Connection", "close");
      if (!within) throw unavailable("This connection has too many requests that are not answered yet.");
      const route = this.admit(request, response);
      if (!route) return;
      const body = await this.body(route, request);
      whole = true;
      this.connections.whole(socket);
      if (route.method !== "GET") endings.push(this.begin(controller));
      const { generation } = this.models;
      try {
        await send(response, await this.reply(route, body, request, signal, endings), signal, this.options.writeMs);
      } catch (error) {
        // A stream that has begun cannot begin again, but the next one is to find a device that works.
        if (response.headersSent) this.models.revive(error, generation, this.options.log).catch(() => {});
        throw error;
      }
    } catch (error) {
      fail(request, response, error, signal);
    } finally {
      for (const end of endings) end();
      this.connections.end(socket, gone, whole);
      const took = `${((performance.now() - started) / 1000).toFixed(2)} s`;
      this.options.log(`${request.method} ${printable(pathOf(request))} ${response.statusCode} ${took}`);
    }
  }

  private body({ reads }: Route, request: IncomingMessage): Promise<unknown> | undefined {
    if (reads === "nothing") return undefined;
    return reads === "json" ? this.bodies.json(request) : this.bodies.bytes(request, "application/x-protobuf");
  }

  /** Asks for the reply to a request; once more where the device failed, on a new one. */
  private async reply(
    route: Route,
    body: unknown,
    request: IncomingMessage,
    signal: AbortSignal,
    endings: (() => void)[],
  ): Promise<Reply> {
    const asked: (() => void)[] = [];
    endings.push(() => {
      for (const end of asked.splice(0)) end();
    });
    const exchange: Exchange = {
      request,
      signal,
      client: request.socket.remoteAddress ?? "",
      admit: (wanted, chat) => asked.push(this.admission.admit(wanted, chat)),
      finally: (act) => asked.push(act),
    };
    for (let tries = 1; ; tries++) {
      const { generation } = this.models;
      try {
        return await route.answer(body, exchange);
      } catch (error) {
        if (tries === TRIES || signal.aborted) throw error;
        await this.models.revive(error, generation, this.options.log);
        signal.throwIfAborted();
        for (const end of asked.splice(0)) end();
        // Of those that ran when the memory was used up, each tries again alone: one of them asks for too much.
        if (deviceFailure(error) instanceof OutOfMemoryError) {
          return this.alone.run(() => this.last(route, body, exchange));
        }
      }
    }
  }

  /** The last try of a request: where its device fails once more, the next request is to find one that works. */
  private async last(route: Route, body: unknown, exchange: Exchange): Promise<Reply> {
    const { generation } = this.models;
    try {
      return await route.answer(body, exchange);
    } catch (error) {
      await this.models.revive(error, generation, this.options.log).catch(() => {}); // it is this error that counts
      throw error;
    }
  }

  /** Counts a request that has come whole, and limits its time. Gives what ends that. */
  private begin(controller: AbortController): () => void {
    const { maxRequests, requestMs } = this.options;
    if (this.active.size >= maxRequests) throw unavailable("The server answers as many requests as it can.");
    this.active.add(controller);
    const late = () =>
      controller.abort(
        new ApiError(504, `The answer took longer than ${requestMs / 1000} s (--request_timeout).`, {
          type: "timeout_error",
          code: "request_timeout",
        }),
      );
    const timer = requestMs > 0 ? setTimeout(late, requestMs) : undefined;
    return () => {
      clearTimeout(timer);
      this.active.delete(controller);
      if (this.active.size === 0) for (const resolve of this.waiters.splice(0)) resolve();
    };
  }

  /** What is to be done for a request; null if it is done already. Throws for requests that may not or cannot be served. */
  private admit(request: IncomingMessage, response: ServerResponse): Route | null {
    const { allowedHosts, corsOrigins, apiKey, maxRequests, host } = this.options;
    checkHost(request.headers, [...allowedHosts, host]);
    for (const [name, value] of Object.entries(corsHeaders(request.headers, corsOrigins))) {
      response.setHeader(name, value);
    }
    if (request.method === "OPTIONS") {
      response.writeHead(204, request.headers.origin === undefined ? {} : PREFLIGHT).end();
      return null;
    }
    const path = pathOf(request).replace(/(?<=.)\/$/, "");
    const route = this.route(path, queryOf(request));
    if (!route) {
      throw new ApiError(404, `Unknown request URL: ${request.method} ${printable(path)}.`, { code: "unknown_url" });
    }
    if (path !== "/health") checkKey(request.headers, apiKey);
    const { method } = route;
    if (request.method !== method && !(method === "GET" && request.method === "HEAD")) {
      response.setHeader("Allow", method);
      throw new ApiError(405, `Not allowed to ${request.method} on ${printable(path)}; use ${method}.`, {
        code: "method_not_allowed",
      });
    }
    if (method === "GET") return route;
    if (this.closing) throw unavailable("The server is shutting down.");
    // Before the body is read; it counts when it has come whole.
    if (this.active.size >= maxRequests) throw unavailable("The server answers as many requests as it can.");
    return route;
  }

  private route(path: string, query: URLSearchParams): Route | null {
    const get = (answer: () => Answer): Route => ({ method: "GET", reads: "nothing", answer });
    const post = (answer: Endpoint): Route => ({ method: "POST", reads: "json", answer });
    if (path === "/health") return get(() => this.health());
    if (path === "/v1/models") {
      return get(() => ({ json: { object: "list", data: this.models.all.map((model) => this.card(model)) } }));
    }
    if (path.startsWith("/v1/models/")) return get(() => ({ json: this.named(path.slice(11)) }));
    if (path === "/v1/completions") return post((body, exchange) => this.generate(completions, body, exchange));
    if (path === "/v1/chat/completions") {
      return post((body, exchange) => this.generate(chatCompletions, body, exchange));
    }
    const { adapters } = this.models;
    if (path === "/v1/load_lora_adapter") return post(async (body) => ({ text: await adapters.load(body) }));
    if (path === "/v1/unload_lora_adapter") return post((body) => ({ text: adapters.unload(body) }));
    if (this.training && path.startsWith(TRAINING_PATHS)) return this.training.route(path, query);
    return null;
  }

  private generate(answer: Generate, body: unknown, exchange: Exchange): Promise<Answer> {
    const { model, release } = this.models.use(body);
    exchange.finally(release);
    return answer(model, body, exchange.signal, exchange);
  }

  private card({ name, engine }: TextModel): object {
    const base = this.models.base.name;
    return {
      id: name,
      object: "model",
      created: this.created,
      owned_by: "webrlhf",
      ...(name !== base && { parent: base }),
      max_model_len: engine.capacity,
    };
  }

  private named(encoded: string): object {
    let name = encoded;
    try {
      name = decodeURIComponent(encoded);
    } catch {}
    const model = this.models.all.find((one) => one.name === name);
    if (model) return this.card(model);
    throw unknownModel(
      printable(name),
      this.models.all.map((one) => one.name),
    );
  }

  private health(): Answer {
    const { failed, load } = this.models.base.engine;
    if (failed) {
      // Whoever looks after the server may send no request until it is well again.
      this.models.revive(failed, this.models.generation, this.options.log).catch(() => {});
      throw deviceFailure(failed) ?? stopped(failed);
    }
    return { json: { status: this.closing ? "closing" : "ok", ...load } };
  }
}

/** What is asked for, without the query: that may hold what is nobody's business. */
const pathOf = (request: IncomingMessage): string => (request.url ?? "").split(/[?#]/)[0];

const queryOf = (request: IncomingMessage): URLSearchParams =>
  new URLSearchParams((request.url ?? "").split("#")[0].split("?").slice(1).join("?"));

/** Text from outside, fit for one line of a log. */
const printable = (text: string): string =>
  text.slice(0, 200).replace(/[^\x20-\x7e]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`);
