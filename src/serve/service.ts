/** Answers one request after another: who may ask, what is asked for, how the answer goes out. */
import type { IncomingMessage, ServerResponse } from "node:http";
import { isUserError } from "../runtime/errors.ts";
import { readJson } from "./body.ts";
import { chatCompletions } from "./chat.ts";
import { completions } from "./completions.ts";
import { ApiError } from "./errors.ts";
import { checkHost, checkKey, corsHeaders, PREFLIGHT } from "./guard.ts";
import type { TextModel } from "./model.ts";
import type { ServerOptions } from "./options.ts";
import { type Answer, nowSeconds } from "./request.ts";

type Route = (request: IncomingMessage, signal: AbortSignal) => Promise<Answer> | Answer;

/** Answers requests, and knows which are under way. */
export class Service {
  readonly active = new Set<AbortController>();
  closing = false;
  private readonly model: TextModel;
  private readonly options: ServerOptions;
  private readonly created = nowSeconds();
  private readonly waiters: (() => void)[] = [];

  constructor(model: TextModel, options: ServerOptions) {
    this.model = model;
    this.options = options;
  }

  abortAll(): void {
    for (const controller of this.active) controller.abort(new Error("the server is shutting down"));
  }

  /** Resolves when no request is being answered. */
  drained(): Promise<void> {
    if (this.active.size === 0) return Promise.resolve();
    return new Promise((resolve) => this.waiters.push(resolve));
  }

