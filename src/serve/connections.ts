/** Connections that stand open: those that ask nothing whole make room for new ones. */
import type { Server } from "node:http";
import type { Socket } from "node:net";
import { ApiError } from "./errors.ts";

/** Requests of one connection that are not answered yet: clients that send ahead may send so many. */
const MOST_PIPELINED = 32;
/** Time to read a refusal before the connection is gone, whether the other side closes it or not. */
export const LAST_WORDS_MS = 1000;

/** Those of one connection that are not answered yet. */
interface Requests {
  /** What to do for each when the connection is gone: of those that wait for others' answers Node does not tell. */
  readonly gone: Set<() => void>;
  /** How many have come whole. */
  whole: number;
}

/** Keeps the number of connections of a server bounded, whoever opens them. */
export class Connections {
  /** The oldest first. */
  private readonly open = new Map<Socket, Requests>();

  /** @param most connections at once; beyond them the oldest that has asked nothing whole is cut */
  constructor(server: Server, most: number) {
    server.maxConnections = 2 * most; // whatever happens
    server.on("connection", (socket: Socket) => {
      const requests: Requests = { gone: new Set(), whole: 0 };
      this.open.set(socket, requests);
      socket.on("close", () => {
        this.open.delete(socket);
        for (const tell of requests.gone) tell();
      });
      if (this.open.size > most) this.idle()?.destroy();
    });
    server.on("clientError", refuse);
  }

  /** A request of this connection has begun; false where too many of its requests are not answered yet. */
  begin(socket: Socket, gone: () => void): boolean {
    const requests = this.open.get(socket);
    requests?.gone.add(gone);
    if (!requests) gone();
    return (requests?.gone.size ?? 0) <= MOST_PIPELINED;
  }

  /** It has come whole. */
  whole(socket: Socket): void {
    const requests = this.open.get(socket);
    if (requests) requests.whole += 1;
  }

  /** It is answered. */
  end(socket: Socket, gone: () => void, wasWhole: boolean): void {
    const requests = this.open.get(socket);
    requests?.gone.delete(gone);
    if (requests && wasWhole) requests.whole -= 1;
  }

  private idle(): Socket | undefined {
    for (const [socket, { whole }] of this.open) if (whole === 0) return socket;
    return undefined;
  }
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
  setTimeout(() => socket.destroy(), LAST_WORDS_MS).unref();
}
