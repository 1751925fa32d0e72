import { isIP } from "node:net";
import { UserError } from "../../runtime/errors.ts";
import { diskFiles } from "../../runtime/files.ts";
import { startServer } from "../../serve/server.ts";
import { openGpu } from "../gpu.ts";
import { contextLength, openTextModel } from "../models/text-models.ts";
import { serveOptions } from "../options/sampling.ts";
import { defineVerb } from "../verb.ts";

export const serveVerb = defineVerb({
  name: "serve",
  summary: "Serve a model over HTTP, as OpenAI's clients expect it",
  options: serveOptions,
  examples: [
    "webrlhf serve --model_name_or_path out/ppo --port 8000",
    "webrlhf serve --model_name_or_path out/ppo --host 0.0.0.0 --api_key secret --max_num_seqs 32",
  ],
  interruptNote: "\nfinishing what is under way; Ctrl-C again stops at once",
  async run(o, { terminal, signal }) {
    const files = await diskFiles();
    const apiKey = o.api_key ?? process.env.WEBRLHF_API_KEY ?? null;
    if (apiKey === "") throw new UserError("the API key is empty; leave it out to ask clients for none");
    await openGpu(terminal);
    const { model, close } = await openTextModel(files, o, (context) => ({
      ...(o.served_model_name !== null && { name: o.served_model_name }),
      ...(o.generation_config === "none" && { generationConfig: {} }),
      slots: o.max_num_seqs,
      capacity: contextLength(context, o.max_model_len),
      maxWaiting: o.max_waiting,
    }));
    try {
      const server = await startServer(model, {
        host: o.host,
        port: o.port,
        apiKey,
        allowedHosts: o.allowed_hosts ?? [],
        corsOrigins: o.cors_origins ?? [],
        maxBodyBytes: o.max_body_bytes,
        log: (line) => terminal.line(terminal.style("dim", line)),
      });
      terminal.line(`${model.name} is served at ${server.url}/v1, ${model.engine.capacity} tokens per sequence`);
      if (!isLoopback(o.host) && apiKey === null) {
        terminal.line(terminal.style("yellow", "anyone who reaches this address may use it; --api_key asks for a key"));
      }
      await stopped(signal);
      await server.close(o.shutdown_timeout * 1000);
      terminal.line("stopped");
    } finally {
      await close();
    }
  },
});

const isLoopback = (host: string) =>
  host === "localhost" || host === "::1" || (isIP(host) === 4 && host.startsWith("127."));

/** Resolves at Ctrl-C or SIGTERM; a second one of either ends the process. */
function stopped(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    let asked = signal.aborted;
    const stop = () => {
      asked = true;
      resolve();
    };
    if (asked) resolve();
    signal.addEventListener("abort", stop, { once: true });
    process.on("SIGTERM", () => {
      if (asked) process.exit(143);
      stop();
    });
  });
}
