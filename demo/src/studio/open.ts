/** Loads a model: out of picked files or from the hub, then onto the GPU, where it waits for questions. */
import { loadConfig } from "webrlhf/nn";
import type { Program } from "webrlhf/worker";
import { bench } from "./bench.ts";
import { locate } from "./locate.ts";
import { studioFiles } from "./places.ts";
import type { Asked, Opened } from "./protocol.ts";

export const openProgram: Program<Asked, Opened> = {
  async *run({ source, dtype }, { signal, progress }) {
    bench.close();
    const { path, base } = await locate(source, {
      signal,
      progress: (file, done, total) => progress(`downloading ${file}`, done, total),
    });
    signal.throwIfAborted();
    const { family } = await loadConfig(studioFiles, path); // what is no model says so before the GPU is asked
    const loading = (model: string, done: number, total: number) => progress(`loading ${model}`, done, total);
    const opened = await bench.open({ path, dtype, adapter: null }, { signal, loading });
    if (signal.aborted) return bench.close();
    yield {
      type: "opened",
      path,
      base,
      dtype,
      family,
      parameters: opened.base.store.parameters.reduce((sum, { size }) => sum + size, 0),
      context: opened.base.config.maxPositions,
      chats: opened.tokenizer.chatTemplate != null,
    };
  },
};
