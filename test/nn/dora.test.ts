/** DoRA adapters: how they start, what their lengths do, dropout, merging, files, and what they do not go with. */
import { beforeAll, describe, expect, it } from "vitest";
import { backward, caps, memoryFiles, scale, scope, stats, sum } from "webrlhf";
import {
  type Adapter,
  adapterFiles,
  CausalLM,
  decoderConfig,
  type LoraOptions,
  mergeAdapter,
  openAdapter,
  readAdapterFolder,
  withDropout,
} from "webrlhf/nn";
import { pack, predictions, trainSft } from "webrlhf/rlhf";
import { roundedAdapter } from "../../src/nn/adapter-wire.ts";
import { normal } from "../../src/runtime/rng.ts";
import { forceRowVariant } from "../../src/tensor/ops/rows.ts";
import { expectClose, gpuReady } from "../helpers.ts";

beforeAll(gpuReady);

const config = decoderConfig({
  ...({ family: "qwen2", vocabSize: 24, hiddenSize: 16, layers: 1, heads: 4, kvHeads: 2, maxPositions: 16 } as const),
  ...({ intermediateSize: 20, tieEmbeddings: false, eosId: 1 } as const),
});
const lora: LoraOptions = { rank: 3, alpha: 6, targets: ["q_proj", "v_proj", "down_proj"], dora: true };
const sequences = [{ ids: Uint32Array.of(3, 5, 7, 4, 6, 9), promptLength: 0 }];

function base(): CausalLM {
  const model = new CausalLM(config).initialize(1);
  for (const [p, { value, size, shape }] of model.store.parameters.entries()) {
    if (shape.length === 2) value.write(Float32Array.from({ length: size }, (_, i) => 0.3 * normal(3, p, i)));
  }
  return model;
}

/** An adapter on a base, whose values are drawn. */
function adapted(on: CausalLM, options = lora): CausalLM {
  const model = new CausalLM({ base: on, lora: options }).initialize(2);
  for (const [p, { value, size, shape }] of model.store.parameters.entries()) {
    const middle = shape.length === 1 ? 1.2 : 0;
    value.write(Float32Array.from({ length: size }, (_, i) => middle + 0.2 * normal(4, p, i)));
  }
  return model;
}

/** Log-probabilities of the sequences' tokens. */
async function logProbs(model: CausalLM, work: <R>(fn: () => R) => R = (fn) => fn()): Promise<Float32Array> {
  const found = scope(() => {
    const { ids, packing, starts } = pack(sequences);
    const { rows, targets } = predictions(sequences, starts);
    return work(() => model.logProbs(ids, packing, rows, targets)).logProbs;
  });
  const values = await found.read();
  found.free("test");
  return values;
}

const lengthsOf = (model: CausalLM) => model.store.parameters.filter(({ name }) => name.endsWith("magnitude_vector"));

