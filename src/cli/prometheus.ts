/** A run's newest numbers for Prometheus, on this machine alone. */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import type { MetricsLogger } from "../rlhf/loggers/logger.ts";
import { UserError } from "../runtime/errors.ts";
import { ApiError } from "../serve/errors.ts";
import { checkHost, corsHeaders } from "../serve/guard.ts";

/** Numbers that are being served. */
export interface MetricsServer {
  readonly url: string;
  /** Hears the numbers. */
  readonly logger: MetricsLogger;
  close(): Promise<void>;
}

/**
 * Serves the newest value of every metric at /metrics on 127.0.0.1, in Prometheus' text format.
 * @param port 0 takes any free one
 * @throws UserError where the port cannot be had
 */
export async function serveMetrics(port: number): Promise<MetricsServer> {
  const newest = new Map<string, number>();
  const server = createServer({ requestTimeout: 10_000, headersTimeout: 10_000 }, (request, response) => {
    try {
      checkHost(request.headers, []);
      corsHeaders(request.headers, []);
      if (request.method !== "GET") throw new ApiError(405, "Only GET is answered here.");
      if (request.url !== "/metrics") throw new ApiError(404, "The numbers are at /metrics.");
      response.writeHead(200, { "Content-Type": "text/plain; version=0.0.4; charset=utf-8" });
      response.end(expositionOf(newest));
    } catch (error) {
      const [status, text] = error instanceof ApiError ? [error.status, error.message] : [500, String(error)];
      response.writeHead(status, { "Content-Type": "text/plain; charset=utf-8" }).end(`${text}\n`);
    }
  });
  server.maxConnections = 64;
  await new Promise<void>((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) => {
      const why = error.code === "EADDRINUSE" ? "another program listens there; choose another one" : error.message;
      reject(new UserError(`--metrics_port ${port}: cannot listen on 127.0.0.1: ${why}`));
    });
    server.listen(port, "127.0.0.1", resolve);
  });
  server.unref();
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/metrics`,
    logger: {
      name: "prometheus",
      log: (step, metrics) => {
        for (const [name, value] of Object.entries({ step, ...metrics })) newest.set(nameOf(name), value);
      },
    },
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

/** "objective/kl" is webrlhf_objective_kl: Prometheus' names have letters, digits and underscores. */
const nameOf = (name: string): string => `webrlhf_${name.replaceAll(/[^a-zA-Z0-9_]/g, "_")}`;

const expositionOf = (numbers: ReadonlyMap<string, number>): string =>
  [...numbers].map(([name, value]) => `# TYPE ${name} gauge\n${name} ${spelled(value)}\n`).join("");

const spelled = (value: number): string => {
  if (Number.isFinite(value)) return String(value);
  return Number.isNaN(value) ? "NaN" : value > 0 ? "+Inf" : "-Inf";
};
