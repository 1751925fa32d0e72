/** Serves the page of runs to this machine: reads folders, and hands wishes of those who may to runs at work. */
import { createHash, randomBytes, timingSafeEqual } from "node:crypto";
import { access, constants } from "node:fs/promises";
import type { IncomingMessage, ServerResponse } from "node:http";
import { type Control, stateOf } from "../report/watch/controls.ts";
import { diagnosesPage, runsOf, watchPage, watchScript } from "../report/watch/page.ts";
import { RunWatcher, type WatchedRun } from "../report/watch/read.ts";
import { type Colouring, colourings, viewOf } from "../report/watch/view.ts";
import { leaveWish, wishOf } from "../rlhf/controls.ts";
import { isUserError } from "../runtime/errors.ts";
import type { Files } from "../runtime/files.ts";
import { BodyReader } from "../serve/body.ts";
import { ApiError } from "../serve/errors.ts";
import { type LoopbackServer, serveLoopback } from "./loopback.ts";

/** Runs that are drawn at once. */
const MOST_CHOSEN = 12;
/** Metrics that are drawn at once. */
const MOST_DRAWN = 60;
/** Bytes of a request that asks for something. */
const LONGEST = 8192;

interface Answer {
  readonly type: string;
  readonly body: string;
}

/** A server of the page. */
export interface WatchServer extends LoopbackServer {
  /** The page's address; with the token, where runs may be controlled by whoever has it. */
  readonly page: string;
}

/** What all requests have in common. */
interface Watching {
  readonly files: Files;
  readonly watcher: RunWatcher;
  readonly dir: string;
  readonly bodies: BodyReader;
  /** Null where nobody may control runs. */
  readonly token: string | null;
}

/**
 * Starts serving on 127.0.0.1. Others on this machine may reach that, so that controls need a token, which the address holds that
 * whoever started the server sees.
 * @param port 0 takes any free one
 * @param controls lets runs be paused, stopped and changed. Default true
 * @throws UserError where the port cannot be had
 */
export async function startWatch(files: Files, dir: string, port: number, controls = true): Promise<WatchServer> {
  const token = controls ? randomBytes(24).toString("base64url") : null;
  const watching = { files, watcher: new RunWatcher(files, dir), dir, bodies: new BodyReader(LONGEST), token };
  const methods = controls ? ["GET", "HEAD", "POST"] : ["GET", "HEAD"];
  const server = await serveLoopback(
    port,
    "--port",
    (request, response) => answer(watching, request, response),
    methods,
  );
  return { ...server, page: token === null ? server.url : `${server.url}/?token=${token}` };
}

async function answer(watching: Watching, request: IncomingMessage, response: ServerResponse): Promise<void> {
  response.setHeader("X-Content-Type-Options", "nosniff");
  response.setHeader("Referrer-Policy", "same-origin"); // with none, forms would not say where they come from
  response.setHeader("Cache-Control", "no-store");
  response.setHeader("Cross-Origin-Resource-Policy", "same-origin");
  response.setHeader(
    "Content-Security-Policy",
    "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'unsafe-inline'; img-src data:; form-action 'self'; " +
      "frame-ancestors 'none'; base-uri 'none'",
  );
  const url = new URL(request.url ?? "/", "http://127.0.0.1");
  if (request.method === "POST") {
    const back = await ask(watching, url, request);
    return void response.writeHead(303, { Location: `/?${back}` }).end();
  }
  const { type, body } = await replyTo(watching, url);
  const tag = `"${createHash("sha256").update(body).digest("base64url")}"`;
  if (request.headers["if-none-match"] === tag) return void response.writeHead(304, { ETag: tag }).end();
  const bytes = Buffer.from(body);
  response.writeHead(200, { "Content-Type": `${type}; charset=utf-8`, "Content-Length": bytes.length, ETag: tag });
  response.end(request.method === "HEAD" ? undefined : bytes);
}

