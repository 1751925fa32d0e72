/** A reward model that reads responses by a tokenizer of its own. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Tokenizer, trainBpe, worldPrompts } from "webrlhf/data";
import { ScoreModel } from "webrlhf/nn";
import { foreignReward, type Response, sameTokenizer, scoreSequences } from "webrlhf/rlhf";
import { gpuReady } from "../../helpers.ts";
import { tokenizer as policyTokenizer, tinyConfig } from "../tiny.ts";

const texts = worldPrompts(20, 1, "train");
/** Letters and a few pieces, so that the same texts are longer. */
const tokenizer = Tokenizer.fromTrained(trainBpe(texts, { vocabSize: 80, minFrequency: 2, alphabet: "seen" }));
const eos = tokenizer.eosId as number;
const end = policyTokenizer.eosId as number;

let model: ScoreModel;
beforeAll(async () => {
  await gpuReady();
  model = new ScoreModel({ ...tinyConfig(), vocabSize: tokenizer.vocabSize }, "foreign").initialize(3);
});
afterAll(() => model.destroy());

const response = (text: string, ended: boolean): Response => {
  const ids = Uint32Array.from([...policyTokenizer.encode(text), ...(ended ? [end] : [])]);
  return { ids, promptLength: 2, prompt: 0, sample: 0, promptText: "", text: "", ended };
};
const responses = [response(texts[0], true), response(texts[1], false)];
const read = (text: string, ended: boolean) => {
  const ids = Uint32Array.from([...tokenizer.prefixIds, ...tokenizer.encode(text), ...(ended ? [eos] : [])]);
  return { ids, promptLength: 0 };
};

describe("a reward model with another tokenizer", () => {
  it("sees the text, and an end where the response has one", async () => {
    const scores = await foreignReward(model, tokenizer, policyTokenizer)(responses);
    const expected = await scoreSequences(model, [read(texts[0], true), read(texts[1], false)]);
    expect([...(scores as Float32Array)]).toEqual([...expected]);
    expect(read(texts[0], false).ids.length).not.toBe(responses[0].ids.length - 1);
  });

  it("sees an end everywhere, if it is to be as in PaddleNLP and safe-rlhf", async () => {
    const reward = foreignReward(model, tokenizer, policyTokenizer, { end: "always" });
    const scores = (await reward(responses)) as Float32Array;
    const expected = await scoreSequences(model, [read(texts[0], true), read(texts[1], true)]);
    expect([...scores]).toEqual([...expected]);
    const asGenerated = (await foreignReward(model, tokenizer, policyTokenizer)(responses)) as Float32Array;
    expect(scores[0]).toBe(asGenerated[0]);
    expect(scores[1]).not.toBe(asGenerated[1]);
  });

  it("refuses texts that are too long for it, and a tokenizer that is not its own", async () => {
    const long = response(texts.slice(0, 8).join(" "), true);
    await expect(foreignReward(model, tokenizer, policyTokenizer)([long])).rejects.toThrow(
      /more than its context of 64/,
    );
    expect(() => foreignReward(model, policyTokenizer, tokenizer)).toThrow(/vocab/i);
  });

  it("is recognised by its tokenizer", () => {
    const again = Tokenizer.fromJson(structuredClone(policyTokenizer.json), policyTokenizer.configJson);
    expect(sameTokenizer(policyTokenizer, again)).toBe(true);
    expect(sameTokenizer(policyTokenizer, tokenizer)).toBe(false);
    const padded = Tokenizer.fromJson(
      { ...structuredClone(policyTokenizer.json), truncation: null },
      policyTokenizer.configJson,
    );
    expect(sameTokenizer(policyTokenizer, padded)).toBe(true);
  });
});
