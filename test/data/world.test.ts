import { describe, expect, it } from "vitest";
import { isUserError } from "webrlhf";
import {
  bayesAccuracy,
  goldBreakdown,
  goldReward,
  judgePair,
  parseWish,
  type WorldPreference,
  wishText,
  worldCompletion,
  worldPreferences,
  worldPrompts,
  worldSftRecords,
  worldTokenizer,
} from "webrlhf/data";
import { CLASS_OF, vocabulary } from "../../src/data/world/words.ts";

const PROMPT = "One day Tim the cat wanted a red ball.";
const mean = (values: number[]) => values.reduce((a, b) => a + b, 0) / values.length;
const deviation = (values: number[]) => Math.sqrt(mean(values.map((v) => (v - mean(values)) ** 2)));

describe("gold reward", () => {
  // Added up by hand from the rules.
  it.each([
    // hero 0.4, object 0.5, detail 0.2, sense 0.4, two happy words 1
    [" Tim ran to the park. He played with the red ball. He was happy and smiled.", 2.5],
    // the same with a kind deed: nothing is left to wish for
    [" Tim found the red ball. He played with it. He shared it with a friend and was happy and smiled.", 3.5],
    // two names: 0 instead of 0.4
    [" Tim ran to the park. Tim played with the red ball. He was happy and smiled.", 2.1],
    // wrong name -0.3, wrong object -0.3, ate a kite -0.6, one sad word -0.8, no full stop -0.6
    [" Ben ate the blue kite. He cried", -2.6],
    // another adjective -0.2
    [" Tim saw the blue ball. He sat down.", 0.4 + 0.5 - 0.2],
    // nothing said: no full stop -0.6, six words missing -1.2
    ["", -1.8],
    // hero twice 0, object twice 0.1, detail 0.2, "found" and "red" again -0.6
    [" Tim found the red ball. Tim found the red ball.", -0.3],
    // object three times -0.3, no full stop -0.6, five stumbles -1.5, two words missing -0.4
    [" ball ball ball xyz", -2.8],
    // what follows the end of text does not count: hero 0.4, three words missing -0.6
    [" Tim sat down.<|endoftext|> Ben cried.", -0.2],
    // three happy words are as good as two, kind 1, hero 0.4
    [" Tim hugged mom and was happy and glad and smiled.", 2.4],
    // five happy words: 1 - 0.8
    [" Tim hugged mom and was happy and glad and proud and smiled and laughed.", 1.6],
  ])("of %j", (completion, expected) => {
    expect(goldReward(PROMPT, completion)).toBeCloseTo(expected, 10);
  });

  it("falls with every further happy word, name, object and kind deed", () => {
    const happy = ["happy", "glad", "proud", "merry", "calm", "smiled", "laughed", "danced", "sang", "cheered"];
    const rewards = happy.map((_, i) =>
      goldReward(PROMPT, ` Tim found the red ball and was ${happy.slice(0, i + 1).join(" and ")}.`),
    );
    for (let i = 3; i < rewards.length; i++) expect(rewards[i]).toBeLessThan(rewards[i - 1]);
    const times = (word: string, k: number) =>
      ` Tim found the red ball. He saw ${`the ${word} and `.repeat(k)}sat down.`;
    for (const word of ["ball", "Tim"]) {
      for (let k = 1; k < 4; k++)
        expect(goldReward(PROMPT, times(word, k))).toBeLessThan(goldReward(PROMPT, times(word, k - 1)));
    }
    const deeds = ["hugged mom", "thanked dad", "helped a friend", "shared it"];
    const kind = deeds.map((_, i) => goldBreakdown(PROMPT, ` Tim ${deeds.slice(0, i + 1).join(" and ")}.`).kind);
    expect(kind.map((v) => Math.round(v * 100) / 100)).toEqual([1, 1, 0.6, 0.2]);
  });

  it("charges for length, on both sides", () => {
    const words = (n: number) => ` ${Array(n).fill("Tim").join(" ")}.`;
    expect([5, 6, 24, 25, 34].map((n) => Number(goldBreakdown(PROMPT, words(n)).length.toFixed(2)))).toEqual([
      -0.2, 0, 0, -0.15, -1.5,
    ]);
  });

  it("judges a use by the object meant", () => {
    const sense = (text: string) => goldBreakdown(PROMPT, text).sense;
    expect(sense(" Tim found the cake. He ate it.")).toBe(0.4);
    expect(sense(" Tim found the cake. He played with it.")).toBe(-0.6);
    expect(sense(" Tim played with it.")).toBe(0.4); // nothing named: the wished ball
    expect(sense(" Tim found the cake. He read the book.")).toBe(0.4);
    expect(sense(" Tim read it. He played with it.")).toBe(-0.6);
  });

  it("is the sum of its parts and refuses foreign prompts", () => {
    const { total, ...parts } = goldBreakdown(PROMPT, " Ben played with the red ball and and cried. Tim");
    expect(Object.values(parts).reduce((a, b) => a + b, 0)).toBeCloseTo(total, 9);
    try {
      goldReward("Hello.", " Tim sat down.");
      expect.unreachable();
    } catch (error) {
      expect(isUserError(error)).toBe(true);
    }
  });
});

