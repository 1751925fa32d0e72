import { isIP } from "node:net";
import { usableKey } from "../../serve/guard.ts";
import { contextLength, openTextModel } from "../../serve/open.ts";
import { startServer } from "../../serve/server.ts";
import { serveSettings } from "../generation-settings.ts";
import { openGpu } from "../gpu.ts";
import { surroundings } from "../surroundings.ts";
import { defineVerb } from "../verb.ts";
import { summaries } from "./summaries.ts";

export const serveVerb = defineVerb({
  name: "serve",
  summary: summaries.serve,
  settings: serveSettings,
  examples: [
    "webrlhf serve --model_name_or_path out/ppo --port 8000",
    "webrlhf serve --model_name_or_path out/ppo --host 0.0.0.0 --api_key secret --max_num_seqs 32",
  ],
  interruptNote: "\nfinishing what is under way; Ctrl-C again stops at once",
  async run(o, context) {
    const { terminal, signal } = context;
    const apiKey = o.apiKey ?? process.env.WEBRLHF_API_KEY ?? null;
    if (apiKey !== null) usableKey(apiKey);
    await openGpu(terminal);
    const { model, close, openAdapter, revive } = await openTextModel(
      o.modelNameOrPath as string,
      { ...o, ...surroundings(context) },
      (most) => ({
        ...(o.servedModelName !== null && { name: o.servedModelName }),
        ...(o.generationConfig === "none" && { generationConfig: {} }),
        slots: o.maxNumSeqs,
        capacity: contextLength(most, o.maxModelLen),
        maxWaiting: o.maxWaiting,
      }),
    );
    try {
      const server = await startServer(model, {
        host: o.host,
        port: o.port,
        apiKey,
        allowedHosts: o.allowedHosts ?? [],
        corsOrigins: o.corsOrigins ?? [],
        maxBodyBytes: o.maxBodyBytes,
        maxRequests: o.maxRequests,
        maxRequestTokens: o.maxRequestTokens,
        maxAnswerBytes: o.maxAnswerBytes,
        requestMs: o.requestTimeout * 1000,
        adapters: o.loraFolders && { folders: o.loraFolders, most: o.maxLoras, open: openAdapter },
        revive,
        log: (line) => terminal.line(terminal.style("dim", line)),
      });
      terminal.line(`${model.name} is served at ${server.url}/v1, ${model.engine.capacity} tokens per sequence`);
      if (!isLoopback(o.host) && apiKey === null) {
        terminal.line(terminal.style("yellow", "anyone who reaches this address may use it; --api_key asks for a key"));
      }
      await stopped(signal);
      await server.close(o.shutdownTimeout * 1000);
      terminal.line("stopped");
    } finally {
      await close();
    }
  },
});

const isLoopback = (host: string) =>
  host === "localhost" || host === "::1" || (isIP(host) === 4 && host.startsWith("127."));

/** Resolves when the process is asked to stop. */
function stopped(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener("abort", () => resolve(), { once: true });
  });
}