  async answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const started = performance.now();
    const controller = new AbortController();
    this.active.add(controller);
    // Whoever hangs up no longer wants the answer.
    response.on("close", () => controller.abort(new Error("the client closed the connection")));
    response.on("error", () => controller.abort(new Error("the connection broke")));
    try {
      if (this.closing) response.setHeader("Connection", "close");
      const allow = this.admit(request, response);
      if (allow) await this.send(response, await allow(request, controller.signal), controller.signal);
    } catch (error) {
      this.fail(request, response, error, controller.signal);
    } finally {
      this.active.delete(controller);
      if (this.active.size === 0) for (const resolve of this.waiters.splice(0)) resolve();
      const took = `${((performance.now() - started) / 1000).toFixed(2)} s`;
      this.options.log(`${request.method} ${printable(request.url)} ${response.statusCode} ${took}`);
    }
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
    const path = (request.url ?? "").split("?")[0].replace(/(?<=.)\/$/, "");
    const found = this.route(path);
    if (!found)
      throw new ApiError(404, `Unknown request URL: ${request.method} ${printable(path)}.`, { code: "unknown_url" });
    if (path !== "/health") checkKey(request.headers, apiKey);
    const [method, route] = found;
    if (request.method !== method && !(method === "GET" && request.method === "HEAD")) {
      response.setHeader("Allow", method);
      throw new ApiError(405, `Not allowed to ${request.method} on ${path}; use ${method}.`, {
        code: "method_not_allowed",
      });
    }
    const full = method === "POST" && this.active.size > maxRequests;
    if (full || (this.closing && method === "POST")) {
      throw new ApiError(
        503,
        full ? "The server answers as many requests as it can." : "The server is shutting down.",
        {
          type: "service_unavailable_error",
          retrySeconds: 5,
        },
      );
    }
    return route;
  }

  private route(path: string): ["GET" | "POST", Route] | null {
    const { model, options } = this;
    const card = { id: model.name, object: "model", created: this.created, owned_by: "webrlhf" };
    const details = { ...card, max_model_len: model.engine.capacity };
    if (path === "/health") return ["GET", () => this.health()];
    if (path === "/v1/models") return ["GET", () => ({ json: { object: "list", data: [details] } })];
    if (path === "/v1/completions") {
      return ["POST", async (r, signal) => completions(model, await readJson(r, options.maxBodyBytes), signal)];
    }
    if (path === "/v1/chat/completions") {
      return ["POST", async (r, signal) => chatCompletions(model, await readJson(r, options.maxBodyBytes), signal)];
    }
    if (path.startsWith("/v1/models/")) return ["GET", () => ({ json: this.named(path.slice(11), details) })];
    return null;
  }

  private named(encoded: string, details: object): object {
    let name = encoded;
    try {
      name = decodeURIComponent(encoded);
    } catch {}
    if (name === this.model.name) return details;
    throw new ApiError(404, `The model \`${printable(name)}\` does not exist`, {
      param: "model",
      code: "model_not_found",
    });
  }

  private health(): Answer {
    const { failed, load } = this.model.engine;
    if (failed) {
      throw new ApiError(503, `The engine has stopped: ${failed.message}`, { type: "service_unavailable_error" });
    }
    return { json: { status: this.closing ? "closing" : "ok", ...load } };
  }

  private async send(response: ServerResponse, answer: Answer, signal: AbortSignal): Promise<void> {
    if ("json" in answer) {
      const body = Buffer.from(JSON.stringify(answer.json));
      response.writeHead(200, { "Content-Type": "application/json", "Content-Length": body.length }).end(body);
      return finished(response, this.options.writeMs);
    }
    response.writeHead(200, {
      "Content-Type": "text/event-stream; charset=utf-8",
      "Cache-Control": "no-cache",
      "X-Accel-Buffering": "no",
    });
    for await (const event of answer.events) {
      signal.throwIfAborted();
      await this.write(response, `data: ${JSON.stringify(event)}\n\n`);
    }
    response.end("data: [DONE]\n\n");
    return finished(response, this.options.writeMs);
  }

  /** Waits while the reader is behind, but not for ever. */
  private async write(response: ServerResponse, text: string): Promise<void> {
    if (response.write(text)) return;
    await new Promise<void>((resolve, reject) => {
      const done = () => {
        clearTimeout(timer);
        response.off("drain", done).off("close", done);
        resolve();
      };
      const timer = setTimeout(() => {
        response.destroy();
        reject(new Error("the client does not read"));
      }, this.options.writeMs);
      response.on("drain", done).on("close", done);
    });
  }

  private fail(request: IncomingMessage, response: ServerResponse, error: unknown, signal: AbortSignal): void {
    if (response.destroyed || response.writableEnded) return;
    const known = asApiError(error, signal);
    const body = JSON.stringify(known.body);
    if (response.headersSent) {
      response.end(`data: ${body}\n\ndata: [DONE]\n\n`);
      return;
    }
    const headers: Record<string, string | number> = {
      "Content-Type": "application/json",
      "Content-Length": Buffer.byteLength(body),
      ...(known.retrySeconds !== null && { "Retry-After": known.retrySeconds }),
      ...(known.status === 401 && { "WWW-Authenticate": "Bearer" }),
    };
    if (!request.complete) headers.Connection = "close";
    response.writeHead(known.status, headers).end(body);
    if (!request.complete) {
      // Whatever still comes is thrown away, for a moment, so that the client gets to read the answer.
      request.resume();
      setTimeout(() => request.destroy(), 1000).unref();
    }
  }
}

function asApiError(error: unknown, signal: AbortSignal): ApiError {
  if (error instanceof ApiError) return error;
  if (isUserError(error)) return new ApiError(400, error.message);
  if (signal.aborted) {
    const message = (signal.reason as Error | undefined)?.message ?? "The request was cut.";
    return new ApiError(503, message, { type: "service_unavailable_error", retrySeconds: 5 });
  }
  const message = error instanceof Error ? error.message : String(error);
  return new ApiError(500, `The server had an error: ${message}`, { type: "server_error" });
}

/** Waits until the answer is on its way to the client, or the client is gone. */
function finished(response: ServerResponse, ms: number): Promise<void> {
  return new Promise((resolve) => {
    if (response.writableFinished || response.destroyed) return resolve();
    const timer = setTimeout(() => response.destroy(), ms);
    const done = () => {
      clearTimeout(timer);
      resolve();
    };
    response.on("finish", done).on("close", done);
  });
}

/** Text from outside, fit for one line of a log. */
const printable = (text: string | undefined): string =>
  (text ?? "").slice(0, 200).replace(/[^\x20-\x7e]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`);
