/** Which pages may work in a cluster, and how its server takes them: over WebSocket. */
import { UserError } from "../runtime/errors.ts";

/** What a server is told of pages. */
export interface PagesChoice {
  /** Port of the server for WebSocket. */
  port: number;
  /** Where the page for workers, or for labels, lies; the server does not look at it, invitations name it. */
  page: string;
  /** Pages label and do nothing else: then they need no WebGPU, and may come over plain http. */
  labels?: boolean;
  /** Pages of these origins may connect: "https://host" or, with another port than the usual one, "https://host:8080". */
  origins: readonly string[];
}

/** Where `npm run demo` serves the page. */
export const OWN_PAGE = "http://localhost:5173/worker/";
const OWN_LABEL_PAGE = "http://localhost:5173/label/";

/** Whether a host's name or address is this machine's alone. */
export const isLoopback = (host: string): boolean =>
  /^(localhost|\[?::1\]?|127\.\d+\.\d+\.\d+)$/.test(host) || host.endsWith(".localhost");

/** What is to be chosen of pages. */
export interface PagesAsked {
  /** Address that the server listens at. */
  host: string;
  port: number;
  /** The server has a certificate. */
  encrypted: boolean;
  /** Null takes the page that `npm run demo` serves on this machine. */
  page: string | null;
  /** Null takes the page's. */
  origins: readonly string[] | null;
  /** Pages are to label, and nothing else. */
  labels: boolean;
}

/**
 * Looks at what was chosen for pages.
 * @param name what a person calls a choice
 * @throws UserError for what no page could work with
 */
export function pagesOf(asked: PagesAsked, name: (choice: "page" | "origins") => string): PagesChoice {
  const { host, port, encrypted, labels } = asked;
  if (!encrypted && !isLoopback(host) && !labels) {
    throw new UserError(
      `pages reach a server at ${host} with TLS only, for they have WebGPU on https:// and on localhost alone, and an https:// page may ` +
        "not connect without: give --tls_cert and --tls_key, or leave out --host; pages that only label (--labels) need neither",
    );
  }
  if (asked.page === null && !isLoopback(host)) {
    const [what, example] = labels ? ["labels", "http://HOST:8080/label/"] : ["workers", "https://HOST/worker/"];
    throw new UserError(`say where the page for ${what} lies: ${name("page")} ${example}`);
  }
  const page = pageAddress(asked.page ?? (labels ? OWN_LABEL_PAGE : OWN_PAGE), name("page"), labels);
  if (labels && !encrypted && page.startsWith("https:") && !isLoopback(host)) {
    throw new UserError(
      `${name("page")} ${page}: an https:// page connects to nothing without TLS; give --tls_cert and --tls_key, or a page under http://`,
    );
  }
  const given = asked.origins ?? [new URL(page).origin];
  const origins = given.map((text) => originOf(text, name("origins")));
  const [twice] = origins.filter((one, i) => origins.findIndex((other) => hostOf(other) === hostOf(one)) < i);
  if (twice !== undefined) {
    throw new UserError(
      `${name("origins")} has two of the host ${hostOf(twice)}: older servers know only one of each host`,
    );
  }
  return { port, page, origins, ...(labels && { labels }) };
}

/**
 * Looks at the address of a page for workers, or for labels.
 * @param labels the page labels, which needs no WebGPU
 * @throws UserError where it is none, or where browsers would give the page no WebGPU
 */
export function pageAddress(text: string, name: string, labels = false): string {
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url?.protocol === "https:" || (url?.protocol === "http:" && (labels || isLoopback(url.hostname)))) {
    url.hash = "";
    return url.href;
  }
  if (labels)
    throw new UserError(`${name} ${text} is no page's address: name such a one, e.g. http://HOST:8080/label/`);
  throw new UserError(
    `${name} ${text}: a page has WebGPU on https:// and on http://localhost only; name such an address, e.g. https://HOST/worker/`,
  );
}

/**
 * The page for labels beside a cluster's page for workers.
 * @throws UserError where it is not known
 */
export function labelPageOf({ page, labels }: PagesChoice): string {
  if (labels) return page;
  if (/\/worker\/$/.test(page)) return page.replace(/worker\/$/, "label/");
  throw new UserError(`say where the page for labels lies: --page; ${page} is the one for workers`);
}

const hostOf = (origin: string): string => new URL(origin).hostname;

function originOf(text: string, name: string): string {
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url && /^https?:$/.test(url.protocol) && url.href === `${url.origin}/`) return url.origin;
  throw new UserError(`${name} ${text}: an origin is a page's scheme, host and port alone, e.g. https://host:8080`);
}

/** The part of the server's configuration. */
export function pagesText(
  host: string,
  pages: PagesChoice,
  certificate: { cert: string; key: string } | null,
): string[] {
  const text = (value: string) => JSON.stringify(value);
  return [
    "websocket {",
    `  listen: ${text(`${host}:${pages.port}`)}`,
    ...(certificate
      ? ["  tls {", `    cert_file: ${text(certificate.cert)}`, `    key_file: ${text(certificate.key)}`, "  }"]
      : ["  no_tls: true"]),
    `  allowed_origins: [${pages.origins.map(text).join(", ")}]`,
    "}",
  ];
}
