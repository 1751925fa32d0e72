/** What storing a trained model in fewer bits costs, on text it has not seen. */

import { beforeAll, describe, expect, it } from "vitest";
import { diskFiles, noGrad, QuantizedWeight, scope } from "webrlhf";
import { worldSftRecords } from "webrlhf/data";
import { loadCausalLM, type QuantizedFormat, type WeightFormat } from "webrlhf/nn";
import { openTokenizer } from "webrlhf/open";
import { pack, predictions } from "webrlhf/rlhf";
import { gpuReady } from "../helpers.ts";

beforeAll(gpuReady);

const MODEL = "models/world-sft";

/** Log-probabilities of 1,051 tokens of 64 held-out stories, and the bytes of the weights. */
async function measure(format: WeightFormat) {
  const files = await diskFiles();
  const tokenizer = await openTokenizer(MODEL, { files });
  const sequences = worldSftRecords(64, 7, "test").map(({ prompt, completion }) => {
    const start = [...tokenizer.prefixIds, ...tokenizer.encode(prompt)];
    const end = [...tokenizer.encode(completion), tokenizer.eosId as number];
    return { ids: Uint32Array.from([...start, ...end]), promptLength: start.length };
  });
  const model = await loadCausalLM(files, MODEL, "model", format);
  const logProbs = scope(() =>
    noGrad(() => {
      const { ids, packing, starts } = pack(sequences);
      const { rows, targets } = predictions(sequences, starts);
      return model.logProbs(ids, packing, rows, targets).logProbs;
    }),
  );
  const values = await logProbs.read();
  const bytes = model.store.parameters.reduce(
    (total, { stored }) => total + (stored instanceof QuantizedWeight ? stored.bytes : 4 * stored.size),
    0,
  );
  model.destroy();
  return { values, bytes };
}

const mean = (values: Float32Array) => values.reduce((a, b) => a + b, 0) / values.length;
const perplexity = (logProbs: Float32Array) => Math.exp(-mean(logProbs));

/**
 * Measured on this model: mean |change of a token's log-probability| 6.3e-4, 9.6e-5, 8.7e-4, 7.9e-3, and perplexity times
 * 1.00003, 0.999999, 1.00003, 1.0009. Bounds are about twice that, since a width of 96 averages less than a real model's.
 * Bytes: rows of 96 are padded to 128 in int8.
 */
const bounds: Record<QuantizedFormat, { difference: number; perplexity: number; bytes: number }> = {
  bfloat16: { difference: 1.3e-3, perplexity: 1e-4, bytes: 0.502 },
  float16: { difference: 2e-4, perplexity: 1e-4, bytes: 0.502 },
  int8: { difference: 1.8e-3, perplexity: 1e-4, bytes: 0.357 },
  int4: { difference: 1.6e-2, perplexity: 2e-3, bytes: 0.179 },
};

describe("a trained model", () => {
  let original: Awaited<ReturnType<typeof measure>>;
  beforeAll(async () => {
    original = await measure("float32");
  });
  for (const [format, bound] of Object.entries(bounds)) {
    it(`keeps its log-probabilities when it is stored as ${format}`, async () => {
      const { values, bytes } = await measure(format as QuantizedFormat);
      const difference = mean(values.map((v, i) => Math.abs(v - original.values[i])));
      expect(difference).toBeLessThan(bound.difference);
      expect(Math.abs(perplexity(values) / perplexity(original.values) - 1)).toBeLessThan(bound.perplexity);
      expect(bytes / original.bytes).toBeLessThan(bound.bytes);
    });
  }
});
