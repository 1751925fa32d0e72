/** Models whose matrices are stored in fewer bits: equal to the f32 model of the stored values, close to the original. */
import { beforeAll, describe, expect, it } from "vitest";
import { backward, noGrad, packing, QuantizedWeight, scope, sum, tensor } from "webrlhf";
import { CausalLM, generate, type QuantizedFormat, quantizedFormats, ScoreModel } from "webrlhf/nn";
import { readChunks } from "../../src/tensor/params.ts";
import llama from "../fixtures/models-llama.json" with { type: "json" };
import llamaTied from "../fixtures/models-llama-tied.json" with { type: "json" };
import { expectClose, gpuReady } from "../helpers.ts";
import { openLM, type ReferenceLM } from "./reference-model.ts";

beforeAll(gpuReady);

const reference = llama as unknown as ReferenceLM;
const tied = llamaTied as unknown as ReferenceLM;

/** Log-probabilities of every token given those before it. */
function logProbs(model: CausalLM, sequences = reference.ids) {
  const lengths = sequences.map((s) => s.length);
  const host = Uint32Array.from(sequences.flat());
  const starts = lengths.map((_, i) => lengths.slice(0, i).reduce((a, b) => a + b, 0));
  const rows = sequences.flatMap((s, i) => s.slice(1).map((_, t) => starts[i] + t));
  const targets = Uint32Array.from(sequences.flatMap((s) => s.slice(1)));
  return model.logProbs({ gpu: tensor(host), host }, packing(lengths), Uint32Array.from(rows), targets).logProbs;
}

async function readLogProbs(model: CausalLM): Promise<Float32Array> {
  const out = scope(() => noGrad(() => logProbs(model)));
  const values = await out.read();
  out.free("test");
  return values;
}

/** An f32 model with exactly the values that a packed one stores. */
async function unpacked(model: CausalLM): Promise<CausalLM> {
  const copy = new CausalLM(model.config, "copy");
  const values = await model.store.read();
  for (const p of copy.store.parameters) p.value.write(values.get(p.name) as Float32Array);
  return copy;
}

const meanDifference = (a: Float32Array, b: Float32Array) =>
  a.reduce((total, v, i) => total + Math.abs(v - b[i]), 0) / a.length;

// Mean |change| measured on the untied and the tied model: 7.7e-3 and 8.7e-3, 7.9e-4 and 1.2e-3, 2.0e-2 and 1.3e-2, 0.18 and
// 0.23: ten times that of a trained model, because weights of deviation 0.25 make logits of large deviation. A bound is
// about twice the larger.
const bounds: Record<QuantizedFormat, number> = { bfloat16: 0.017, float16: 2.5e-3, int8: 0.05, int4: 0.45 };

describe.each(quantizedFormats)("a model stored as %s", (format) => {
  it("computes what an f32 model of the stored values computes, near the original", { timeout: 60_000 }, async () => {
    for (const fixture of [reference, tied]) {
      const original = await openLM(fixture);
      const model = await openLM(fixture, format);
      const copy = await unpacked(model);
      const [exact, stored, packed] = [
        await readLogProbs(original),
        await readLogProbs(copy),
        await readLogProbs(model),
      ];
      expectClose(packed, stored, 1e-5, 1e-5);
      expect(meanDifference(packed, exact)).toBeLessThan(bounds[format]);
      expect(meanDifference(packed, exact)).toBeGreaterThan(0);
      for (const m of [original, model, copy]) m.destroy();
    }
  });
});

describe("a packed model", () => {
  it("decodes through the cache what the f32 model of its values decodes", async () => {
    const model = await openLM(reference, "int8");
    const copy = await unpacked(model);
    const prompts = reference.prompts.map((p) => Uint32Array.from(p));
    const options = { maxNewTokens: 8, temperature: 0, seed: 1 };
    const [a, b] = [await generate(model, prompts, options), await generate(copy, prompts, options)];
    expect(a.map((s) => [...s.ids])).toEqual(b.map((s) => [...s.ids]));
    model.destroy();
    copy.destroy();
  });

  it("keeps norms and a scorer's head in f32, and all else packed", async () => {
    const { config } = await openLM(reference);
    const model = new ScoreModel(config, "scorer", "int4");
    const packed = model.store.parameters.filter((p) => p.stored instanceof QuantizedWeight).map((p) => p.name);
    const rest = model.store.parameters.filter((p) => !packed.includes(p.name)).map((p) => p.name);
    expect(rest.every((name) => /norm|score/.test(name))).toBe(true);
    expect(packed).toHaveLength(1 + 4 * config.layers);
    const formats = model.store.parameters.flatMap(({ stored }) =>
      stored instanceof QuantizedWeight ? [stored.format] : [],
    );
    expect(formats.filter((f) => f === "int8")).toHaveLength(1); // the embedding gets more bits
    model.destroy();
  });

  it("refuses to be trained whole", async () => {
    const model = await openLM(reference, "int4");
    expect(() => model.store.trainable()).toThrow(/int4 and cannot be trained: train an adapter/);
    model.destroy();
  });

  it("trains an adapter with the gradients of the f32 model of its values", { timeout: 60_000 }, async () => {
    const base = await openLM(reference, "int8");
    const copy = await unpacked(base);
    const lora = { rank: 2, alpha: 4, targets: "all-linear", init: "gaussian", modulesToSave: ["lm_head"] } as const;
    const results: { loss: Float32Array; gradients: Float32Array[] }[] = [];
    for (const on of [base, copy]) {
      const model = new CausalLM({ base: on, lora }, "adapted").initialize(5);
      for (const p of model.store.parameters) {
        if (!p.name.endsWith("lora_B")) continue;
        p.value.write(Float32Array.from({ length: p.size }, (_, i) => Math.sin(i) / 8));
      }
      model.store.trainable();
      const loss = scope(() => {
        const total = sum(logProbs(model));
        backward(total);
        return total;
      });
      results.push({ loss: await loss.read(), gradients: await readChunks(model.store.gradients ?? []) });
      loss.free("test");
      if (on === base) expect(() => model.adapter?.merge()).toThrow(/merges into float32 weights only/);
      model.destroy();
    }
    expectClose(results[0].loss, results[1].loss, 1e-5);
    results[0].gradients.forEach((g, i) => {
      expectClose(g, results[1].gradients[i], 2e-5);
    });
    base.destroy();
    copy.destroy();
  });
});
