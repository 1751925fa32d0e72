/** Small servers for this machine alone: pages and numbers that others may look at. */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { UserError } from "../runtime/errors.ts";
import { ApiError } from "../serve/errors.ts";
import { checkHost, corsHeaders } from "../serve/guard.ts";

/** A server that is listening. */
export interface LoopbackServer {
  /** Without a slash at its end. */
  readonly url: string;
  /** The process may end though it listens. */
  unref(): void;
  close(): Promise<void>;
}

/**
 * Listens on 127.0.0.1. Requests by another host's name or from other pages are refused.
 * @param port 0 takes any free one
 * @param setting what the port is called, for whoever must choose another one
 * @param answer writes the answer; an `ApiError` that it throws is told with its status
 * @param methods the others are refused. Default: those that change nothing
 * @throws UserError where the port cannot be had
 */
export async function serveLoopback(
  port: number,
  setting: string,
  answer: (request: IncomingMessage, response: ServerResponse) => void | Promise<void>,
  methods: readonly string[] = ["GET", "HEAD"],
): Promise<LoopbackServer> {
  const server = createServer({ requestTimeout: 10_000, headersTimeout: 10_000 }, async (request, response) => {
    try {
      checkHost(request.headers, []);
      corsHeaders(request.headers, []);
      if (!methods.includes(request.method ?? "")) throw new ApiError(405, `Only ${methods[0]} is answered here.`);
      await answer(request, response);
    } catch (error) {
      const [status, text] = error instanceof ApiError ? [error.status, error.message] : [500, String(error)];
      response.writeHead(status, { "Content-Type": "text/plain; charset=utf-8" }).end(`${text}\n`);
    }
  });
  server.maxConnections = 64;
  await new Promise<void>((resolve, reject) => {
    server.once("error", ({ code, message }: NodeJS.ErrnoException) => {
      const why = code === "EADDRINUSE" ? "another program listens there; choose another one" : message;
      reject(new UserError(`${setting} ${port}: cannot listen on 127.0.0.1: ${why}`));
    });
    server.listen(port, "127.0.0.1", resolve);
  });
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    unref: () => void server.unref(),
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
