/** Answers of a model as they come. */
import { StreamDecoder, type Tokenizer } from "webrlhf/data";
import type { Engine } from "webrlhf/nn";
import type { Message, Piece, Sampled } from "./protocol.ts";

/** A conversation as the model wants it; without a chat template the last message is a text to go on from. */
export function promptOf(tokenizer: Tokenizer, messages: readonly Message[]): Uint32Array {
  const { chatTemplate } = tokenizer;
  if (chatTemplate) {
    return Uint32Array.from(tokenizer.encode(chatTemplate.render(messages, { addGenerationPrompt: true })));
  }
  const text = messages.at(-1)?.content ?? "";
  return Uint32Array.from([...tokenizer.prefixIds, ...tokenizer.encode(text)]);
}

/** What one side answers. */
export async function* answer<Side extends string>(
  side: Side,
  engine: Engine,
  ids: Uint32Array,
  tokenizer: Tokenizer,
  { maxNewTokens, temperature, seed }: Sampled,
  eosIds: readonly number[],
  signal: AbortSignal,
): AsyncGenerator<Piece<Side>> {
  const decoder = new StreamDecoder(tokenizer, { context: ids });
  for await (const piece of engine.submit({ ids, params: { maxNewTokens, temperature, seed, eosIds }, signal })) {
    let text = piece.ids.map((id) => (eosIds.includes(id) ? "" : decoder.push(id))).join("");
    if (piece.finish) text += decoder.end();
    yield { type: "piece", side, text, ids: piece.ids, logProbs: piece.logProbs, finish: piece.finish };
  }
}

/** What several streams give, as it comes. */
export async function* merged<T>(streams: readonly AsyncGenerator<T>[]): AsyncGenerator<T> {
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
