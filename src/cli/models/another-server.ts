/** A server with OpenAI's interface that samples instead of this program. */
import { join, resolve } from "node:path";
import type { Tokenizer } from "../../data/tokenizer.ts";
import { OpenAIClient } from "../../io/openai-client.ts";
import type { CausalLM } from "../../nn/models.ts";
import { adapterFiles } from "../../nn/peft.ts";
import { sampleRemotely } from "../../rlhf/remote.ts";
import type { Sampler } from "../../rlhf/rollout.ts";
import { UserError } from "../../runtime/errors.ts";
import type { Files } from "../../runtime/files.ts";
import type { Values } from "../option.ts";
import type { serverOptions } from "../options/shared.ts";

/** The server that the options name, if any. */
export function serverClient(o: Values<typeof serverOptions>): OpenAIClient | null {
  if (o.server === null) return null;
  return new OpenAIClient({ baseUrl: o.server, apiKey: o.api_key ?? process.env.OPENAI_API_KEY ?? null });
}

/** The name of the server's model. */
export async function onlyModel(client: OpenAIClient, signal: AbortSignal): Promise<string> {
  const names = await client.models(signal);
  if (names.length === 1) return names[0];
  throw new UserError(`the server has ${names.length} models (${names.join(", ")}): choose with --server_model`);
}

/**
 * Draws a trainer's responses on a server; null without one. The server must have the policy's weights: an adapter is handed to
 * it before every iteration, as vLLM takes them at run time (`VLLM_ALLOW_RUNTIME_LORA_UPDATING`), under a new name each
 * time, because servers keep what they have loaded under a name. A whole model cannot be handed over, so it is sampled
 * from once. Ctrl-C lets the iteration finish, as without a server.
 */
export async function serverSampler(
  o: Values<typeof serverOptions> & { output_dir: string },
  iterations: number,
  model: CausalLM,
  tokenizer: Tokenizer,
  files: Files,
  signal: AbortSignal,
): Promise<Sampler | null> {
  const client = serverClient(o);
  if (!client) return null;
  const { server_concurrency: concurrency } = o;
  if (!model.adapter) {
    if (iterations > 1) {
      throw new UserError(
        "a server's weights do not follow the training: train an adapter (--use_peft), which is loaded into the server in " +
          "every iteration, or take its responses once, in a single iteration",
      );
    }
    const name = o.server_model ?? (await onlyModel(client, signal));
    const sampler = { client, model: name, tokenizer, concurrency };
    return (...request) => sampleRemotely(sampler, ...request);
  }
  const run = crypto.randomUUID().slice(0, 8);
  return async (prompts, promptIds, options) => {
    const name = `webrlhf-${run}-${options.iteration}`;
    const folder = join(resolve(o.output_dir), "served", name);
    await files.writeFolder(folder, await adapterFiles(model));
    try {
      await client.post("/load_lora_adapter", { lora_name: name, lora_path: folder });
      const sampler = { client, model: name, tokenizer, concurrency };
      const responses = await sampleRemotely(sampler, prompts, promptIds, options);
      await client.post("/unload_lora_adapter", { lora_name: name });
      return responses;
    } finally {
      await files.remove(folder);
    }
  };
}
