/** Under which addresses a cluster's server is reached. */
import { X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import type { ServerChoice } from "../cluster/configuration.ts";
import { UserError } from "../runtime/errors.ts";

const everywhere = (host: string): boolean => host === "0.0.0.0" || host === "::";
const bracketed = (host: string): string => (host.includes(":") && !host.startsWith("[") ? `[${host}]` : host);

/** The address that this machine's own programs connect to. */
export function addressOf({ host, port, certificate }: ServerChoice): string {
  const scheme = certificate ? "tls" : "nats";
  return `${scheme}://${bracketed(everywhere(host) ? "127.0.0.1" : host)}:${port}`;
}

/**
 * The address that pages connect to; null where none may. Without a certificate a server that listens everywhere is looked for
 * where the page lies.
 * @param known the server's address as others reach it, where somebody has said it
 * @throws UserError where the certificate does not say the server's name
 */
export function pagesAddressOf({ host, pages, certificate }: ServerChoice, known: string | null): string | null {
  if (!pages) return null;
  if (known !== null && /^wss?:/.test(known)) return known;
  const scheme = certificate ? "wss" : "ws";
  const name =
    known !== null
      ? new URL(known).hostname
      : certificate
        ? certifiedName(certificate.cert)
        : ownName(host, pages.page);
  return `${scheme}://${bracketed(name)}:${pages.port}`;
}

const ownName = (host: string, page: string): string => (everywhere(host) ? new URL(page).hostname : host);

/** A certificate's first name, or address: browsers accept no other. */
function certifiedName(file: string): string {
  const names = new X509Certificate(readFileSync(file)).subjectAltName ?? "";
  const found = /DNS:([^,\s*]+)(?:,|$)/.exec(names)?.[1] ?? /IP Address:([^,\s]+)/.exec(names)?.[1];
  if (found) return found;
  throw new UserError(`${file} does not say the server's name: say it with --cluster tls://HOST:PORT`);
}
