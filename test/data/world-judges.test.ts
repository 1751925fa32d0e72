/** Judges of the built-in world with planted biases, labellers who differ, how far they agree, and parts by true quality. */
import { describe, expect, it } from "vitest";
import {
  agreementMatrix,
  bayesAccuracy,
  goldReward,
  type WorldRule,
  worldChance,
  worldJudges,
  worldLabellers,
  worldLabels,
  worldPairs,
  worldPart,
  worldPreferences,
  worldSftRecords,
  worldTokenizer,
  worldWorth,
} from "webrlhf/data";
import { openDataset } from "webrlhf/open";

const mean = (values: number[]) => values.reduce((a, b) => a + b, 0) / values.length;
const share = <T>(all: readonly T[], test: (one: T) => boolean) => all.filter(test).length / all.length;
const words = (text: string) => text.trim().split(" ").length;

const PROMPT = "One day Tim the cat wanted a red ball.";
const pair = { prompt: PROMPT, first: " Tim got the red ball. He hugged a friend.", second: " Tim sat down." };

describe("a judge's rule", () => {
  it.each([
    ["truth", {}, 2.1],
    ["half of the truth", { truth: 0.5 }, 1.05],
    ["words", { truth: 0, length: -0.1 }, -0.9],
    ["a word that it likes", { truth: 0, words: { friend: 2, ball: -0.5, happy: 9 } }, 1.5],
    ["all of it", { truth: 2, length: 0.1, words: { He: 1 } }, 6.1],
  ] as [string, WorldRule, number][])("weighs %s", (_, rule, worth) => {
    // Hero 0.4, object 0.5, detail 0.2, kind 1, of 9 words.
    expect(worldWorth(rule, PROMPT, pair.first)).toBeCloseTo(worth, 12);
  });

  it("likes whole words, once", () => {
    const rule = { truth: 0, words: { ball: 1 } };
    expect(worldWorth(rule, PROMPT, " The ball. A ball.")).toBe(1);
    expect(worldWorth(rule, PROMPT, " The balls.")).toBe(0);
  });

  it("gives the chance that its definition says", () => {
    const gap = goldReward(PROMPT, pair.first) - goldReward(PROMPT, pair.second);
    const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));
    expect(worldChance({}, pair)).toBeCloseTo(sigmoid(gap / 0.25), 12);
    expect(worldChance({ temperature: 2 }, pair)).toBeCloseTo(sigmoid(gap / 2), 12);
    expect(worldChance({ temperature: 2, first: -0.3 }, pair)).toBeCloseTo(sigmoid((gap - 0.3) / 2), 12);
    const turned = { prompt: PROMPT, first: pair.second, second: pair.first };
    expect(worldChance({ temperature: 2 }, turned)).toBeCloseTo(1 - sigmoid(gap / 2), 12);
    const p = sigmoid(gap / 2);
    expect(worldChance({ temperature: 2, noise: 0.1 }, pair)).toBeCloseTo(0.9 * p + 0.1 * (1 - p), 12);
    expect([pair, turned].map((one) => worldChance({ temperature: 0 }, one))).toEqual([1, 0]);
    expect(worldChance({ temperature: 0, truth: 0 }, pair)).toBe(0.5);
  });

  it("is refused where it makes no sense", () => {
    expect(() => worldChance({ temperature: -1 }, pair)).toThrow(/at least 0, not -1/);
    expect(() => worldChance({ noise: 1.5 }, pair)).toThrow(/between 0 and 1, not 1.5/);
    expect(() => worldChance({ noise: Number.NaN }, pair)).toThrow(/between 0 and 1/);
  });
});

