/** A model behind OpenAI's HTTP interface, for programs on this machine unless told otherwise. */
import { createServer, type Server } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { UserError } from "../runtime/errors.ts";
import { ApiError } from "./errors.ts";
import type { TextModel } from "./model.ts";
import { type ServerOptions, serverDefaults } from "./options.ts";
import { Service } from "./service.ts";

export interface RunningServer {
  readonly port: number;
  readonly url: string;
  /** Requests being answered. */
  readonly active: number;
  /** Takes no more requests; those under way get `graceMs` to finish and are cut then. */
  close(graceMs: number): Promise<void>;
}

/** Starts serving; rejects with `UserError` where the port cannot be had. */
export async function startServer(model: TextModel, options: Partial<ServerOptions> = {}): Promise<RunningServer> {
  const all: ServerOptions = { ...serverDefaults, ...options };
  const service = new Service(model, all);
  const server = createServer(
    { connectionsCheckingInterval: Math.min(1000, all.headersMs / 2), keepAliveTimeout: 5000 },
    (request, response) => void service.answer(request, response),
  );
  server.headersTimeout = all.headersMs;
  server.requestTimeout = all.bodyMs;
  server.maxConnections = all.maxRequests + 256; // idle ones among them
  server.on("clientError", refuse);
  await listen(server, all);
  const { port } = server.address() as AddressInfo;
  const host = all.host.includes(":") ? `[${all.host}]` : all.host;
  return {
    port,
    url: `http://${host}:${port}`,
    get active() {
      return service.active.size;
    },
    close: (graceMs) => close(server, service, graceMs),
  };
}

function listen(server: Server, { host, port }: ServerOptions): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) => {
      const reasons: Record<string, string> = {
        EADDRINUSE: "another program listens there; choose another --port",
        EACCES: "permission denied; ports below 1024 need privileges",
        EADDRNOTAVAIL: "this machine has no such address",
        ENOTFOUND: "there is no such host",
      };
      reject(new UserError(`cannot listen on ${host}:${port}: ${reasons[error.code ?? ""] ?? error.message}`));
    });
    server.listen(port, host, () => resolve());
  });
}

async function close(server: Server, service: Service, graceMs: number): Promise<void> {
  service.closing = true;
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  server.closeIdleConnections();
  const cut = setTimeout(() => service.abortAll(), graceMs);
  const idle = setInterval(() => service.active.size === 0 && server.closeIdleConnections(), 50);
  await service.drained();
  clearTimeout(cut);
  // What was answered goes out before the connections do.
  await Promise.race([closed, new Promise((resolve) => setTimeout(resolve, 200))]);
  clearInterval(idle);
  server.closeAllConnections();
  await closed;
}

/** A request that the parser could not make sense of, or that did not come in time. */
function refuse(error: NodeJS.ErrnoException, socket: Socket): void {
  if (!socket.writable || error.code === "ECONNRESET") return void socket.destroy();
  const [status, reason] =
    error.code === "ERR_HTTP_REQUEST_TIMEOUT"
      ? [408, "Request Timeout"]
      : error.code === "HPE_HEADER_OVERFLOW"
        ? [431, "Request Header Fields Too Large"]
        : [400, "Bad Request"];
  const body = JSON.stringify(new ApiError(Number(status), String(reason)).body);
  socket.end(
    `HTTP/1.1 ${status} ${reason}\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\nConnection: close\r\n\r\n${body}`,
  );
}
