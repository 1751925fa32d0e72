/** A run's newest numbers for Prometheus, on this machine alone. */
import type { MetricsLogger } from "../rlhf/loggers/logger.ts";
import { ApiError } from "../serve/errors.ts";
import { serveLoopback } from "./loopback.ts";

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
  const server = await serveLoopback(port, "--metrics_port", (request, response) => {
    if (request.url !== "/metrics") throw new ApiError(404, "The numbers are at /metrics.");
    response.writeHead(200, { "Content-Type": "text/plain; version=0.0.4; charset=utf-8" });
    response.end(expositionOf(newest));
  });
  server.unref();
  return {
    url: `${server.url}/metrics`,
    logger: {
      name: "prometheus",
      log: (step, metrics) => {
        for (const [name, value] of Object.entries({ step, ...metrics })) newest.set(nameOf(name), value);
      },
    },
    close: server.close,
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