/** Hands a wish to a run. Gives the query of the page to go back to. */
async function ask(watching: Watching, url: URL, request: IncomingMessage): Promise<string> {
  const { files, watcher, bodies } = watching;
  if (url.pathname !== "/control") throw new ApiError(405, "Only GET is answered here.");
  const body = await bodies.bytes(request, "application/x-www-form-urlencoded");
  const form = new URLSearchParams(new TextDecoder().decode(body));
  if (!holds(watching, form))
    throw new ApiError(403, "This needs the token of the address that webrlhf watch printed.");
  const place = (await watcher.places()).find(({ name }) => name === form.get("run"));
  if (!place) throw new ApiError(404, "There is no such run here.");
  const value = form.get("value")?.trim() ?? "";
  const wish = wishOf({
    ask: form.get("ask"),
    setting: form.get("setting"),
    value: value === "" ? null : Number(value),
  });
  if (!wish) throw new ApiError(400, "That is nothing a run can be asked for, or no number.");
  try {
    await leaveWish(files, place.folder, wish);
  } catch (error) {
    if (isUserError(error)) throw new ApiError(409, error.message);
    throw error;
  }
  return new URLSearchParams(form.get("back") ?? "").toString();
}

/** Whether a request or an address holds the token; compared in a time that tells nothing about it. */
function holds({ token }: Watching, given: URLSearchParams): boolean {
  if (token === null) return false;
  const digest = (text: string) => createHash("sha256").update(text).digest();
  return timingSafeEqual(digest(given.get("token") ?? ""), digest(token));
}

/** What may be controlled from a page of this address. */
async function controlOf(
  watching: Watching,
  { searchParams: query }: URL,
  runs: readonly WatchedRun[],
): Promise<Control> {
  const { watcher, token } = watching;
  const may = holds(watching, query);
  const off = may
    ? null
    : token === null
      ? "It is at work; controls are off (--controls)."
      : "It is at work. The address that webrlhf watch printed, with its token, has controls.";
  const unwritable = new Set<string>();
  if (may && runs.some(({ standing }) => standing)) {
    for (const { name, folder } of await watcher.places()) {
      await access(folder, constants.W_OK).catch(() => unwritable.add(name));
    }
  }
  return { token: may ? token : null, off, unwritable, back: query.toString() };
}

async function replyTo(watching: Watching, url: URL): Promise<Answer> {
  switch (url.pathname) {
    case "/":
    case "/view": {
      const { choice, view } = await chosen(watching, url);
      const body = url.pathname === "/" ? watchPage(choice, view) : `${runsOf(choice.runs)}${view}`;
      return { type: "text/html", body };
    }
    case "/watch.js":
      return { type: "text/javascript", body: watchScript };
    case "/diagnoses":
      return { type: "text/html", body: diagnosesPage() };
    default:
      throw new ApiError(404, "There is no such page here.");
  }
}

/** What a page's address asks for; one that names no run shows the newest ones. */
async function chosen(watching: Watching, url: URL) {
  const { watcher, dir: title } = watching;
  const { pathname, searchParams: query } = url;
  const places = await watcher.places();
  const asked = query.getAll("run");
  const every = asked.length === 0 && pathname === "/" && [...query.keys()].every((key) => key === "token");
  const all = await Promise.all(places.map((place) => watcher.read(place)));
  const runs = all.filter(({ name }) => every || asked.includes(name)).slice(0, MOST_CHOSEN);
  const metrics = query.getAll("metric").slice(0, MOST_DRAWN);
  const known = [...new Set(runs.flatMap(({ steps }) => steps.slice(-3).flatMap(Object.keys)))].sort();
  const colour = colourings.find((one) => one === query.get("colour")) ?? ("kl" satisfies Colouring);
  const choice = {
    title,
    runs: all.map((run) => ({ name: run.name, chosen: runs.includes(run), state: inShort(run) })),
    metrics: known.filter((name) => name !== "step").map((name) => ({ name, chosen: metrics.includes(name) })),
    colour,
    token: holds(watching, query) ? watching.token : null,
  };
  const control = await controlOf(watching, url, runs);
  return { choice, view: viewOf({ runs, metrics, colour, control }) };
}

/** A run and how it stands, in a few words. */
function inShort(run: WatchedRun): string {
  const { record, steps } = run;
  const step = steps.at(-1)?.step ?? 0;
  return `(${record ? `${record.verb}, ${stateOf(run)}, ` : ""}step ${step})`;
}
