/** Answers of the model before and after training, side by side, as they come. */
import { StreamDecoder, type Tokenizer } from "webrlhf/data";
import { type CausalLM, Engine } from "webrlhf/nn";
import type { Program } from "webrlhf/worker";
import { bench } from "./bench.ts";
import { type ChatEvent, type ChatInput, type Message, type Side, sides } from "./protocol.ts";

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

/** A conversation as the model wants it; without a chat template the last message is a text to go on from. */
function promptOf(tokenizer: Tokenizer, messages: readonly Message[]): Uint32Array {
  const { chatTemplate } = tokenizer;
  if (chatTemplate) {
    return Uint32Array.from(tokenizer.encode(chatTemplate.render(messages, { addGenerationPrompt: true })));
  }
  const text = messages.at(-1)?.content ?? "";
  return Uint32Array.from([...tokenizer.prefixIds, ...tokenizer.encode(text)]);
}

async function* answer(
  side: Side,
  engine: Engine,
  ids: Uint32Array,
  tokenizer: Tokenizer,
  { maxNewTokens, temperature, seed }: Pick<ChatInput, "maxNewTokens" | "temperature" | "seed">,
  eosIds: readonly number[],
  signal: AbortSignal,
): AsyncGenerator<ChatEvent> {
  const decoder = new StreamDecoder(tokenizer, { context: ids });
  for await (const piece of engine.submit({ ids, params: { maxNewTokens, temperature, seed, eosIds }, signal })) {
    let text = piece.ids.map((id) => (eosIds.includes(id) ? "" : decoder.push(id))).join("");
    if (piece.finish) text += decoder.end();
    yield { type: "piece", side, text, ids: piece.ids, logProbs: piece.logProbs, finish: piece.finish };
  }
}

/** What several streams give, as it comes. */
async function* merged<T>(streams: readonly AsyncGenerator<T>[]): AsyncGenerator<T> {
  const next = (stream: AsyncGenerator<T>) => stream.next().then((result) => ({ stream, result }));
  const waiting = new Map(streams.map((stream) => [stream, next(stream)]));
  try {
    while (waiting.size > 0) {
      const { stream, result } = await Promise.race(waiting.values());
      if (result.done) waiting.delete(stream);
      else {
        waiting.set(stream, next(stream));
        yield result.value;
      }
    }
  } finally {
    for (const one of waiting.values()) one.catch(() => {}); // the first error is the one to tell
  }
}
