/** How keys and values are kept while tokens are sampled: in 8 bits, in f16 under a model in f32, or as the model computes. */
import { beforeAll, describe, expect, it } from "vitest";
import { caps, openDevice, scope } from "webrlhf";
import { AdamW, CausalLM, decoderConfig, Engine, generate, type KvCacheFormat, openPrefix } from "webrlhf/nn";
import { responseLogProbs, type Sequence } from "webrlhf/rlhf";
import { poolStats } from "../../src/gpu/pool.ts";
import { trim } from "../../src/gpu/stream.ts";
import { SlotDecoder } from "../../src/nn/slot-decoder.ts";
import { sftStep } from "../../src/rlhf/sft.ts";
import { expectClose } from "../helpers.ts";

beforeAll(() => openDevice());

const config = (more: object = {}) =>
  decoderConfig({
    ...{ family: "llama", vocabSize: 96, hiddenSize: 32, layers: 2, heads: 4, kvHeads: 2, intermediateSize: 48 },
    ...{ maxPositions: 64, eosId: null, padId: null },
    ...more,
  });
const sequence = (length: number, seed: number) => Uint32Array.from({ length }, (_, i) => (seed * 31 + i * 7) % 96);
const lessons: Sequence[] = [1, 2, 3].map((seed) => ({ ids: sequence(24, seed), promptLength: 1 }));
const prompts = [sequence(5, 1), sequence(9, 2), sequence(5, 3)];
const greedy = { maxNewTokens: 12, temperature: 0, seed: 1 };

/** A model that has learned something, so that its likeliest tokens stand out. */
function taught(more: object = {}): CausalLM {
  const model = new CausalLM(config(more)).initialize(1);
  const optimizer = new AdamW(model.store, {});
  for (let i = 0; i < 30; i++) scope(() => sftStep(model, optimizer, [lessons], 1e-2)).watched.values.free("test");
  optimizer.destroy();
  return model;
}

/** Bytes that a decoder of 64 slots of 64 tokens takes. */
function held(model: CausalLM): number {
  trim();
  const before = poolStats().poolBytes;
  const decoder = new SlotDecoder(model, 64, 64, 1);
  const bytes = poolStats().poolBytes - before;
  decoder.free();
  trim();
  return bytes;
}

const formats = (): KvCacheFormat[] => (caps().f16 ? ["int8", "float16"] : ["int8"]);

describe("a cache in other numbers than the model's", () => {
  it("takes a quarter and a scale, or half", () => {
    // A size that the pool keeps as it is: 2 layers, keys and values, slots, tokens, and heads of 12 columns.
    const model = new CausalLM(config({ hiddenSize: 48 })).initialize(1);
    const sizes = new Map<KvCacheFormat, number>();
    for (const format of ["float32", ...formats()] as const) {
      model.kvCache = format;
      sizes.set(format, held(model));
    }
    model.kvCache = "auto";
    const whole = 2 * 2 * 64 * 64 * 2 * 12 * 4;
    const f32 = sizes.get("float32") as number;
    expect(held(model)).toBe(f32);
    expect(f32).toBeGreaterThanOrEqual(whole);
    expect(f32 - (sizes.get("int8") as number)).toBe(whole - 2 * 2 * 64 * 64 * 2 * (12 + 4));
    if (caps().f16) expect(f32 - (sizes.get("float16") as number)).toBe(whole / 2);
    model.destroy();
  });

  it("gives the tokens of f32, and log-probabilities of its own policy", async () => {
    const model = taught();
    const exact = await generate(model, prompts, greedy);
    for (const format of formats()) {
      model.kvCache = format;
      const found = await generate(model, prompts, greedy);
      expect(
        found.map(({ ids }) => [...ids]),
        format,
      ).toEqual(exact.map(({ ids }) => [...ids]));
      for (const [i, { logProbs }] of found.entries()) {
        expectClose(logProbs, exact[i].logProbs, 5e-3, 5e-3, `${format}, prompt ${i} beside f32`);
        expect(logProbs.slice(1), format).not.toEqual(exact[i].logProbs.slice(1));
        // A prompt attends to its own keys and values before they are rounded.
        expect(logProbs[0], format).toBe(exact[i].logProbs[0]);
      }
      const drawn = await generate(model, prompts, { maxNewTokens: 12, seed: 3, samples: 2 });
      const whole = drawn.map(({ prompt, ids }) => ({
        ids: Uint32Array.from([...prompts[prompt], ...ids]),
        promptLength: prompts[prompt].length,
      }));
      const { logProbs } = await responseLogProbs(model, whole);
      for (const [i, response] of drawn.entries()) {
        expectClose(response.logProbs, logProbs[i], 5e-3, 5e-3, `${format}, as sampled and as measured`);
        expect(response.logProbs).not.toEqual(logProbs[i]);
      }
    }
    model.kvCache = "auto";
    expect(await generate(model, prompts, greedy)).toEqual(exact);
    model.destroy();
  });

  it("is the same through an engine and in a live prefix, with windows and in half precision as well", async () => {
    const gemma = { family: "gemma2", slidingWindow: 4, headDim: 8, vocabSize: 96 };
    for (const more of [{}, gemma]) {
      const model = taught(more);
      for (const half of caps().f16 ? [false, true] : [false]) {
        model.half = half;
        model.kvCache = "auto";
        const exact = await openPrefix(model, prompts[1]);
        const top = exact.top(3);
        exact.free();
        model.kvCache = "int8";
        const live = await openPrefix(model, prompts[1]);
        await live.push([...sequence(3, 7)]);
        await live.rewind(3); // its last token is run once more, against what is kept
        expectClose(
          live.top(3).map(({ logProb }) => logProb),
          top.map(({ logProb }) => logProb),
          1e-2,
          1e-2,
        );
        live.free();
        const wanted = await generate(model, prompts, greedy);
        const engine = new Engine(model, { slots: 4, capacity: 32 });
        for (const [i, ids] of prompts.entries()) {
          const got: number[] = [];
          for await (const piece of engine.submit({ ids, params: greedy })) got.push(...piece.ids);
          expect(got).toEqual([...wanted[i].ids]);
        }
        await engine.close();
      }
      model.destroy();
    }
  });

  it("is shared by samples of a prompt, and by adapters on one base", async () => {
    const base = taught();
    const lora = { rank: 2, alpha: 4, targets: "all-linear" } as const;
    const adapted = new CausalLM({ base, lora }, "adapted").initialize(6);
    adapted.kvCache = "int8";
    expect(base.kvCache).toBe("int8");
    // Samples after a copied prompt are what they are alone.
    const together = await generate(adapted, [prompts[1]], { maxNewTokens: 6, seed: 2, samples: 3 });
    for (const [i, response] of together.entries()) {
      const [alone] = await generate(adapted, [prompts[1]], { maxNewTokens: 6, seed: 2, streams: [i] });
      expect([...alone.ids]).toEqual([...response.ids]);
      expectClose(alone.logProbs, response.logProbs, 1e-3, 1e-3);
    }
    adapted.destroy();
    base.destroy();
  });

  it("is refused in float16 where the GPU has none", () => {
    const model = new CausalLM(config());
    const before = caps().f16;
    try {
      caps().f16 = false;
      expect(() => {
        model.kvCache = "float16";
      }).toThrow(/float16 needs the feature shader-f16.*take int8/);
      expect(model.kvCache).toBe("auto");
    } finally {
      caps().f16 = before;
    }
    model.destroy();
  });
});
