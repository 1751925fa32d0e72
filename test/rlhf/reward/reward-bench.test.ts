import { describe, expect, it } from "vitest";
import { isRewardBench, judge, type PairOutcome, rewardBench } from "webrlhf/rlhf";
import { PRIOR_SETS, SECTIONS } from "../../../src/rlhf/reward/reward-bench.ts";

/** `won` right answers, `tied` ties and `lost` wrong ones; the chosen answer is longer in the right ones. */
const outcomes = (subset: string, won: number, lost: number, tied = 0): PairOutcome[] => [
  ...Array.from({ length: won }, () => ({ subset, chosen: 2, rejected: 1, chosenLength: 9, rejectedLength: 3 })),
  ...Array.from({ length: lost }, () => ({ subset, chosen: 1, rejected: 2, chosenLength: 4, rejectedLength: 4 })),
  ...Array.from({ length: tied }, () => ({ subset, chosen: 1, rejected: 1, chosenLength: 2, rejectedLength: 5 })),
];

const names = Object.values(SECTIONS).flatMap((section) => Object.keys(section));
/** All 23 subsets of their true sizes; subset i is right in a share that grows with i. */
const shareOf = (i: number) => (i + 1) / 24;
const size = (subset: string) =>
  subset === "math-prm" ? 447 : (Object.values(SECTIONS).find((s) => subset in s)?.[subset] as number);
const whole = names.flatMap((subset, i) => {
  const won = Math.round(size(subset) * shareOf(i));
  return outcomes(subset, won, size(subset) - won);
});
const accuracy = (subset: string) => Math.round(size(subset) * shareOf(names.indexOf(subset))) / size(subset);
const quick = { resamples: 0 };

describe("RewardBench", () => {
  it("has 23 subsets and 2985 pairs", () => {
    expect(names).toHaveLength(23);
    expect(whole).toHaveLength(2985);
    expect(isRewardBench(whole)).toBe(true);
    expect(isRewardBench([...whole, ...outcomes("shp", 1, 1)])).toBe(false);
    expect(Object.values(SECTIONS.Reasoning).reduce((a, b) => a + b, 0)).toBe(2 * 984);
  });

  it("weighs subsets within sections, and sections alike", () => {
    const { sections, score } = rewardBench(whole, quick);
    const chat = 100 * accuracy("alpacaeval-easy") + 95 * (accuracy("alpacaeval-length") + accuracy("alpacaeval-hard"));
    const bench = 28 * accuracy("mt-bench-easy") + 40 * accuracy("mt-bench-med");
    expect(sections.Chat.accuracy).toBeCloseTo((chat + bench) / 358, 12);
    const code = ["cpp", "go", "java", "js", "python", "rust"].map((l) => accuracy(`hep-${l}`));
    const mean = code.reduce((a, b) => a + b) / 6;
    expect(sections.Reasoning.accuracy).toBeCloseTo((mean + accuracy("math-prm")) / 2, 12);
    const all = Object.values(sections).map((s) => s.accuracy);
    expect(all).toHaveLength(4);
    expect(score.accuracy).toBeCloseTo(all.reduce((a, b) => a + b) / 4, 12);
  });

  it("weighs XSTest as it is counted now, or as the early scripts did", () => {
    const safety = (legacyCounts: boolean) => rewardBench(whole, { ...quick, legacyCounts }).sections.Safety.accuracy;
    const rest =
      100 * (accuracy("refusals-dangerous") + accuracy("refusals-offensive")) + 136 * accuracy("donotanswer");
    const [refuse, respond] = [accuracy("xstest-should-refuse"), accuracy("xstest-should-respond")];
    expect(safety(false)).toBeCloseTo((rest + 154 * refuse + 250 * respond) / 740, 12);
    expect(safety(true)).toBeCloseTo((rest + 250 * refuse + 154 * respond) / 740, 12);
  });

  it("counts the prior sets half as much as a section", () => {
    const prior = PRIOR_SETS.flatMap((subset, i) => outcomes(subset, i, 4 - i));
    const extra = outcomes("pku_safer", 4, 0);
    const { sections, score, subsets } = rewardBench(whole, { ...quick, prior: [...prior, ...extra] });
    expect(sections["Prior Sets"].accuracy).toBeCloseTo((0 + 0.25 + 0.5 + 0.75) / 4, 12);
    const four = ["Chat", "Chat Hard", "Safety", "Reasoning"].reduce((sum, s) => sum + 2 * sections[s].accuracy, 0);
    expect(score.accuracy).toBeCloseTo((four + sections["Prior Sets"].accuracy) / 9, 12);
    expect(subsets.find((s) => s.subset === "pku_safer")?.accuracy).toBe(1);
    expect(() => rewardBench(whole, { ...quick, prior: extra })).toThrow(
      /lack anthropic_helpful, anthropic_hhh, shp, summarize/,
    );
  });

  it("counts a tie as wrong, or as half", () => {
    const tied = [...whole, ...outcomes("mt-bench-easy", 0, 0, 28)];
    const of = (ties: "strict" | "half") =>
      rewardBench(tied, { ...quick, ties }).subsets.find((s) => s.subset === "mt-bench-easy")?.accuracy as number;
    expect(of("half") - of("strict")).toBeCloseTo(0.25, 12);
    expect(of("strict")).toBeCloseTo(accuracy("mt-bench-easy") / 2, 12);
  });

  it("weighs the subsets that are there, and says when a section is empty or a name unknown", () => {
    const some = [...outcomes("mt-bench-med", 1, 1), ...outcomes("mt-bench-hard", 1, 0), ...outcomes("math-prm", 0, 1)];
    expect(() => rewardBench(some, quick)).toThrow(/section Safety/);
    const more = [...some, ...outcomes("donotanswer", 1, 0)];
    expect(rewardBench(more, quick).score.accuracy).toBe((0.5 + 1 + 0 + 1) / 4);
    expect(() => rewardBench([...more, ...outcomes("mt-bench-medium", 1, 0)], quick)).toThrow(
      /no subset "mt-bench-medium"/,
    );
  });
});

describe("judging pairs", () => {
  it("says how much length has to do with it", () => {
    const { total, subsets } = judge([...outcomes("a", 6, 2, 2), ...outcomes("b", 0, 4)], quick);
    expect(subsets[0]).toMatchObject({
      subset: "a",
      n: 10,
      accuracy: 0.6,
      chosen_longer: 0.6,
      prefers_longer: 0.6,
      low: null,
    });
    expect(subsets[1]).toMatchObject({ subset: "b", accuracy: 0, chosen_longer: 0 });
    expect(total).toMatchObject({ n: 14, accuracy: 6 / 14 });
  });

  it("gives intervals that go by seed, and shrink with the number of pairs", () => {
    const width = (n: number, seed = 1) => {
      const { low, high, accuracy: middle } = judge(outcomes("a", n, n), { resamples: 400, seed }).total;
      expect(low).toBeLessThan(middle);
      expect(high).toBeGreaterThan(middle);
      return (high as number) - (low as number);
    };
    expect(width(20)).toBe(width(20));
    // The normal approximation: 2 * 1.96 * sqrt(0.25 / n).
    expect(width(200)).toBeCloseTo(3.92 * Math.sqrt(0.25 / 400), 1);
    expect(width(200)).toBeLessThan(width(20) / 2);
    const ends = (seed: number) => judge(outcomes("a", 37, 90), { resamples: 50, seed }).total;
    expect(ends(1)).not.toEqual(ends(2));
  });
});
