/** Who may talk to the server: keys, host names, origins. */
import { createHash, timingSafeEqual } from "node:crypto";
import type { IncomingHttpHeaders } from "node:http";
import { ApiError } from "./errors.ts";

export interface GuardOptions {
  /** Requests must carry `Authorization: Bearer <key>`; null asks for none. */
  apiKey: string | null;
  /** Host names, besides localhost and bare addresses, under which the server may be reached. */
  allowedHosts: readonly string[];
  /** Origins whose pages may call the server from a browser; "*" allows all. Default none. */
  corsOrigins: readonly string[];
}

const digest = (text: string) => createHash("sha256").update(text).digest();

/** Compares in a time that tells nothing about the key. */
export function checkKey(headers: IncomingHttpHeaders, apiKey: string | null): void {
  if (apiKey === null) return;
  const given = /^Bearer (.*)$/i.exec(headers.authorization ?? "")?.[1] ?? "";
  if (timingSafeEqual(digest(given.trim()), digest(apiKey))) return;
  throw new ApiError(401, "Incorrect API key provided.", { type: "authentication_error", code: "invalid_api_key" });
}

/**
 * A page of another site can make a browser send requests to this machine under a name that it has pointed here (DNS
 * rebinding). Such requests carry that name; those to localhost or to an address do not.
 */
export function checkHost(headers: IncomingHttpHeaders, allowed: readonly string[]): void {
  const host = (headers.host ?? "").toLowerCase();
  const name = host.replace(/:\d+$/, "").replace(/\.$/, "");
  const address = /^(\d{1,3}(\.\d{1,3}){3}|\[[0-9a-f:.]+\])$/.test(name);
  if (address || name === "localhost" || allowed.some((a) => a.toLowerCase() === name)) return;
  throw new ApiError(403, "This server does not answer under that host name; --allowed_hosts can add it.", {
    type: "permission_error",
    code: "host_not_allowed",
  });
}

/** The headers that let a page of an allowed origin read the answer. Refuses pages of other origins. */
export function corsHeaders(headers: IncomingHttpHeaders, origins: readonly string[]): Record<string, string> {
  const { origin } = headers;
  if (origin === undefined) return {};
  const every = origins.includes("*");
  if (every || origins.includes(origin)) {
    return { "Access-Control-Allow-Origin": every ? "*" : origin, ...(!every && { Vary: "Origin" }) };
  }
  if (origin === `http://${headers.host}`) return {};
  throw new ApiError(403, "Pages of this origin may not call the server; --cors_origins can allow it.", {
    type: "permission_error",
    code: "origin_not_allowed",
  });
}

/** Also said in answer to a browser's preflight. */
export const PREFLIGHT = {
  "Access-Control-Allow-Methods": "GET, POST, OPTIONS",
  "Access-Control-Allow-Headers": "Authorization, Content-Type",
  "Access-Control-Max-Age": "600",
};
