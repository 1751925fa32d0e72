/** A server with OpenAI's interface that samples instead of this program. */

import type { Tokenizer } from "../data/tokenizer.ts";
import { OpenAIClient } from "../io/openai-client.ts";
import type { CausalLM } from "../nn/models.ts";
import { adapterFiles } from "../nn/peft.ts";
import { remoteSource } from "../rlhf/remote.ts";
import type { RolloutSource } from "../rlhf/source.ts";
import { UserError } from "../runtime/errors.ts";
import type { Files } from "../runtime/files.ts";
import { absolute, join } from "../runtime/paths.ts";
import { spelled } from "../settings/index.ts";

/** Choice of the server that samples; names are those of the program's options. */
export interface ServerOptions {
  /** http://host:port. Default: none. */
  server?: string | null | undefined;
  /** The model's name there. Default: its only one. */
  serverModel?: string | null | undefined;
  /** Requests under way at once. Default 16. */
  serverConcurrency?: number | undefined;
  /** Default: the variable OPENAI_API_KEY. */
  apiKey?: string | null | undefined;
}

/** A run as a sampler on a server needs it. */
export interface ServedRun {
  model: CausalLM;
  tokenizer: Tokenizer;
  /** How often the policy is sampled from after it has changed, and once before. */
  iterations: number;
  files: Files;
  /** The run's folder: an adapter is handed over through it. */
  outputDir: string;
  signal: AbortSignal;
}

/** The server that the options name, or null. */
export function serverClient({ server, apiKey }: ServerOptions): OpenAIClient | null {
  if (!server) return null;
  return new OpenAIClient({ baseUrl: server, apiKey: apiKey ?? globalThis.process?.env?.OPENAI_API_KEY ?? null });
}

/** The name of a server's model, its adapters apart. Throws `UserError` where it has several. */
export async function onlyModel(client: OpenAIClient, signal: AbortSignal, options: object = {}): Promise<string> {
  const names = await client.baseModels(signal);
  if (names.length === 1) return names[0];
  throw new UserError(
    `the server has ${names.length} models (${names.join(", ")}): choose with ${spelled(options, "serverModel")}`,
  );
}

/**
 * Draws a trainer's responses on a server; null without one. The server must have the policy's weights: an adapter is handed to
 * it whenever the policy is to draw anew, as vLLM takes them at run time (`VLLM_ALLOW_RUNTIME_LORA_UPDATING`), under a new
 * name each time, because servers keep what they have loaded under a name. A whole model cannot be handed over, so it is
 * sampled from once. Ctrl-C lets the iteration finish, as without a server.
 */
export async function serverSource(options: ServerOptions, run: ServedRun): Promise<RolloutSource | null> {
  const client = serverClient(options);
  if (!client) return null;
  const { serverConcurrency: concurrency = 16 } = options;
  const { model, tokenizer, iterations, files, outputDir, signal } = run;
  if (!model.adapter) {
    if (iterations > 1) {
      throw new UserError(
        "a server's weights do not follow the training: train an adapter, which is loaded into the server in every " +
          `iteration, with ${spelled(options, "usePeft")}, or take its responses once, in a single iteration`,
      );
    }
    const name = options.serverModel ?? (await onlyModel(client, signal, options));
    return remoteSource({ client, tokenizer, concurrency, serve: async () => ({ model: name }) });
  }
  const id = crypto.randomUUID().slice(0, 8);
  const serve = async (version: number, policy: CausalLM) => {
    const name = `webrlhf-${id}-${version}`;
    // Named as something half-written, so that the next start removes what a kill leaves.
    const folder = join(absolute(outputDir), `served.partial-${globalThis.process?.pid ?? 0}-${name}`);
    try {
      await files.writeFolder(folder, await adapterFiles(policy));
      await client.post("/load_lora_adapter", { lora_name: name, lora_path: folder });
    } catch (error) {
      await files.remove(folder);
      throw error;
    }
    return {
      model: name,
      async remove() {
        // Whatever went wrong is said already; a server that is gone has nothing to unload.
        await client.post("/unload_lora_adapter", { lora_name: name }).catch(() => {});
        await files.remove(folder);
      },
    };
  };
  return remoteSource({ client, tokenizer, concurrency, serve });
}
