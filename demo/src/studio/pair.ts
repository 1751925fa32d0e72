/** Two answers of one model to one message, drawn apart. */
import { Engine } from "webrlhf/nn";
import type { Program } from "webrlhf/worker";
import { answer, merged, promptOf } from "./answers.ts";
import { bench } from "./bench.ts";
import type { PairEvent, PairInput } from "./protocol.ts";

export const pairProgram: Program<PairInput, PairEvent> = {
  async *run({ path, dtype, adapter, prompt, seed, ...sampling }, { signal, progress, resumed }) {
    if (resumed) bench.close(); // the device that held it is gone
    const { base, adapted, tokenizer } = await bench.open(
      { path, dtype, adapter: adapter === null ? null : `trained/${adapter}` },
      { signal, loading: (model, done, total) => progress(`loading ${model}`, done, total) },
    );
    yield { type: "begin" };
    const model = adapted ?? base;
    const ids = promptOf(tokenizer, [{ role: "user", content: prompt }]);
    const engine = new Engine(model, { slots: 2, capacity: ids.length + sampling.maxNewTokens });
    const stop = new AbortController();
    const both = AbortSignal.any([signal, stop.signal]);
    try {
      const drawn = (["left", "right"] as const).map((side, i) =>
        answer(side, engine, ids, tokenizer, { ...sampling, seed: seed + i }, model.config.eosIds, both),
      );
      yield* merged(drawn);
    } finally {
      stop.abort();
      await engine.close();
    }
  },
  key: () => null,
};
