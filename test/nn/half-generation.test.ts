/** Sampling in half precision: a cache in half the memory, the same tokens, and weights as they are now. */
import { beforeAll, describe, expect, it } from "vitest";
import { caps, openDevice, scope } from "webrlhf";
import { AdamW, CausalLM, generate } from "webrlhf/nn";
import { responseLogProbs } from "webrlhf/rlhf";
import { copyValues } from "../../src/nn/lora.ts";
import { sftStep } from "../../src/rlhf/sft.ts";
import { expectClose } from "../helpers.ts";
import { byEngine, config, greedy, held, lessons, prompts, taught, topAfter } from "./taught.ts";

beforeAll(() => openDevice());

describe("sampling in half precision", () => {
  it("keeps a cache of half the bytes", async ({ skip }) => {
    if (!caps().f16) return skip("no shader-f16");
    const model = new CausalLM(config()).initialize(1);
    const cache = 2 * 2 * 64 * 64 * 16 * 4; // layers, keys and values, slots, tokens, width, bytes
    const f32 = held(model);
    model.half = true;
    const f16 = held(model);
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
    const top = await topAfter(model, prompts[1]);
    model.half = true;
    const live = await topAfter(model, prompts[1], true);
    expect(live.map(({ id }) => id)).toEqual(top.map(({ id }) => id));
    expectClose(
      live.map(({ logProb }) => logProb),
      top.map(({ logProb }) => logProb),
      5e-3,
      5e-3,
    );
    const wanted = await generate(model, prompts, greedy);
    expect(await byEngine(model, greedy)).toEqual(wanted.map(({ ids }) => [...ids]));

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
