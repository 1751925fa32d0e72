/** A model behind OpenAI's HTTP interface, for programs on this machine unless told otherwise. */
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { UserError } from "../runtime/errors.ts";
import { Adapters } from "./adapters.ts";
import { Connections, LAST_WORDS_MS } from "./connections.ts";
import { usableKey } from "./guard.ts";
import { Admission } from "./limits.ts";
import type { TextModel } from "./model.ts";
import { ServedModels } from "./models.ts";
import { type ServerOptions, serverDefaults } from "./options.ts";
import { Service } from "./service.ts";
import { TrainingServer } from "./train/server.ts";

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
  if (all.apiKey !== null) all.apiKey = usableKey(all.apiKey);
  const server = createServer({
    connectionsCheckingInterval: Math.min(1000, all.headersMs / 2),
    keepAliveTimeout: 5000,
  });
  server.headersTimeout = all.headersMs;
  server.requestTimeout = all.bodyMs;
  const models = new ServedModels(model, new Adapters(model, all.adapters), all.revive ?? undefined);
  const admission = new Admission(all);
  const training = all.training && (await TrainingServer.open(models, all.training, { ...all, admission }));
  const service = new Service(models, all, new Connections(server, all.maxConnections), admission, training);
  server.on("request", (request, response) => {
    service.answer(request, response).catch((error: unknown) => {
      all.log(`an answer failed: ${String(error)}`);
      request.socket.destroy();
    });
  });
  try {
    await listen(server, all);
  } catch (error) {
    await training?.close();
    throw error;
  }
  const { port } = server.address() as AddressInfo;
  const host = all.host.includes(":") ? `[${all.host}]` : all.host;
  return {
    port,
    url: `http://${host}:${port}`,
    get active() {
      return service.active.size;
    },
    close: async (graceMs) => {
      await close(server, service, graceMs);
      await training?.close();
      await models.adapters.close();
    },
  };
}

/** Listens; rejects with a `UserError` that says why the port cannot be had. */
export function listen(server: Server, { host, port }: Pick<ServerOptions, "host" | "port">): Promise<void> {
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
  // Whoever does not take what was sent by then never gets it.
  const end = setTimeout(() => server.closeAllConnections(), graceMs + LAST_WORDS_MS);
  const idle = setInterval(() => service.active.size === 0 && server.closeIdleConnections(), 50);
  await service.drained();
  clearTimeout(cut);
  clearTimeout(end);
  // What was answered goes out before the connections do.
  await Promise.race([closed, new Promise((resolve) => setTimeout(resolve, 200))]);
  clearInterval(idle);
  server.closeAllConnections();
  await closed;
}
