/** Who may talk to the server: keys, host names, origins. */
import { createHash, timingSafeEqual } from "node:crypto";
import type { IncomingHttpHeaders } from "node:http";
import { UserError } from "../runtime/errors.ts";
import { ApiError } from "./errors.ts";

export interface GuardOptions {
  /** Requests must carry `Authorization: Bearer <key>`, or `X-API-Key: <key>`; null asks for none. */
  apiKey: string | null;
  /** Host names, besides localhost and bare addresses, under which the server may be reached. */
  allowedHosts: readonly string[];
  /** Origins whose pages may call the server from a browser; "*" allows all. Default none. */
  corsOrigins: readonly string[];
}

const digest = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest();

/** The space that may stand around a header's value; `trim` would take bytes of UTF-8 letters with it. */
const trimmed = (text: string) => text.replace(/^[ \t\r\n]+|[ \t\r\n]+$/g, "");

/** Throws `UserError` for a key that no header could carry. */
export function usableKey(apiKey: string): string {
  const key = trimmed(apiKey);
  if (key === "") throw new UserError("the API key is empty; leave it out to ask clients for none");
  // biome-ignore lint/suspicious/noControlCharactersInRegex: those are what a header cannot hold
  if (/[\x00-\x1f\x7f]/.test(key)) {
    throw new UserError("the API key holds control characters, which no client can send: choose another one");
  }
  return key;
}

/**
 * Compares in a time that tells nothing about the key. A header is bytes: clients write other letters than English ones
 * into it as UTF-8 or, like `fetch`, as Latin-1.
 */
export function checkKey(headers: IncomingHttpHeaders, apiKey: string | null): void {
  if (apiKey === null) return;
  const own = headers["x-api-key"];
  const given = /^Bearer[ \t]+(.*)$/is.exec(headers.authorization ?? "")?.[1] ?? (typeof own === "string" ? own : "");
  const found = digest(Buffer.from(trimmed(given), "latin1"));
  const right = (["utf8", "latin1"] as const).map((encoding) =>
    timingSafeEqual(found, digest(Buffer.from(trimmed(apiKey), encoding))),
  );
  if (right[0] || (right[1] && isLatin(apiKey))) return;
  throw new ApiError(401, "Incorrect API key provided.", { type: "authentication_error", code: "invalid_api_key" });
}

/** Whether Latin-1 keeps the text: of other letters it keeps a byte only, and other keys would do as well. */
const isLatin = (text: string) => [...text].every((c) => c.charCodeAt(0) < 256 && c.length === 1);

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
