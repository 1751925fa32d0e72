import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { diskFiles } from "../../runtime/files.ts";
import { usableKey } from "../../serve/guard.ts";
import { contextLength, type OpenTextModel, openTextModel } from "../../serve/open.ts";
import { startServer } from "../../serve/server.ts";
import type { TrainingSource } from "../../serve/train/context.ts";
import { serveSettings } from "../generation-settings.ts";
import { openGpu } from "../gpu.ts";
import { isLoopback, stopped } from "../listening.ts";
import { surroundings } from "../surroundings.ts";
import { defineVerb } from "../verb.ts";
import { summaries } from "./summaries.ts";

export const serveVerb = defineVerb({
  name: "serve",
  summary: summaries.serve,
  settings: serveSettings,
  argument: "modelNameOrPath",
  examples: [
    "webrlhf serve --model_name_or_path out/ppo --port 8000",
    "webrlhf serve --model_name_or_path out/ppo --host 0.0.0.0 --api_key secret --max_num_seqs 32",
    "webrlhf serve Qwen/Qwen3-0.6B --train",
  ],
  interruptNote: "\nfinishing what is under way; Ctrl-C again stops at once",
  async run(o, context) {
    const { terminal, signal } = context;
    const apiKey = o.apiKey ?? process.env.WEBRLHF_API_KEY ?? null;
    if (apiKey !== null) usableKey(apiKey);
    await openGpu(terminal);
    const opened = await openTextModel(o.modelNameOrPath as string, { ...o, ...surroundings(context) }, (most) => ({
      ...(o.servedModelName !== null && { name: o.servedModelName }),
      ...(o.generationConfig === "none" && { generationConfig: {} }),
      slots: o.maxNumSeqs,
      capacity: contextLength(most, o.maxModelLen),
      maxWaiting: o.maxWaiting,
    }));
    const { model, close, openAdapter, revive } = opened;
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
        training: o.train ? await trainingSource(opened, o) : null,
        revive,
        log: (line) => terminal.line(terminal.style("dim", line)),
      });
      terminal.line(`${model.name} is served at ${server.url}/v1, ${model.engine.capacity} tokens per sequence`);
      if (o.train)
        terminal.line(`clients may train it at TINKER_BASE_URL=${server.url}; they save below ${o.trainFolder}`);
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

/** What clients may train. The tokenizer of a folder is for those of this machine; others know it by the served name. */
async function trainingSource(
  { adapt, modules, family, openAdapter }: OpenTextModel,
  o: ReturnType<typeof serveSettings>,
): Promise<TrainingSource> {
  const folder = o.modelNameOrPath as string;
  return {
    files: await diskFiles(),
    folder: o.trainFolder,
    tokenizer: !existsSync(folder) ? folder : isLoopback(o.host) ? resolve(folder) : null,
    family,
    modules,
    adapt,
    open: openAdapter,
    maxLoraRank: o.maxLoraRank,
    maxTrainModels: o.maxTrainModels,
    maxSamplers: o.maxSamplers,
    maxCheckpoints: o.maxCheckpoints,
    sessionMs: o.sessionTimeout * 1000,
  };
}