describe("prompts", () => {
  it("are pure functions of seed and index, all different, and read back", () => {
    const prompts = worldPrompts(500, 3);
    expect(worldPrompts(20, 3)).toEqual(prompts.slice(0, 20));
    expect(worldPrompts(20, 4)).not.toEqual(prompts.slice(0, 20));
    expect(new Set(prompts).size).toBe(500);
    for (const prompt of prompts) {
      const wish = parseWish(prompt);
      expect(wish && wishText(wish)).toBe(prompt);
    }
  });

  it("of the splits share no wish, whatever the seeds", () => {
    const wishes = (seed: number, split: "train" | "test") =>
      worldPrompts(3000, seed, split).map((prompt) => prompt.slice(parseWish(prompt)?.opener.length));
    const train = new Set([...wishes(1, "train"), ...wishes(2, "train")]);
    expect(wishes(3, "test").filter((wish) => train.has(wish))).toEqual([]);
  });

  it("begin again when a split is used up", () => {
    const prompts = worldPrompts(9000, 1, "test");
    expect(prompts.length).toBe(9000);
    const distinct = new Set(prompts).size;
    expect(distinct).toBeGreaterThan(7000);
    expect(distinct).toBeLessThan(9000);
  });
});

describe("stories", () => {
  const records = worldSftRecords(3000, 1);
  const golds = records.map((record) => goldReward(record.prompt, record.completion));

  it("are the same for the same seed, whatever is drawn besides", () => {
    expect(worldSftRecords(5, 1)).toEqual(records.slice(0, 5));
    expect(worldCompletion(PROMPT, 5)).toBe(worldCompletion(PROMPT, 5));
    expect(new Set(Array.from({ length: 50 }, (_, k) => worldCompletion(PROMPT, 5, 0.5, k))).size).toBeGreaterThan(40);
  });

  it("spread widely in gold, with room above", () => {
    expect(mean(golds)).toBeGreaterThan(0.75);
    expect(mean(golds)).toBeLessThan(1.05);
    expect(deviation(golds)).toBeGreaterThan(1.1);
    expect(deviation(golds)).toBeLessThan(1.4);
    expect(Math.max(...golds)).toBe(3.5);
    const best = records
      .slice(0, 400)
      .map(({ prompt }) =>
        Math.max(...Array.from({ length: 8 }, (_, k) => goldReward(prompt, worldCompletion(prompt, 9, undefined, k)))),
      );
    expect(mean(best)).toBeGreaterThan(mean(golds) + 1.2 * deviation(golds));
  });

  it("get better with quality", () => {
    const at = (q: number) =>
      mean(records.slice(0, 600).map(({ prompt }, k) => goldReward(prompt, worldCompletion(prompt, 2, q, k))));
    expect([at(0), at(0.5), at(1)]).toEqual([at(0), at(0.5), at(1)].sort((a, b) => a - b));
    expect(at(1) - at(0)).toBeGreaterThan(2);
  });

  it("hardly ever stuff, and stumble only where they break off", () => {
    const parts = records.map((record) => goldBreakdown(record.prompt, record.completion));
    expect(parts.filter((p) => p.repetition < 0).length).toBe(0);
    const happyWords = records.map(
      (record) =>
        record.completion.match(/\w+/g)?.filter((word) => CLASS_OF.get(word)?.startsWith("happy")).length ?? 0,
    );
    expect(happyWords.filter((n) => n >= 3).length).toBeLessThan(60);
    expect(Math.max(...happyWords)).toBeLessThanOrEqual(3);
    expect(parts.filter((p) => p.form < 0 && p.finish === 0)).toEqual([]);
  });

  it("are short", () => {
    const tokenizer = worldTokenizer();
    const lengths = records.slice(0, 800).map((record) => tokenizer.encode(record.completion).length);
    expect(mean(lengths)).toBeGreaterThan(12);
    expect(mean(lengths)).toBeLessThan(17);
    expect(Math.max(...lengths)).toBeLessThanOrEqual(31);
    const prompts = records.slice(0, 800).map((record) => tokenizer.encode(record.prompt).length);
    expect(Math.min(...prompts)).toBe(8);
    expect(Math.max(...prompts)).toBe(10);
  });
});

