import { Tokenizer, trainBpe } from "webrlhf/data";

/** A tokenizer of single bytes, which can write anything. */
export function bytesTokenizer(config: Record<string, unknown> = {}): Tokenizer {
  const trained = trainBpe([], { vocabSize: 0, specialTokens: ["<|endoftext|>", "<s>"], padToken: "<|endoftext|>" });
  return Tokenizer.fromJson(trained.tokenizerJson, { ...trained.tokenizerConfigJson, ...config });
}
