/** How an answer goes out to its client, who may be slow or gone. */
import type { IncomingMessage, ServerResponse } from "node:http";
import { NonFiniteError } from "../nn/finite.ts";
import { deviceFailure } from "../open/surviving.ts";
import { isUserError } from "../runtime/errors.ts";
import { LAST_WORDS_MS } from "./connections.ts";
import { ApiError, unavailable } from "./errors.ts";

/** An answer: one object, or events as they come. */
export type Answer = { json: object } | { events: AsyncGenerator<object, void, undefined> };
/** What may go out: an answer, which may have another status than 200, some plain text, or bytes of a type. */
export type Reply = Answer | { json: object; status: number } | { text: string } | { bytes: Uint8Array; type: string };

const EVENTS = "text/event-stream; charset=utf-8";
/** Bytes handed to a connection before its reader must have taken some. */
const PIECE = 64 << 10;

/** Sends an answer. Each piece must be taken within `writeMs`; the signal cuts what takes too long. */
export async function send(
  response: ServerResponse,
  answer: Reply,
  signal: AbortSignal,
  writeMs: number,
): Promise<void> {
  if ("events" in answer) {
    response.setHeader("Content-Type", EVENTS);
    response.writeHead(200, { "Cache-Control": "no-cache", "X-Accel-Buffering": "no" });
    for await (const event of answer.events) {
      await write(response, `data: ${JSON.stringify(event)}\n\n`, signal, writeMs);
    }
    response.end("data: [DONE]\n\n");
  } else {
    const [body, type] = encoded(answer);
    response.writeHead("status" in answer ? answer.status : 200, {
      "Content-Type": type,
      "Content-Length": body.length,
    });
    for (let at = 0; at < body.length; at += PIECE) {
      await write(response, body.subarray(at, at + PIECE), signal, writeMs);
    }
    response.end();
  }
  await taken(response, "finish", signal, writeMs);
}

function encoded(reply: Exclude<Reply, { events: unknown }>): [body: Uint8Array, type: string] {
  if ("json" in reply) return [Buffer.from(JSON.stringify(reply.json)), "application/json"];
  if ("bytes" in reply) return [reply.bytes, reply.type];
  return [Buffer.from(reply.text), "text/plain; charset=utf-8"];
}

/** Waits while the reader is behind, but not for ever. */
async function write(
  response: ServerResponse,
  piece: string | Uint8Array,
  signal: AbortSignal,
  ms: number,
): Promise<void> {
  signal.throwIfAborted();
  if (response.write(piece)) return;
  await taken(response, "drain", signal, ms);
  signal.throwIfAborted();
}

/** Waits until what was written is on its way; whoever does not read it in time is cut off. */
function taken(response: ServerResponse, event: "drain" | "finish", signal: AbortSignal, ms: number): Promise<void> {
  return new Promise((resolve) => {
    if (response.writableFinished || response.destroyed) return resolve();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const done = () => {
      clearTimeout(timer);
      response.off(event, done).off("close", done).off("socket", start);
      signal.removeEventListener("abort", aborted);
      resolve();
    };
    const start = () => {
      timer = setTimeout(() => response.destroy(), ms);
    };
    // What is written already may still go out, unless nobody is there.
    const aborted = () => (event === "drain" || response.destroyed) && done();
    onItsTurn(response, start);
    response.on(event, done).on("close", done);
    signal.addEventListener("abort", aborted);
  });
}

/** Acts when a response has its connection: until then it waits for the answers to requests that were sent before. */
function onItsTurn(response: ServerResponse, act: () => void): void {
  if (response.socket) act();
  else response.once("socket", act);
}

/** Answers with an error, as far as the client can still be told. */
export function fail(request: IncomingMessage, response: ServerResponse, error: unknown, signal: AbortSignal): void {
  if (response.destroyed || response.writableEnded) return;
  const known = asApiError(error, signal);
  const body = JSON.stringify(known.body);
  if (!response.headersSent) {
    if (!request.complete) response.setHeader("Connection", "close");
    response.writeHead(known.status, {
      "Content-Type": "application/json",
      "Content-Length": Buffer.byteLength(body),
      ...(known.retrySeconds !== null && { "Retry-After": known.retrySeconds }),
      ...(known.status === 401 && { "WWW-Authenticate": "Bearer" }),
    });
    response.end(body);
  } else if (response.getHeader("Content-Type") === EVENTS) {
    response.end(`data: ${body}\n\ndata: [DONE]\n\n`);
  } else {
    response.destroy(); // in the middle of an object there is no room for another one
  }
  // Whatever still comes is thrown away, for a moment, so that the client gets to read the answer.
  const whole = request.complete;
  if (!whole) request.resume();
  onItsTurn(response, () => {
    const timer = setTimeout(() => request.socket.destroy(), LAST_WORDS_MS).unref();
    if (whole) response.on("finish", () => clearTimeout(timer));
  });
}

function asApiError(error: unknown, signal: AbortSignal): ApiError {
  if (error instanceof ApiError) return error;
  if (signal.aborted) {
    const { reason } = signal;
    if (reason instanceof ApiError) return reason;
    return unavailable(reason instanceof Error ? reason.message : "The request was cut.");
  }
  const failure = deviceFailure(error);
  if (failure) return unavailable(`The server could not answer: ${failure.message}. Please try again later.`);
  if (isUserError(error) && !(error instanceof NonFiniteError)) return new ApiError(400, error.message);
  const message = error instanceof Error ? error.message : String(error);
  return new ApiError(500, `The server had an error: ${message}`, { type: "server_error" });
}
