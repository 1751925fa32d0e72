/** How keys and values are kept while tokens are sampled: in 8 bits, in f16 under a model in f32, or as the model computes. */
import { beforeAll, describe, expect, it } from "vitest";
import { caps, openDevice } from "webrlhf";
import { CausalLM, generate, type KvCacheFormat } from "webrlhf/nn";
import { responseLogProbs } from "webrlhf/rlhf";
import { expectClose } from "../helpers.ts";
import { byEngine, config, greedy, held, prompts, taught, topAfter } from "./taught.ts";

beforeAll(() => openDevice());

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
        const top = await topAfter(model, prompts[1]);
        model.kvCache = "int8";
        const live = await topAfter(model, prompts[1], true);
        expectClose(
          live.map(({ logProb }) => logProb),
          top.map(({ logProb }) => logProb),
          1e-2,
          1e-2,
        );
        const wanted = await generate(model, prompts, greedy);
        expect(await byEngine(model, greedy)).toEqual(wanted.map(({ ids }) => [...ids]));
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
