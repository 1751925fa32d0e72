/** A model knows the tokenizer of its ids, and so does every model that stands on it. */
import { beforeAll, expect, it } from "vitest";
import { Tokenizer, worldTokenizer } from "webrlhf/data";
import { CausalLM, decoderConfig, type TextTokenizer } from "webrlhf/nn";
import { gpuReady } from "../helpers.ts";

beforeAll(gpuReady);

it("carries a tokenizer along to the models that stand on it", () => {
  const tokenizer: TextTokenizer = worldTokenizer();
  const { vocabSize } = tokenizer;
  const base = new CausalLM(decoderConfig({ family: "llama", vocabSize, hiddenSize: 16, layers: 1, heads: 2 }));
  expect(base.tokenizer).toBeUndefined();
  base.tokenizer = tokenizer;
  const adapted = new CausalLM({ base, lora: { rank: 2, alpha: 4 } });
  expect(adapted.tokenizer).toBe(tokenizer);
  expect(adapted.tokenizer).toBeInstanceOf(Tokenizer);
  expect(tokenizer.decode(tokenizer.encode("the cat"))).toBe("the cat");
  expect(() => tokenizer.checkFits(adapted.config.vocabSize - 1)).toThrow("vocabulary has only");
  adapted.destroy();
  base.destroy();
});