describe("DoRA", () => {
  it("starts as its base, with the lengths of the base's rows", async () => {
    const under = base();
    const model = new CausalLM({ base: under, lora }).initialize(2);
    expectClose(await logProbs(model), await logProbs(under), 1e-5, 1e-5);
    // What drops out is put back as long as B is 0 and the lengths are the base's.
    const dropping = new CausalLM({ base: under, lora: { ...lora, dropout: 0.5 } }).initialize(2);
    const key = { seed: 1, step: 2, pass: 0 };
    expectClose(await logProbs(dropping, (fn) => withDropout(key, fn)), await logProbs(under), 2e-5, 2e-5);
    forceRowVariant("workgroup");
    const shared = new CausalLM({ base: under, lora }).initialize(2);
    forceRowVariant(null);
    for (const [i, { value }] of lengthsOf(shared).entries()) {
      expectClose(await value.read(), await lengthsOf(model)[i].value.read(), 1e-6);
    }
    const down = lengthsOf(model).find(({ name }) => name.includes("down_proj"))!;
    const weight = under.store.parameters.find(({ name }) => name.includes("mlp.down.weight"))!;
    const values = await weight.value.read();
    const wanted = Array.from({ length: 16 }, (_, i) => Math.hypot(...values.subarray(20 * i, 20 * (i + 1))));
    expectClose(await down.value.read(), wanted, 1e-6);
    expect(lengthsOf(model).map(({ shape, decay }) => [...shape, decay])).toEqual([
      [16, false],
      [8, false],
      [16, false],
    ]);
    for (const one of [shared, dropping, model, under]) one.destroy();
  });

  it("scales rows by their lengths, with gradients as differences have them", async () => {
    const under = base();
    const model = adapted(under);
    model.store.trainable();
    const lossOf = async () => -(await logProbs(model)).reduce((a, b) => a + b, 0);
    scope(() => {
      const { ids, packing, starts } = pack(sequences);
      const { rows, targets } = predictions(sequences, starts);
      backward(scale(sum(model.logProbs(ids, packing, rows, targets).logProbs), -1));
    });
    for (const { value } of lengthsOf(model)) {
      const [values, grad] = [await value.read(), await value.grad!.read()];
      for (const i of [0, 5]) {
        const at = async (step: number) => {
          value.write(values.map((v, j) => (j === i ? v + step : v)));
          return lossOf();
        };
        const slope = ((await at(0.02)) - (await at(-0.02))) / 0.04;
        expect(Math.abs(slope - grad[i])).toBeLessThan(5e-3 * Math.max(1, Math.abs(slope)));
      }
      value.write(values);
    }
    for (const one of [model, under]) one.destroy();
  });

  it("merges, and stays merged; its files open again", async () => {
    const [under, again] = [base(), base()];
    const model = adapted(under);
    const before = await logProbs(model);
    const files = memoryFiles();
    await files.writeFolder("m", await adapterFiles(model));
    const opened = await openAdapter(files, (await readAdapterFolder(files, "m"))!, again, "lm");
    expect(opened.adapter?.options.dora).toBe(true);
    expect(await logProbs(opened)).toEqual(before);
    const merged = mergeAdapter(model, under) as CausalLM;
    expectClose(await logProbs(merged), before, 2e-5, 1e-5);
    expect(() => (model.adapter as Adapter).unmerge()).toThrow(/cannot be taken out of the base again/);
    for (const one of [opened, again, model, under]) one.destroy();
  });

  it.for([false, true])("learns, lengths included, and leaves the base as it was (fp16 %s)", async (fp16, { skip }) => {
    if (fp16 && !caps().f16) return skip("no shader-f16");
    const under = base();
    const before = await under.store.read();
    const model = new CausalLM({ base: under, lora: { ...lora, dropout: 0.1 } }).initialize(2);
    const start = await lengthsOf(model)[0].value.read();
    const losses: number[] = [];
    const settings = { maxSteps: 12, learningRate: 0.05, perDeviceTrainBatchSize: 1, fp16 };
    for await (const event of trainSft({ policy: model }, sequences, settings)) {
      if (event.type === "step") losses.push(event.metrics.loss);
    }
    expect(losses[11]).toBeLessThan(0.7 * losses[0]);
    expect(await lengthsOf(model)[0].value.read()).not.toEqual(start);
    expect(await under.store.read()).toEqual(before);
    for (const one of [model, under]) one.destroy();
  });

  it("takes two dispatches for each module and a few for each layer, and LoRA takes none of them", async () => {
    const under = base();
    const count = async (options: LoraOptions) => {
      const model = adapted(under, options);
      await logProbs(model);
      const before = stats().dispatches;
      await logProbs(model);
      model.destroy();
      return stats().dispatches - before;
    };
    const { dora: _, ...plain } = lora;
    // q_proj and v_proj, with k_proj between them, are one layer with a bias, and down_proj is another with a residual.
    const [without, more] = [await count(plain), await count(lora)];
    expect(more - without).toBeLessThanOrEqual(14);
    expect(await count({ ...plain, dora: false })).toBe(without);
    under.destroy();
  });

  it("refuses a quantized base, and to travel in 8 bits", async () => {
    const quantized = new CausalLM(config, "base", "int8");
    expect(() => new CausalLM({ base: quantized, lora })).toThrow(/use_dora needs a base in float32.* kept as int8/);
    const under = base();
    const model = adapted(under);
    const files = await adapterFiles(model);
    expect(() => roundedAdapter(files, "int8")).toThrow(/int8 would round the lengths that DoRA trains/);
    expect(Object.keys(roundedAdapter(files, "f16"))).toEqual(Object.keys(files));
    for (const one of [model, under, quantized]) one.destroy();
  });
});
