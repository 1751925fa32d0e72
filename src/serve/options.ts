/** How a server behaves. */
import type { AdapterSource } from "./adapters.ts";
import type { GuardOptions } from "./guard.ts";
import type { RequestLimits } from "./limits.ts";
import type { Revive } from "./model.ts";
import type { TrainingSource } from "./train/context.ts";

export interface ServerOptions extends GuardOptions, RequestLimits {
  host: string;
  /** 0 takes any free port. */
  port: number;
  maxBodyBytes: number;
  /** Requests being answered at once; more get 503. */
  maxRequests: number;
  /** Connections at once; those that ask nothing make room for new ones. */
  maxConnections: number;
  /** Time for a request's headers, for its whole body, and for a reader to take a piece of what was sent. */
  headersMs: number;
  bodyMs: number;
  writeMs: number;
  /** Time for a whole answer; 0 sets no limit. */
  requestMs: number;
  /** Where adapters may be loaded from at run time; null loads none. */
  adapters: AdapterSource | null;
  /** What clients may train, and where they save; null lets them train nothing. */
  training: TrainingSource | null;
  /** Opens the model anew when its device has failed; null leaves that to whoever started the server. */
  revive: Revive | null;
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
  maxRequestTokens: 1 << 18,
  maxAnswerBytes: 16 << 20,
  maxRequests: 256,
  maxConnections: 1024,
  headersMs: 10_000,
  bodyMs: 30_000,
  writeMs: 30_000,
  requestMs: 600_000,
  adapters: null,
  training: null,
  revive: null,
  log: () => {},
};