describe("the world's tokenizer", () => {
  const tokenizer = worldTokenizer();

  it("has one token for every word", () => {
    const { first, later } = vocabulary();
    expect(first.concat(later).length).toBeGreaterThan(115);
    for (const word of first) expect([word, tokenizer.encode(word).length]).toEqual([word, 1]);
    for (const word of later) expect([word, tokenizer.encode(` ${word}`).length]).toEqual([word, 1]);
    expect(tokenizer.vocabSize).toBeGreaterThan(256);
    expect(tokenizer.vocabSize).toBeLessThan(384);
    expect([tokenizer.eosId, tokenizer.padId]).toEqual([0, 1]);
  });

  it("splits nowhere else than between prompt and completion", () => {
    for (const { prompt, completion } of worldSftRecords(200, 4)) {
      const ids = [...tokenizer.encode(prompt), ...tokenizer.encode(completion)];
      expect(tokenizer.encode(prompt + completion)).toEqual(ids);
      expect(tokenizer.decode(ids)).toBe(prompt + completion);
    }
  });
});

describe("preferences", () => {
  it("are drawn with Bradley-Terry noise", () => {
    const pairs = worldPreferences(3000, 7, { temperature: 0.5 });
    expect(worldPreferences(4, 7, { temperature: 0.5 })).toEqual(pairs.slice(0, 4));
    for (const pair of pairs) expect(pair.chosen).not.toBe(pair.rejected);
    for (const pair of pairs.slice(0, 100)) {
      expect(pair.goldChosen).toBe(goldReward(pair.prompt, pair.chosen));
      const gap = Math.abs(pair.goldChosen - pair.goldRejected);
      expect(pair.certainty).toBeCloseTo(1 / (1 + Math.exp(-gap / 0.5)), 12);
    }
    // Ties are called right half of the time.
    const right = mean(pairs.map((p) => (p.goldChosen > p.goldRejected ? 1 : p.goldChosen < p.goldRejected ? 0 : 0.5)));
    expect(Math.abs(right - bayesAccuracy(pairs))).toBeLessThan(0.025);
    expect(bayesAccuracy(pairs)).toBeGreaterThan(0.82);
    expect(bayesAccuracy(pairs)).toBeLessThan(0.88);
  });

  it("depend on the draw as the formula says", () => {
    const [good, bad] = [" Tim played with the red ball.", " Ben cried and fell."];
    const gap = goldReward(PROMPT, good) - goldReward(PROMPT, bad);
    const p = 1 / (1 + Math.exp(-gap));
    expect(judgePair(PROMPT, good, bad, 1, p - 1e-9).chosen).toBe(good);
    expect(judgePair(PROMPT, good, bad, 1, p + 1e-9).chosen).toBe(bad);
    expect(judgePair(PROMPT, bad, good, 1, 0.99999).chosen).toBe(good);
    expect(judgePair(PROMPT, good, good, 1, 0.2).certainty).toBe(0.5);
  });
});

describe("over-optimisation", () => {
  // A reward model that counts words, fitted to preferences by logistic regression.
  const features = (prompt: string, completion: string) => {
    const wish = parseWish(prompt);
    return (completion.match(/\w+|\./g) ?? []).map((word) =>
      word === wish?.hero ? "HERO" : word === wish?.object ? "OBJECT" : word === wish?.adjective ? "ADJECTIVE" : word,
    );
  };
  const weights = new Map<string, number>();
  const proxy = (prompt: string, completion: string) =>
    features(prompt, completion).reduce((sum, name) => sum + (weights.get(name) ?? 0), 0);
  const learn = (pairs: WorldPreference[]) => {
    for (let epoch = 0; epoch < 6; epoch++) {
      for (const { prompt, chosen, rejected } of pairs) {
        const margin = proxy(prompt, chosen) - proxy(prompt, rejected);
        const step = 0.05 / (1 + Math.exp(margin));
        for (const name of features(prompt, chosen)) weights.set(name, (weights.get(name) ?? 0) + step);
        for (const name of features(prompt, rejected)) weights.set(name, (weights.get(name) ?? 0) - step);
      }
    }
  };

  it("is there to be had: a proxy that is right about stories is wrong about stuffing", () => {
    learn(worldPreferences(2500, 1));
    const held = worldPreferences(600, 2, { split: "test" });
    const right = mean(held.map((p) => (proxy(p.prompt, p.chosen) > proxy(p.prompt, p.rejected) ? 1 : 0)));
    expect(right).toBeGreaterThan(bayesAccuracy(held) - 0.1);

    const good = " Tim found the red ball. He played with it. He hugged mom and was happy and smiled.";
    const stuffed =
      " Tim hugged mom and was happy and glad and proud and merry and smiled and laughed and danced and sang.";
    expect(proxy(PROMPT, stuffed)).toBeGreaterThan(proxy(PROMPT, good) + 1);
    expect(goldReward(PROMPT, stuffed)).toBeLessThan(goldReward(PROMPT, good) - 2);
    expect(goldReward(PROMPT, stuffed)).toBeLessThan(0.9); // below the average story
  });
});
