import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Tokenizer, trainBpe } from "webrlhf/data";
import { BYTE_TO_CHAR } from "../../src/data/bytes.ts";
import fixture from "./fixtures/bpe.json" with { type: "json" };

describe("against the Rust trainer", () => {
  it.each(fixture.cases.map((c) => [c.vocabSize, c] as const))(
    "%i entries: the same merges in the same order",
    (_, c) => {
      const { tokenizerJson } = trainBpe(fixture.texts, {
        vocabSize: c.vocabSize,
        minFrequency: c.minFrequency,
        alphabet: c.alphabet as "bytes" | "seen",
      });
      expect(tokenizerJson.model.merges.map((pair) => pair.join(" "))).toEqual(c.merges);
      expect(Object.keys(tokenizerJson.model.vocab).length).toBe(c.size);
    },
  );

  it.each(fixture.cases.filter((c) => c.ids.length > 0).map((c) => [c.vocabSize, c] as const))(
    "%i entries: the same ids for other texts, and back",
    (_, c) => {
      const tokenizer = Tokenizer.fromTrained(trainBpe(fixture.texts, c as never));
      for (const [i, probe] of fixture.probes.entries()) {
        expect(tokenizer.encode(probe)).toEqual(c.ids[i]);
        expect(tokenizer.decode(c.ids[i], { skipSpecialTokens: false })).toBe(probe);
      }
    },
  );
});

/** Looks at every pair before every merge. */
function naiveMerges(words: string[], steps: number): string[] {
  let split = words.map((word) => [...word]);
  const alphabet = [...new Set(words.join(""))].sort();
  const ids = new Map(alphabet.map((token, i) => [token, i]));
  const merges: string[] = [];
  for (let step = 0; step < steps; step++) {
    const counts = new Map<string, number>();
    for (const tokens of split) {
      for (let i = 1; i < tokens.length; i++) {
        const pair = `${tokens[i - 1]} ${tokens[i]}`;
        counts.set(pair, (counts.get(pair) ?? 0) + 1);
      }
    }
    const rank = (pair: string) => pair.split(" ").map((token) => ids.get(token) as number);
    const [best] = [...counts].sort(([p, n], [q, m]) => m - n || rank(p)[0] - rank(q)[0] || rank(p)[1] - rank(q)[1]);
    if (!best) break;
    const [a, b] = best[0].split(" ");
    merges.push(best[0]);
    if (!ids.has(a + b)) ids.set(a + b, ids.size);
    split = split.map((tokens) => {
      const out: string[] = [];
      for (let i = 0; i < tokens.length; i++) {
        if (tokens[i] === a && tokens[i + 1] === b) out.push(a + tokens[++i]);
        else out.push(tokens[i]);
      }
      return out;
    });
  }
  return merges;
}

describe("training", () => {
  it("equals looking at every pair before every merge", () => {
    const words = fc.array(fc.string({ unit: fc.constantFrom("a", "b", "c"), minLength: 1, maxLength: 9 }), {
      minLength: 1,
      maxLength: 12,
    });
    fc.assert(
      fc.property(words, (list) => {
        const { tokenizerJson } = trainBpe(list, {
          vocabSize: 1000,
          minFrequency: 1,
          alphabet: "seen",
          specialTokens: [],
        });
        expect(tokenizerJson.model.merges.map((pair) => pair.join(" "))).toEqual(naiveMerges(list, 1000));
      }),
    );
  });

  it("stops at the vocabulary's size and below the frequency asked for", () => {
    const texts = ["low lower lowest low low", "new newer"];
    const sizeOf = (options: { vocabSize: number; minFrequency?: number }) =>
      Object.keys(trainBpe(texts, options).tokenizerJson.model.vocab).length;
    expect(sizeOf({ vocabSize: 260 })).toBe(260);
    expect(sizeOf({ vocabSize: 100 })).toBe(258); // special tokens and bytes come first
    expect(sizeOf({ vocabSize: 1000, minFrequency: 100 })).toBe(258);
  });

  it("learns nothing from special tokens in the texts and nothing from no text", () => {
    const texts = Array(50).fill("<|endoftext|>");
    expect(trainBpe(texts, { vocabSize: 300 }).tokenizerJson.model.merges).toEqual([]);
    expect(trainBpe([], { vocabSize: 300 }).tokenizerJson.model.merges).toEqual([]);
  });

  it("names the special tokens it was given", () => {
    const trained = trainBpe(["a"], { vocabSize: 300, specialTokens: ["<s>", "</s>"], eosToken: "</s>" });
    const tokenizer = Tokenizer.fromTrained(trained);
    expect([tokenizer.eosId, tokenizer.padId, tokenizer.tokenToId("<s>")]).toEqual([1, 1, 0]);
  });

  it("can write down every byte once", () => {
    expect(new Set(BYTE_TO_CHAR).size).toBe(256);
    // The reference's alphabet at its corners.
    expect([0, 10, 32, 33, 126, 127, 160, 161, 173, 174, 255].map((b) => BYTE_TO_CHAR[b])).toEqual([..."ĀĊĠ!~ġł¡Ń®ÿ"]);
  });
});