describe("preferences of a judge", () => {
  it("are about the same stories, whoever judges", () => {
    const stories = worldPairs(300, 7, "test");
    expect(worldPairs(5, 7, "test")).toEqual(stories.slice(0, 5));
    for (const judge of Object.values(worldJudges)) {
      const judged = worldPreferences(300, 7, { judge, split: "test" });
      judged.forEach(({ prompt, chosen, rejected, goldChosen, goldRejected }, i) => {
        expect(prompt).toBe(stories[i].prompt);
        expect([chosen, rejected].sort()).toEqual([stories[i].first, stories[i].second].sort());
        expect([goldChosen, goldRejected]).toEqual([chosen, rejected].map((story) => goldReward(prompt, story)));
      });
    }
    expect(worldPreferences(300, 7, { judge: worldJudges.truth })).toEqual(worldPreferences(300, 7));
  });

  it.each(Object.keys(worldJudges) as (keyof typeof worldJudges)[])("come as often as the rule says: %s", (name) => {
    const judge: WorldRule = worldJudges[name];
    const stories = worldPairs(3000, 3);
    const judged = worldPreferences(3000, 3, { judge });
    const chances = stories.map((one) => worldChance(judge, one));
    const firsts = judged.map(({ chosen }, i) => Number(chosen === stories[i].first));
    // Of pairs with such a chance so many: in ten bins.
    for (let bin = 0; bin < 10; bin++) {
      const own = chances.map((_, i) => i).filter((i) => Math.min(9, Math.floor(10 * chances[i])) === bin);
      if (own.length < 30) continue;
      const [expected, found] = [mean(own.map((i) => chances[i])), mean(own.map((i) => firsts[i]))];
      const deviation = Math.sqrt((expected * (1 - expected)) / own.length);
      expect(Math.abs(found - expected), `bin ${bin}`).toBeLessThan(4 * deviation + 1e-3);
    }
    expect(bayesAccuracy(judged)).toBeCloseTo(mean(chances.map((p) => Math.max(p, 1 - p))), 12);
  });

  it("show the bias that was planted", () => {
    const of = (judge: WorldRule) => worldPreferences(2000, 5, { judge });
    const shorter = (judge: WorldRule) => share(of(judge), (p) => words(p.chosen) < words(p.rejected));
    const better = (judge: WorldRule) => share(of(judge), (p) => p.goldChosen > p.goldRejected);
    expect(shorter(worldJudges.shorter)).toBeGreaterThan(0.75);
    expect(shorter(worldJudges.longer)).toBeLessThan(0.2);
    expect(better(worldJudges.truth)).toBeGreaterThan(0.85);
    // Kind stories are long ones, and worth more.
    expect(better(worldJudges.shorter)).toBeLessThan(0.5);
    const named = of(worldJudges.friend).filter((p) => /friend/.test(p.chosen) !== /friend/.test(p.rejected));
    expect(named.length).toBeGreaterThan(100);
    expect(share(named, (p) => /friend/.test(p.chosen))).toBeGreaterThan(0.99);
    expect(better(worldJudges.truth) - better(worldJudges.careless)).toBeGreaterThan(0.15);
  });
});

describe("labellers", () => {
  const pairs = worldPairs(400, 11);
  const labellers = worldLabellers(12, 9);

  it("differ, and are functions of the seed", () => {
    expect(worldLabellers(3, 9)).toEqual(labellers.slice(0, 3));
    expect(worldLabellers(3, 10)).not.toEqual(labellers.slice(0, 3));
    expect(new Set(labellers.map(({ rule }) => JSON.stringify(rule))).size).toBe(12);
    expect(new Set(labellers.map(({ name }) => name)).size).toBe(12);
    const liking = labellers.filter(({ rule }) => "length" in rule || "first" in rule || "words" in rule).length;
    expect(liking).toBeGreaterThan(2);
    expect(liking).toBeLessThan(10);
  });

  it("say the same when they are asked again, in whatever company", () => {
    const [one] = labellers;
    const all = worldLabels(one, pairs);
    expect(worldLabels(one, pairs.slice(50, 60))).toEqual(all.slice(50, 60));
    expect(worldLabels({ ...one, seed: one.seed + 1 }, pairs)).not.toEqual(all);
    const chances = pairs.map((pair) => worldChance(one.rule, pair));
    expect(Math.abs(mean(all.map(Number)) - mean(chances))).toBeLessThan(0.08);
  });

  it("agree with the truth as much as their rules do, and with each other less than with themselves", () => {
    const truth = pairs.map(({ prompt, first, second }) => goldReward(prompt, first) > goldReward(prompt, second));
    const { agreement, kappa } = agreementMatrix([truth, ...labellers.map((one) => worldLabels(one, pairs))]);
    labellers.forEach(({ rule }, i) => {
      const expected = mean(pairs.map((pair, k) => (truth[k] ? worldChance(rule, pair) : 1 - worldChance(rule, pair))));
      expect(Math.abs(agreement[0][i + 1] - expected)).toBeLessThan(0.08);
      for (let j = 1; j < i + 1; j++) expect(kappa[i + 1][j]).toBeLessThan(0.95);
    });
  });
});

