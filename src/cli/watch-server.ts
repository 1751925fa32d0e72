/** Serves the page of runs to this machine: reads folders, changes nothing. */
import { createHash } from "node:crypto";
import type { IncomingMessage, ServerResponse } from "node:http";
import { diagnosesPage, runsOf, watchPage, watchScript } from "../report/watch/page.ts";
import { RunWatcher, type WatchedRun } from "../report/watch/read.ts";
import { type Colouring, colourings, viewOf } from "../report/watch/view.ts";
import type { Files } from "../runtime/files.ts";
import { ApiError } from "../serve/errors.ts";
import { type LoopbackServer, serveLoopback } from "./loopback.ts";

/** Runs that are drawn at once. */
const MOST_CHOSEN = 12;
/** Metrics that are drawn at once. */
const MOST_DRAWN = 60;

interface Answer {
  readonly type: string;
  readonly body: string;
}

/**
 * Starts serving on 127.0.0.1.
 * @param port 0 takes any free one
 * @throws UserError where the port cannot be had
 */
export function startWatch(files: Files, dir: string, port: number): Promise<LoopbackServer> {
  const watcher = new RunWatcher(files, dir);
  return serveLoopback(port, "--port", (request, response) => answer(watcher, dir, request, response));
}

async function answer(
  watcher: RunWatcher,
  dir: string,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  response.setHeader("X-Content-Type-Options", "nosniff");
  response.setHeader("Referrer-Policy", "no-referrer");
  response.setHeader("Cache-Control", "no-store");
  response.setHeader("Cross-Origin-Resource-Policy", "same-origin");
  response.setHeader(
    "Content-Security-Policy",
    "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'unsafe-inline'; img-src data:; form-action 'self'; " +
      "frame-ancestors 'none'; base-uri 'none'",
  );
  const url = new URL(request.url ?? "/", "http://127.0.0.1");
  const { type, body } = await replyTo(watcher, dir, url);
  const tag = `"${createHash("sha256").update(body).digest("base64url")}"`;
  if (request.headers["if-none-match"] === tag) return void response.writeHead(304, { ETag: tag }).end();
  const bytes = Buffer.from(body);
  response.writeHead(200, { "Content-Type": `${type}; charset=utf-8`, "Content-Length": bytes.length, ETag: tag });
  response.end(request.method === "HEAD" ? undefined : bytes);
}

async function replyTo(watcher: RunWatcher, dir: string, url: URL): Promise<Answer> {
  switch (url.pathname) {
    case "/":
    case "/view": {
      const { choice, view } = await chosen(watcher, dir, url);
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
async function chosen(watcher: RunWatcher, title: string, { pathname, searchParams: query }: URL) {
  const places = await watcher.places();
  const asked = query.getAll("run");
  const every = asked.length === 0 && pathname === "/" && query.size === 0;
  const all = await Promise.all(places.map((place) => watcher.read(place)));
  const runs = all.filter(({ name }) => every || asked.includes(name)).slice(0, MOST_CHOSEN);
  const metrics = query.getAll("metric").slice(0, MOST_DRAWN);
  const known = [...new Set(runs.flatMap(({ steps }) => steps.slice(-3).flatMap(Object.keys)))].sort();
  const colour = colourings.find((one) => one === query.get("colour")) ?? ("kl" satisfies Colouring);
  const choice = {
    title,
    runs: all.map((run) => ({ name: run.name, chosen: runs.includes(run), state: stateOf(run) })),
    metrics: known.filter((name) => name !== "step").map((name) => ({ name, chosen: metrics.includes(name) })),
    colour,
  };
  return { choice, view: viewOf({ runs, metrics, colour }) };
}

/** How a run stands, in a few words. */
function stateOf({ record, steps }: WatchedRun): string {
  const step = steps.at(-1)?.step ?? 0;
  const verb = record ? `${record.verb}, ${record.state}, ` : "";
  return `(${verb}step ${step})`;
}
