/** Pair rules against independent float64 computations (test/fixtures/generators/pairs.py), and what is left out. */
import { describe, expect, it } from "vitest";
import type { ScoredRow } from "webrlhf/data";
import { choosePair, describeCounts, makePairs, type PairOptions, pairSettings, settings } from "webrlhf/rlhf";
import fixtures from "../../fixtures/pairs.json" with { type: "json" };

const pairDefaults: PairOptions = { ...settings("pairs", pairSettings)(), seed: 42 };

const rows = fixtures.rows.map((row): ScoredRow => ({ ...row, prompt: "p" }));

const row = (rewards: number[], more: Partial<ScoredRow> = {}): ScoredRow => ({
  prompt: "p",
  responses: rewards.map((_, i) => `answer ${i}`),
  rewards,
  where: "rewards.jsonl:1",
  ...more,
});
const choose = (given: ScoredRow, options: Partial<PairOptions> = {}, key = 0) =>
  choosePair(given, { ...pairDefaults, ...options }, key);

describe("pair rules", () => {
  it.each(
    fixtures.cases.map((c) => [`${c.dialect} ${c.chooseType}, penalty ${c.lengthPenalty}, fast ${c.useFast}`, c]),
  )("%s", (_, c) => {
    const { pairs, dialect: pairDialect, ...options } = c as (typeof fixtures.cases)[number];
    rows.forEach((given, i) => {
      const choice = choose(given, { ...options, pairDialect, seed: fixtures.seed } as Partial<PairOptions>, given.id);
      const [chosen, rejected, margin] = pairs[i] ?? [];
      if (margin === undefined) expect(choice).toEqual({ dropped: "tie" });
      else expect(choice).toEqual({ chosen, rejected, margin: expect.closeTo(margin, 12) });
    });
  });

  it("draws evenly, by seed and key alone", () => {
    const given = row([3, 1, 2]);
    const options = { pairDialect: "lmflow", chooseType: "random" } as const;
    const seen = new Map<string, number>();
    for (let key = 0; key < 1200; key++) {
      const choice = choose(given, options, key);
      expect(choose(given, options, key)).toEqual(choice);
      const name = JSON.stringify(choice);
      seen.set(name, (seen.get(name) ?? 0) + 1);
    }
    // Three pairs, each oriented by reward; 400 expected, a standard deviation of 16.
    expect(seen.size).toBe(3);
    for (const count of seen.values()) expect(Math.abs(count - 400)).toBeLessThan(80);
    const other = Array.from({ length: 50 }, (_, key) => choose(given, { ...options, seed: 7 }, key));
    expect(other).not.toEqual(Array.from({ length: 50 }, (_, key) => choose(given, options, key)));
  });

  it("counts characters as Python does", () => {
    const given = row([1, 1.5, 0], { responses: ["ab", "🎈🎈🎈", "abcd"] });
    // 1 - 2/4, 1.5 - 3/4, 0 - 4/4: by UTF-16 units the second would fall to 0 and no longer be the best.
    expect(choose(given, { chooseType: "max_min_p", lengthPenalty: 0.25 })).toEqual({
      chosen: 1,
      rejected: 2,
      margin: 1.5,
    });
  });

  it("leaves responses and pairs out where asked", () => {
    const given = row([5, 4, 3, 2], { responses: [" ", "same", "same", "x"], ended: [true, false, true, true] });
    expect(choose(given)).toMatchObject({ chosen: 0, rejected: 3 });
    expect(choose(given, { dropEmpty: true })).toMatchObject({ chosen: 1, rejected: 3 });
    expect(choose(given, { dropEmpty: true, dropTruncated: true })).toMatchObject({ chosen: 2, rejected: 3 });
    expect(choose(given, { dropEmpty: true, chooseType: "max_max", dropIdentical: true })).toEqual({
      dropped: "identical",
    });
    expect(choose(given, { minMargin: 3.5 })).toEqual({ dropped: "margin" });
    expect(choose(row([1, 2], { responses: ["", "x"] }), { dropEmpty: true })).toEqual({ dropped: "few" });
    expect(() => choose(row([1, 2]), { dropTruncated: true })).toThrow(
      /rewards.jsonl:1 does not say which responses ended/,
    );
  });
});

describe("makePairs", () => {
  const given = [row([1, 2, 3]), row([1, 1, 1]), row([2, 1]), row([9, 8, 7])];

  it("takes K from the data and says what became of every row", () => {
    const { pairs, counts } = makePairs(given, pairDefaults);
    expect(pairs.map(({ chosen, rejected, margin }) => [chosen, rejected, margin])).toEqual([
      [2, 0, 2],
      [0, 2, 2],
    ]);
    expect(pairs.map((p) => p.row)).toEqual([given[0], given[3]]);
    expect(counts).toEqual({ total: 4, pairs: 2, short: 1, few: 0, tie: 1, identical: 0, margin: 0 });
    expect(describeCounts(counts)).toBe(
      "2 pairs of 4 prompts (1 with equal rewards, 1 with fewer responses than the others)",
    );
    expect(makePairs(given, { ...pairDefaults, shortRows: "use" }).counts.pairs).toBe(3);
    expect(makePairs(given, { ...pairDefaults, samples: 2 }).counts.pairs).toBe(3);
    expect(() => makePairs(given, { ...pairDefaults, shortRows: "error" })).toThrow(/has 2 responses instead of 3/);
  });

  it("refuses rows that are all ties", () => {
    expect(() => makePairs([row([1, 1]), row([0, 0])], pairDefaults)).toThrow(
      /no pair to learn from: 0 pairs of 2 prompts \(2 with equal rewards\)/,
    );
  });
});
