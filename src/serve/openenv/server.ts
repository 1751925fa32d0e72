/**
 * An environment behind OpenEnv's protocol, for its Python clients and this project's own (`openenv:http://127.0.0.1:8000`): /schema,
 * /health and /metadata over HTTP, and episodes over WebSocket at /ws, a session for each connection. Requests of OpenEnv's that play
 * without a session (POST /reset, /step) can play no episode, and are refused.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { Duplex } from "node:stream";
import type { WebSocket, WebSocketServer } from "ws";
import type { Environment } from "../../rlhf/environment/environment.ts";
import { parseJson } from "../body.ts";
import { ApiError } from "../errors.ts";
import { checkHost, corsHeaders } from "../guard.ts";
import { listen } from "../server.ts";
import { EnvironmentSession, errorAnswer, LONGEST_MESSAGE, type SessionAnswer, schemas } from "./session.ts";

/** How an environment is served. */
export interface EnvironmentServerOptions {
  host: string;
  /** 0 takes any free one. */
  port: number;
  /** Host names, besides localhost and bare addresses, under which the server may be reached. */
  allowedHosts: readonly string[];
  /** Sessions at once; more are told CAPACITY_REACHED. */
  maxSessions: number;
  /** A session that sends nothing for so long is over. */
  idleMs: number;
  /** Time that the environment may take for an answer. */
  timeoutMs: number;
  /** One line for each failure of the environment. */
  log: (line: string) => void;
}

/** Defaults of a server of an environment. */
export const environmentServerDefaults: EnvironmentServerOptions = {
  host: "127.0.0.1",
  port: 8000,
  allowedHosts: [],
  maxSessions: 1024,
  idleMs: 600_000,
  timeoutMs: 60_000,
  log: () => {},
};

/** An environment that is being served. */
export interface EnvironmentServer {
  readonly port: number;
  readonly url: string;
  /** Sessions that are open. */
  readonly sessions: number;
  /** Ends all sessions, and their episodes. */
  close(): Promise<void>;
}

/** Messages of a session that wait for an answer; a client that sends more ahead is cut off. */
const MOST_AHEAD = 8;
const HEADERS_MS = 10_000;

