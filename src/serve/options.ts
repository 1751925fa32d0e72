/** How a server behaves. */
import type { GuardOptions } from "./guard.ts";

export interface ServerOptions extends GuardOptions {
  host: string;
  /** 0 takes any free port. */
  port: number;
  maxBodyBytes: number;
  /** Requests being answered at once; more get 503. */
  maxRequests: number;
  /** Time for a request's headers, for its whole body, and for a reader of a stream to take what was sent. */
  headersMs: number;
  bodyMs: number;
  writeMs: number;
  /** One line per answered request. */
  log: (line: string) => void;
}

export const serverDefaults: ServerOptions = {
  host: "127.0.0.1",
  port: 8000,
  apiKey: null,
  allowedHosts: [],
  corsOrigins: [],
  maxBodyBytes: 4 << 20,
  maxRequests: 256,
  headersMs: 10_000,
  bodyMs: 30_000,
  writeMs: 30_000,
  log: () => {},
};