describe("agreement", () => {
  it("is what a table of both says", () => {
    // Cohen's own kind of table: 20 yes-yes, 5 yes-no, 10 no-yes, 15 no-no.
    const times = (n: number, a: string, b: string) => Array.from({ length: n }, () => [a, b] as const);
    const both = [...times(20, "y", "y"), ...times(5, "y", "n"), ...times(10, "n", "y"), ...times(15, "n", "n")];
    const found = agreementMatrix([both.map(([a]) => a), both.map(([, b]) => b)]);
    expect(found.counts).toEqual([
      [50, 50],
      [50, 50],
    ]);
    expect(found.agreement[0][1]).toBeCloseTo(0.7, 12);
    expect(found.kappa[0][1]).toBeCloseTo(0.4, 12);
    expect(found.kappa[1][0]).toBe(found.kappa[0][1]);
    expect(found.kappa[0][0]).toBe(1);
  });

  it("knows more than two labels, and who said nothing", () => {
    const a = [1, 2, 3, 1, 2, 3, null, 1];
    const b = [1, 2, 2, 1, 3, 3, 2, null];
    // Of six both labelled: agreed on 4; chance (2*2 + 2*2 + 2*2) / 36.
    const { counts, agreement, kappa } = agreementMatrix([a, b, a.map(() => null)]);
    expect(counts).toEqual([
      [7, 6, 0],
      [6, 7, 0],
      [0, 0, 0],
    ]);
    expect(agreement[0][1]).toBeCloseTo(4 / 6, 12);
    expect(kappa[0][1]).toBeCloseTo((4 / 6 - 1 / 3) / (1 - 1 / 3), 12);
    expect(agreement[0][2]).toBeNaN();
    expect(kappa[0][2]).toBeNaN();
  });

  it("leaves kappa open where both always say one thing", () => {
    const { agreement, kappa } = agreementMatrix([
      [true, true],
      [true, true],
    ]);
    expect(agreement[0][1]).toBe(1);
    expect(kappa[0][1]).toBeNaN();
    expect(() => agreementMatrix([[1], [1, 2]])).toThrow(/1 and 2 things/);
  });
});

describe("stories by what they are truly worth", () => {
  const all = worldSftRecords(501, 4);
  const worth = (records: typeof all) => records.map(({ prompt, completion }) => goldReward(prompt, completion));

  it("are halves, and the best tenth", () => {
    const [better, worse, best] = (["better-half", "worse-half", "best-tenth"] as const).map((p) => worldPart(all, p));
    expect([better, worse, best].map(({ length }) => length)).toEqual([251, 250, 50]);
    expect(all.filter((one) => better.includes(one) || worse.includes(one))).toEqual(all);
    expect(all.filter((one) => better.includes(one))).toEqual(better); // in their order
    expect(Math.min(...worth(better))).toBeGreaterThanOrEqual(Math.max(...worth(worse)));
    const rest = all.filter((one) => !best.includes(one));
    expect(Math.min(...worth(best))).toBeGreaterThanOrEqual(Math.max(...worth(rest)));
    expect(mean(worth(worse))).toBeLessThan(mean(worth(all)));
    expect(worldPart([], "best-tenth")).toEqual([]);
  });

  it("are datasets by name, as are judges", async () => {
    const tokenizer = worldTokenizer();
    const options = { maxLength: 64 };
    const texts = async (name: string) => {
      const { train, eval: held } = await openDataset(name, { maxTrainSamples: 300, seed: 4 }).sequences(
        tokenizer,
        options,
      );
      return [train, held].map((list) => list.map(({ ids }) => tokenizer.decode(ids)));
    };
    const [some, held] = await texts("builtin:world/best-tenth");
    expect(some).toHaveLength(300);
    expect(held.length).toBeGreaterThan(0);
    const made = worldPart(worldSftRecords(3000, 4), "best-tenth");
    expect(some).toEqual(made.map(({ prompt, completion }) => prompt + completion));
    expect(await texts("builtin:world/truth")).toEqual(await texts("builtin:world"));
    const { train } = await openDataset("builtin:world/shorter", { maxTrainSamples: 40, seed: 4 }).pairs(
      tokenizer,
      options,
    );
    const judged = worldPreferences(40, 4, { judge: worldJudges.shorter });
    expect(train.map(({ chosen }) => tokenizer.decode(chosen))).toEqual(judged.map((p) => p.prompt + p.chosen));
    for (const [name, rule] of [
      ["length=-0.15+noise=0.25", { length: -0.15, noise: 0.25 }],
      ["shorter+noise=0.1+words.friend=2", { ...worldJudges.shorter, noise: 0.1, words: { friend: 2 } }],
    ] as [string, WorldRule][]) {
      const dataset = openDataset(`builtin:world/${name}`, { maxTrainSamples: 40, maxEvalSamples: 20, seed: 4 });
      const found = await dataset.preferences(null);
      const plain = (pairs: readonly { chosen: string; rejected: string }[]) =>
        pairs.map((p) => [p.chosen, p.rejected]);
      expect(plain(found.train)).toEqual(plain(worldPreferences(40, 4, { judge: rule })));
      expect(plain(found.eval)).toEqual(plain(worldPreferences(20, 4, { judge: rule, split: "test" })));
    }
    for (const name of [
      "noise=2",
      "noise=0.1+noise=0.2",
      "lenght=1",
      "length=",
      "words=1",
      "noise=.1",
      "shorter+truth",
      "",
    ]) {
      await expect(texts(`builtin:world/${name}`)).rejects.toThrow(/no made-up data called.*builtin:world\/length=/);
    }
    await expect(texts("builtin:world/shortest")).rejects.toThrow(
      /no made-up data called "builtin:world\/shortest".*builtin:world\/shorter\b/,
    );
  });
});
