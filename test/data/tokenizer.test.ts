import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { isUserError } from "webrlhf";
import { Tokenizer, trainBpe } from "webrlhf/data";
import gemma from "./fixtures/tokenizers/gemma.json" with { type: "json" };
import llama from "./fixtures/tokenizers/llama-normalizer.json" with { type: "json" };
import smollm from "./fixtures/tokenizers/smollm.json" with { type: "json" };

const trained = trainBpe(["the cat sat on the mat . The cats !"], { vocabSize: 270, minFrequency: 1 });
const tokenizer = Tokenizer.fromTrained(trained);

describe("Tokenizer", () => {
  it("gives every text back, spaces before full stops too", () => {
    fc.assert(
      fc.property(fc.string({ unit: "grapheme" }), (text) => {
        expect(tokenizer.decode(tokenizer.encode(text), { skipSpecialTokens: false })).toBe(text);
      }),
    );
    expect(tokenizer.decode(tokenizer.encode("the cat . ' s , don 't !"))).toBe("the cat . ' s , don 't !");
  });

  it("maps nothing to nothing", () => {
    expect(tokenizer.encode("")).toEqual([]);
    expect(tokenizer.decode([])).toBe("");
    expect(tokenizer.decode(new Uint32Array(0))).toBe("");
  });

  it("drops special tokens when decoding, unless asked to keep them", () => {
    const ids = Uint32Array.from([...tokenizer.encode("the cat"), 0, 1]);
    expect(tokenizer.decode(ids)).toBe("the cat");
    expect(tokenizer.decode(ids, { skipSpecialTokens: false })).toBe("the cat<|endoftext|><|pad|>");
  });

  it("has no text for ids beyond its own, as a model's table may be longer, and refuses what is no id", () => {
    expect(tokenizer.decode([...tokenizer.encode("the"), 270, 100_000])).toBe("the");
    expect(() => tokenizer.decode([5, -1])).toThrow(/cannot decode -1/);
    expect(() => tokenizer.decode([0.5])).toThrow(/cannot decode 0.5/);
  });

  it("reads special tokens written as objects, and the tokens put before a text", () => {
    const json = structuredClone(trained.tokenizerJson) as Record<string, unknown>;
    json.post_processor = {
      type: "TemplateProcessing",
      single: [{ SpecialToken: { id: "<|pad|>", type_id: 0 } }, { Sequence: { id: "A", type_id: 0 } }],
      pair: [],
      special_tokens: { "<|pad|>": { id: "<|pad|>", ids: [1], tokens: ["<|pad|>"] } },
    };
    const withBos = Tokenizer.fromJson(json, { bos_token: { content: "<|pad|>" }, eos_token: "<|endoftext|>" });
    expect([withBos.bosId, withBos.eosId, withBos.padId, withBos.unkId]).toEqual([1, 0, undefined, undefined]);
    expect(withBos.prefixIds).toEqual([1]);
    expect(withBos.encode("the", { addSpecialTokens: true })).toEqual([1, ...tokenizer.encode("the")]);
    expect(tokenizer.prefixIds).toEqual([]);
  });

  it("refuses a model with fewer entries than ids", () => {
    expect(tokenizer.vocabSize).toBe(270);
    expect(() => tokenizer.checkFits(270)).not.toThrow();
    expect(() => tokenizer.checkFits(269)).toThrow(/ids go up to 269 .* the model's vocabulary has only 269 entries/);
    // An added token beyond the vocabulary counts.
    const json = structuredClone(trained.tokenizerJson);
    json.added_tokens.push({ ...json.added_tokens[0], id: 300, content: "<|far|>" });
    expect(() => Tokenizer.fromJson(json, {}, "dir/tokenizer.json").checkFits(300)).toThrow(
      /dir\/tokenizer\.json: .*"<\|far\|>"/,
    );
  });

  it.each([[null], [[]], [{}], [{ model: {} }], [{ model: { type: "Strange", vocab: {} } }]])(
    "refuses %j as a tokenizer.json",
    (json) => {
      expect(() => Tokenizer.fromJson(json, {}, "t.json")).toThrow(/^t\.json: /);
    },
  );

  it("refuses what is no tokenizer by a clear word, and at once", () => {
    const kinds = [llama, gemma, smollm].map(({ tokenizer: json }) => json as Record<string, unknown>);
    const odd = [null, true, -1, 1e9, 0.5, "", "x", [], {}, { type: "ByteLevel" }, [[]], "\ud800", 4_000_000];
    /** Replaces, removes or moves one random part. */
    const mutate = (value: unknown, random: (n: number) => number, depth = 0): unknown => {
      if (typeof value !== "object" || value === null || (depth > 0 && random(4) === 0)) return odd[random(odd.length)];
      const keys = Object.keys(value);
      if (keys.length === 0) return odd[random(odd.length)];
      const key = keys[random(keys.length)];
      const copy: Record<string, unknown> = Array.isArray(value) ? ([...value] as never) : { ...value };
      if (random(8) === 0) delete copy[key];
      else copy[key] = mutate(copy[key], random, depth + 1);
      return copy;
    };
    fc.assert(
      fc.property(fc.nat(kinds.length - 1), fc.nat(), (kind, seed) => {
        let state = seed + 1;
        const random = (n: number) => {
          state = (state * 48271) % 2147483647;
          return state % n;
        };
        const { model, ...rest } = kinds[kind];
        // The vocabulary is large, so that chance would seldom find the other parts.
        const json =
          random(3) === 0 ? { ...rest, model: mutate(model, random) } : { ...(mutate(rest, random) as object), model };
        const start = performance.now();
        try {
          Tokenizer.fromJson(json, {}, "bad.json").encode("Hello <s> there 12\n");
        } catch (error) {
          expect(error).toSatisfy(isUserError);
          expect((error as Error).message).toMatch(/^bad.json: /);
        }
        expect(performance.now() - start).toBeLessThan(5000);
      }),
      { numRuns: Number(process.env.WEBRLHF_FUZZ ?? 300) },
    );
  });
});
