/** A server over a tiny random model, for tests. */

import { worldTokenizer } from "webrlhf/data";
import { CausalLM, decoderConfig } from "webrlhf/nn";
import type { ServerOptions } from "../../src/serve/options.ts";
import { type RunningServer, startServer } from "../../src/serve/server.ts";
import { type TextModelOptions, textModel } from "../../src/serve/text-model.ts";
import { gpuReady } from "../helpers.ts";

export const tokenizer = worldTokenizer();
export const CONTEXT = 128;

export interface TinyServer extends RunningServer {
  lm: CausalLM;
  model: ReturnType<typeof textModel>;
  logged: string[];
  stop(): Promise<void>;
}

export async function tinyServer(
  options: Partial<ServerOptions> = {},
  more: Partial<TextModelOptions> = {},
  config: { tieEmbeddings?: boolean } = {},
): Promise<TinyServer> {
  await gpuReady();
  const lm = new CausalLM(
    decoderConfig({
      family: "llama",
      vocabSize: tokenizer.vocabSize,
      hiddenSize: 16,
      layers: 1,
      heads: 2,
      maxPositions: CONTEXT,
      eosId: tokenizer.eosId ?? null,
      padId: tokenizer.padId ?? null,
      ...config,
    }),
  ).initialize(7);
  const model = textModel(lm, tokenizer, { name: "tiny", slots: 4, maxWaiting: 8, ...more });
  const logged: string[] = [];
  const server = await startServer(model, { port: 0, log: (line) => logged.push(line), ...options });
  return {
    port: server.port,
    url: server.url,
    get active() {
      return server.active;
    },
    close: (graceMs) => server.close(graceMs),
    lm,
    model,
    logged,
    async stop() {
      await server.close(0);
      await model.engine.close();
      lm.destroy();
    },
  };
}
