/** Answers of the model before and after training, side by side, as they come. */
import { type CausalLM, Engine } from "webrlhf/nn";
import type { Program } from "webrlhf/worker";
import { answer, merged, promptOf } from "./answers.ts";
import { bench } from "./bench.ts";
import { type ChatEvent, type ChatInput, type Side, sides } from "./protocol.ts";

export const chatProgram: Program<ChatInput, ChatEvent> = {
  async *run({ path, dtype, adapter, ...input }, { signal, progress, resumed }) {
    if (resumed) bench.close(); // the device that held it is gone
    const opened = await bench.open(
      { path, dtype, adapter: adapter === null ? null : `trained/${adapter}` },
      { signal, loading: (model, done, total) => progress(`loading ${model}`, done, total) },
    );
    const models: Record<Side, CausalLM | null> = { before: opened.base, after: opened.adapted };
    yield { type: "begin" };
    const engines: Engine[] = [];
    const stop = new AbortController();
    try {
      const streams = sides.flatMap((side) => {
        const model = models[side];
        const messages = input.conversations[side];
        if (!model || !messages) return [];
        const ids = promptOf(opened.tokenizer, messages);
        const engine = new Engine(model, { slots: 1, capacity: ids.length + input.maxNewTokens });
        engines.push(engine);
        const both = AbortSignal.any([signal, stop.signal]);
        return [answer(side, engine, ids, opened.tokenizer, input, model.config.eosIds, both)];
      });
      yield* merged(streams);
    } finally {
      stop.abort();
      for (const engine of engines) await engine.close();
    }
  },
  key: () => null,
};
