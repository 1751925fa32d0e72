/** Which pairs a labeller is asked about next, and a reward model that goes on from what it learned. */
import { beforeAll, describe, expect, it } from "vitest";
import { openDevice } from "webrlhf";
import { preferenceExample, worldChance, worldJudges, worldPairs, worldPreferences } from "webrlhf/data";
import { ScoreModel } from "webrlhf/nn";
import { choosePairs, leastCertain, scorePairs, trainReward } from "webrlhf/rlhf";
import { collect, metricsOf, pairs, tinyConfig, tokenizer } from "../tiny.ts";

beforeAll(() => openDevice());

const fresh = (seed = 1) => new ScoreModel(tinyConfig(), "judge").initialize(seed);
const options = { maxLength: 48 };

describe("the least certain pairs", () => {
  const scores = { chosen: [2, 0.5, -1, 3, 0, 7], rejected: [1, 0.75, 1, 3.5, 0.25, 7] };

  it("are those whose scores differ least, whichever answer is which", () => {
    expect(leastCertain(scores)).toEqual([5]);
    expect(leastCertain(scores, 4)).toEqual([5, 1, 4, 3]);
    expect(leastCertain({ chosen: scores.rejected, rejected: scores.chosen }, 4)).toEqual([5, 1, 4, 3]);
    expect(leastCertain(scores, 9)).toEqual([5, 1, 4, 3, 0, 2]);
  });

  it("are asked about once", () => {
    expect(leastCertain(scores, 2, [5, 4])).toEqual([1, 3]);
    expect(leastCertain(scores, 2, new Set([0, 1, 2, 3, 4]))).toEqual([5]);
    expect(leastCertain({ chosen: [], rejected: [] }, 2)).toEqual([]);
  });

  it("need scores that are numbers", () => {
    expect(() => leastCertain({ chosen: [1, Number.NaN], rejected: [1, 1] })).toThrow(/pair 2 are no numbers/);
    expect(() => leastCertain({ chosen: [1], rejected: [] })).toThrow(/1 and 0 scores/);
  });

  it("are what a model is least sure of", async () => {
    const model = fresh();
    const pool = pairs(60);
    const found = await scorePairs(model, pool);
    const chances = found.chosen.map((score, i) => 1 / (1 + Math.exp(found.rejected[i] - score)));
    const picked = await choosePairs(model, pool, 5, [3]);
    const doubt = (i: number) => Math.min(chances[i], 1 - chances[i]);
    const least = Math.min(...picked.map(doubt));
    expect(picked).toHaveLength(5);
    expect(picked).not.toContain(3);
    for (const i of pool.keys()) if (i !== 3 && !picked.includes(i)) expect(doubt(i)).toBeLessThanOrEqual(least);
    model.destroy();
  });
});

describe("a judge that is taught label by label", () => {
  const run = async (model: ScoreModel, labelled: Parameters<typeof trainReward>[1]) =>
    metricsOf(
      await collect(
        trainReward({ model }, labelled, { maxSteps: 12, perDeviceTrainBatchSize: 8, learningRate: 1e-2, seed: 1 }),
      ),
    );

  it("goes on from what it has learned", async () => {
    const [first, more] = [pairs(16).slice(0, 8), pairs(16)];
    const model = fresh();
    await run(model, first);
    const weights = await model.store.read();
    const { chosen, rejected } = await scorePairs(model, first);
    const known = chosen.reduce((sum, c, i) => sum + Math.log1p(Math.exp(rejected[i] - c)), 0) / 8;
    expect(known).toBeLessThan(0.6);
    const again = await run(model, first);
    expect(again[0].loss).toBeCloseTo(known, 5); // not ln 2, as of a fresh model
    await run(model, more);
    expect(await model.store.read()).not.toEqual(weights);
    model.destroy();
  });

  it("learns a rule from the pairs that it asks for", async () => {
    const judge = { ...worldJudges.friend, temperature: 0 };
    const stories = worldPairs(400, 21).filter((pair) => worldChance(judge, pair) !== 0.5);
    const asExample = (chosen: string, rejected: string, prompt: string) =>
      preferenceExample({ kind: "preference", prompt, chosen, rejected, where: "" }, tokenizer, options);
    const pool = stories.map(({ prompt, first, second }) => asExample(first, second, prompt));
    const model = fresh(5);
    const labelled: number[] = [];
    for (let round = 0; round < 4; round++) {
      labelled.push(...(await choosePairs(model, pool, 8, labelled)));
      expect(new Set(labelled).size).toBe(8 * (round + 1));
      const answers = labelled.map((i) => {
        const { prompt, first, second } = stories[i];
        return worldChance(judge, stories[i]) === 1
          ? asExample(first, second, prompt)
          : asExample(second, first, prompt);
      });
      await run(model, answers);
    }
    const held = worldPreferences(400, 22, { judge, split: "test" }).filter(({ certainty }) => certainty === 1);
    const examples = held.map((record) => preferenceExample(record, tokenizer, options));
    const { chosen, rejected } = await scorePairs(model, examples);
    expect(held.length).toBeGreaterThan(40);
    expect(chosen.filter((c, i) => c > rejected[i]).length / held.length).toBeGreaterThan(0.8);
    model.destroy();
  });
});
