/** Sampling in half precision: a cache in half the memory, the same tokens, and weights as they are now. */
import { beforeAll, describe, expect, it } from "vitest";
import { caps, openDevice, scope } from "webrlhf";
import { AdamW, CausalLM, decoderConfig, Engine, generate, openPrefix } from "webrlhf/nn";
import { responseLogProbs, type Sequence } from "webrlhf/rlhf";
import { poolStats } from "../../src/gpu/pool.ts";
import { trim } from "../../src/gpu/stream.ts";
import { copyValues } from "../../src/nn/lora.ts";
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
function taught(): CausalLM {
  const model = new CausalLM(config()).initialize(1);
  const optimizer = new AdamW(model.store, {});
  for (let i = 0; i < 30; i++) scope(() => sftStep(model, optimizer, [lessons], 1e-2)).watched.values.free("test");
  optimizer.destroy();
  return model;
}

describe("sampling in half precision", () => {
  it("keeps a cache of half the bytes", async ({ skip }) => {
    if (!caps().f16) return skip("no shader-f16");
    const model = new CausalLM(config()).initialize(1);
    const held = (half: boolean) => {
      model.half = half;
      const before = poolStats().poolBytes;
      const decoder = new SlotDecoder(model, 64, 64, 1);
      const bytes = poolStats().poolBytes - before;
      decoder.free();
      trim();
      return bytes;
    };
    trim();
    const cache = 2 * 2 * 64 * 64 * 16 * 4; // layers, keys and values, slots, tokens, width, bytes
    const [f32, f16] = [held(false), held(true)];
    expect(f32).toBeGreaterThanOrEqual(cache);
    expect(f32 - f16).toBe(cache / 2);
    model.destroy();
  });

  it("gives the tokens of f32, with log-probabilities as they are measured for training", async ({ skip }) => {
    if (!caps().f16) return skip("no shader-f16");
    const model = taught();
    const exact = await generate(model, prompts, greedy);
    model.half = true;
    const half = await generate(model, prompts, greedy);
    expect(half.map(({ ids }) => [...ids])).toEqual(exact.map(({ ids }) => [...ids]));
    half.forEach(({ logProbs }, i) => {
      expectClose(logProbs, exact[i].logProbs, 5e-3, 5e-3, `prompt ${i} beside f32`);
      expect(logProbs).not.toEqual(exact[i].logProbs);
    });
    const drawn = await generate(model, prompts, { maxNewTokens: 12, seed: 3, samples: 2 });
    const whole = drawn.map(({ prompt, ids }) => ({
      ids: Uint32Array.from([...prompts[prompt], ...ids]),
      promptLength: prompts[prompt].length,
    }));
    const { logProbs } = await responseLogProbs(model, whole);
    drawn.forEach((response, i) => {
      expectClose(response.logProbs, logProbs[i], 5e-3, 5e-3, `response ${i} as sampled and as measured`);
    });
    model.destroy();
  });

  it("samples from the weights as they are after a step", async ({ skip }) => {
    if (!caps().f16) return skip("no shader-f16");
    const model = taught();
    model.half = true;
    const before = await generate(model, prompts, greedy);
    const optimizer = new AdamW(model.store, { lossScaling: true });
    for (let i = 0; i < 3; i++) scope(() => sftStep(model, optimizer, [lessons], 5e-2)).watched.values.free("test");
    const after = await generate(model, prompts, greedy);
    expect(after[0].logProbs).not.toEqual(before[0].logProbs);
    const fresh = new CausalLM(config());
    fresh.half = true;
    const there = new Map(model.parameters().map((p) => [p.name, p]));
    for (const p of fresh.parameters()) copyValues(there.get(p.name)?.stored as never, p.value);
    expect(await generate(fresh, prompts, greedy)).toEqual(after);
    for (const one of [optimizer, model, fresh]) one.destroy();
  });

  it("is the same through an engine and in a live prefix, with adapters and int8 weights as well", async ({ skip }) => {
    if (!caps().f16) return skip("no shader-f16");
    const model = taught();
    const exact = await openPrefix(model, prompts[1]);
    const top = exact.top(3);
    exact.free();
    model.half = true;
    const live = await openPrefix(model, prompts[1]);
    await live.push([...sequence(3, 7)]);
    await live.rewind(3);
    expect(live.top(3).map(({ id }) => id)).toEqual(top.map(({ id }) => id));
    expectClose(
      live.top(3).map(({ logProb }) => logProb),
      top.map(({ logProb }) => logProb),
      5e-3,
      5e-3,
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

    const lora = { rank: 2, alpha: 4, targets: "all-linear" } as const;
    for (const format of ["float32", "int8"] as const) {
      const base = new CausalLM(config(), "base", format).initialize(5);
      const adapted = new CausalLM({ base, lora }, "adapted").initialize(6);
      const sampled = async (half: boolean) => {
        adapted.half = half;
        return generate(adapted, prompts, { maxNewTokens: 4, seed: 2 });
      };
      const [f32, f16] = [await sampled(false), await sampled(true)];
      f16.forEach(({ logProbs }, i) => {
        expectClose(logProbs.slice(0, 1), f32[i].logProbs.slice(0, 1), 5e-3, 5e-3, format);
      });
      adapted.destroy();
      base.destroy();
    }
    model.destroy();
  });
});