/** Starts serving; rejects with `UserError` where the port cannot be had. */
export async function serveEnvironment(
  environment: Environment,
  options: Partial<EnvironmentServerOptions> = {},
): Promise<EnvironmentServer> {
  const o = { ...environmentServerDefaults, ...options };
  const ws = await import("ws");
  const sockets = new ws.WebSocketServer({ noServer: true, maxPayload: LONGEST_MESSAGE, perMessageDeflate: false });
  const server = createServer({ headersTimeout: HEADERS_MS, requestTimeout: HEADERS_MS }, (request, response) =>
    answerHttp(environment, o, request, response),
  );
  server.maxConnections = 2 * o.maxSessions + 16; // those that are told that there is no room, too
  const open = new Map<WebSocket, EnvironmentSession>();
  server.on("upgrade", (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    socket.on("error", () => socket.destroy());
    try {
      begin({ environment, o, sockets, open }, request, socket, head);
    } catch (error) {
      const { status, message } = error instanceof ApiError ? error : new ApiError(500, String(error));
      const body = `${message}\n`;
      socket.end(
        `HTTP/1.1 ${status} Refused\r\nConnection: close\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
      );
    }
  });
  await listen(server, o);
  const { port } = server.address() as AddressInfo;
  return {
    port,
    url: `http://${o.host.includes(":") ? `[${o.host}]` : o.host}:${port}`,
    get sessions() {
      return open.size;
    },
    close: () => closeAll(server, open),
  };
}

async function closeAll(server: Server, open: Map<WebSocket, EnvironmentSession>): Promise<void> {
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  const sessions = [...open];
  for (const [socket] of sessions) socket.terminate();
  await Promise.all(sessions.map(([, session]) => session.close()));
  server.closeAllConnections();
  await closed;
}

/** What is told without a session. */
function answerHttp(
  { name = "environment" }: Environment,
  { allowedHosts }: EnvironmentServerOptions,
  request: IncomingMessage,
  response: ServerResponse,
): void {
  const reply = (status: number, body: object) => {
    const bytes = Buffer.from(JSON.stringify(body));
    response.writeHead(status, { "Content-Type": "application/json", "Content-Length": bytes.length });
    response.end(request.method === "HEAD" ? undefined : bytes);
  };
  try {
    checkHost(request.headers, allowedHosts);
    corsHeaders(request.headers, []);
    const { pathname } = new URL(request.url ?? "/", "http://127.0.0.1");
    if (request.method !== "GET" && request.method !== "HEAD") {
      throw new ApiError(405, "Episodes are played over WebSocket, at /ws.");
    }
    const told = new Map<string, object>([
      ["/health", { status: "healthy" }],
      ["/schema", schemas],
      ["/metadata", { name, description: `${name}, served by webrlhf` }],
    ]).get(pathname);
    if (!told)
      throw new ApiError(404, "There are /health, /schema and /metadata here, and episodes over WebSocket at /ws.");
    reply(200, told);
  } catch (error) {
    const { status, body } = error instanceof ApiError ? error : new ApiError(500, String(error));
    reply(status, body);
  }
}

/** What sessions have in common. */
interface Serving {
  environment: Environment;
  o: EnvironmentServerOptions;
  sockets: WebSocketServer;
  open: Map<WebSocket, EnvironmentSession>;
}

/** Begins a session, or throws the `ApiError` for which there is none. */
function begin(
  { environment, o, sockets, open }: Serving,
  request: IncomingMessage,
  socket: Duplex,
  head: Buffer,
): void {
  checkHost(request.headers, o.allowedHosts);
  corsHeaders(request.headers, []);
  if (new URL(request.url ?? "/", "http://127.0.0.1").pathname !== "/ws")
    throw new ApiError(404, "Sessions are at /ws.");
  sockets.handleUpgrade(request, socket, head, (client) => {
    client.on("error", () => client.terminate());
    if (open.size >= o.maxSessions) {
      const full = errorAnswer("CAPACITY_REACHED", `${open.size} of ${o.maxSessions} sessions are open`);
      return client.send(JSON.stringify(full), () => client.close(1013));
    }
    const session = new EnvironmentSession(environment, o.timeoutMs);
    open.set(client, session);
    const end = async () => {
      open.delete(client);
      await session.close();
    };
    client.on("close", end);
    converse(client, session, end, o);
  });
}

/** Answers a client's messages in their order, the next one when the answer to the one before is out. */
function converse(
  client: WebSocket,
  session: EnvironmentSession,
  end: () => Promise<void>,
  { idleMs, log }: EnvironmentServerOptions,
): void {
  const send = (answer: SessionAnswer) =>
    new Promise<void>((resolve) => {
      const text = JSON.stringify(answer);
      const long = errorAnswer("EXECUTION_ERROR", `the answer has more than ${LONGEST_MESSAGE} characters`);
      client.send(text.length > LONGEST_MESSAGE ? JSON.stringify(long) : text, () => resolve());
    });
  const leave = async () => {
    await send(errorAnswer("SESSION_ERROR", `nothing came for ${idleMs / 1000} seconds`));
    client.close(1001);
  };
  let idle = setTimeout(leave, idleMs);
  let gone = false;
  client.on("close", () => {
    gone = true;
    clearTimeout(idle);
  });
  let ahead = 0;
  let line = Promise.resolve();
  const answer = async (data: Buffer) => {
    const found = await answerTo(session, data);
    if (found === null) {
      await end(); // whoever has heard the goodbye may begin again
      return client.close(1000);
    }
    if (found.type === "error" && found.data.code === "EXECUTION_ERROR") log(found.data.message);
    await send(found);
  };
  client.on("message", (data, isBinary) => {
    clearTimeout(idle);
    if (isBinary || ++ahead > MOST_AHEAD) return client.close(isBinary ? 1003 : 1008);
    line = line
      .then(() => answer(data))
      .finally(() => {
        ahead--;
        clearTimeout(idle);
        if (!gone) idle = setTimeout(leave, idleMs);
      });
  });
}

async function answerTo(session: EnvironmentSession, data: Buffer): Promise<SessionAnswer | null> {
  let message: unknown;
  try {
    message = parseJson(data, "The message");
  } catch (error) {
    return errorAnswer("INVALID_JSON", (error as Error).message);
  }
  return session.answer(message);
}
