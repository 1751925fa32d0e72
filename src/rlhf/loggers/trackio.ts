/**
 * Trackio through the HTTP interface of its server (`trackio show`, or a Space), whose `bulk_log` its own client uses for runs of
 * other machines. Its local database has no documented format, so nothing writes there.
 */
import type { Files } from "../../runtime/files.ts";
import { readJson, writeJson } from "../../runtime/json-files.ts";
import { join } from "../../runtime/paths.ts";
import { type LoggedMetrics, type MetricsLogger, trackedNames } from "./logger.ts";

/** Where Trackio's server is, and what the run is called there. */
export interface TrackioOptions {
  /** The run's folder, where `trackio.json` keeps the run's id. */
  outputDir: string;
  /** The server's address as `trackio show` prints it, with its `write_token`. */
  serverUrl: string;
  /** Default "huggingface", as transformers'. */
  project?: string | null;
  /** Default "run". */
  runName?: string | null;
  /** Default: the runtime's. */
  fetch?: typeof fetch;
}

/**
 * Sends a run's numbers to a Trackio server, by transformers' names ("train/loss", "eval/loss"), with the settings as its
 * config. Each line has an id by which the server knows it, so that a run that goes on doubles none.
 */
export function trackioLogger(files: Files, options: TrackioOptions): MetricsLogger {
  const { outputDir, serverUrl, fetch: send = fetch } = options;
  const [project, run] = [options.project ?? "huggingface", options.runName ?? "run"];
  const address = new URL(serverUrl);
  const token = address.searchParams.get("write_token");
  const url = new URL("api/bulk_log", `${address.origin}${address.pathname.replace(/\/*$/, "/")}`);
  let id = "";
  let config: Readonly<Record<string, unknown>> | null = null;
  return {
    name: "trackio",
    async start({ step, settings }) {
      const path = join(outputDir, "trackio.json");
      const kept = step > 0 ? await readJson<{ run_id?: unknown }>(files, path) : null;
      id = typeof kept?.run_id === "string" ? kept.run_id : crypto.randomUUID().replaceAll("-", "");
      await writeJson(files, path, { run_id: id });
      config = settings;
    },
    async log(step, metrics) {
      const kind = Object.keys(metrics).every((name) => name.startsWith("eval_")) ? "eval" : "train";
      const entry = {
        project,
        run,
        run_id: id,
        step,
        metrics: jsonOf(metrics),
        config,
        log_id: `${id}-${kind}-${step}`,
      };
      config = null;
      const answer = await send(url, {
        method: "POST",
        headers: { "Content-Type": "application/json", ...(token && { "X-Trackio-Write-Token": token }) },
        body: JSON.stringify({ kwargs: { logs: [entry], hf_token: null } }),
        signal: AbortSignal.timeout(10_000),
      });
      const said = await answer.text();
      if (!answer.ok) throw new Error(`${url.origin} answered ${answer.status}: ${said.slice(0, 200)}`);
    },
  };
}

/** Numbers as Trackio's client writes them, which names those that JSON has not. */
const jsonOf = (metrics: LoggedMetrics): Record<string, number | string> =>
  Object.fromEntries(
    trackedNames(metrics).map(([name, value]) => [name, Number.isFinite(value) ? value : String(value)]),
  );
