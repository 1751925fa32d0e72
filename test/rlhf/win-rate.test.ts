/** Win rates against scipy and statsmodels, and of simulated judges that like long answers. */
import { describe, expect, it } from "vitest";
import { judgeKappa, type PairedOutcome, positionBias, winRates } from "webrlhf/rlhf";
import { normal, uniform } from "../../src/runtime/rng.ts";
import { type FixtureArray, numbers } from "../fixture.ts";
import fixtures from "../fixtures/win-rate.json" with { type: "json" };

const bare = { resamples: 0 };

describe("win rates", () => {
  it.each(fixtures.cases)("are those of scipy and statsmodels: $name", (one) => {
    const [lengths, others] = [numbers(one.lengths as FixtureArray), numbers(one.others as FixtureArray)];
    const found = winRates(
      one.outcomes.map((outcome, i) => ({ outcome, length: lengths[i], otherLength: others[i] })),
      bare,
    );
    expect(found.win_rate.value).toBeCloseTo(one.winRate, 8);
    expect(found.win_rate.low).toBeCloseTo(one.low, 8);
    expect(found.win_rate.high).toBeCloseTo(one.high, 8);
    expect(found.length_controlled?.value).toBeCloseTo(one.lengthControlled, 6);
    expect(found.length_effect! / one.lengthEffect).toBeCloseTo(1, 5);
    expect(found.length_controlled?.low).toBeNull();
    expect(found.wins + found.ties + found.losses).toBe(one.outcomes.length);
  });

  it.each(fixtures.wilson)("have Wilson's interval: $wins of $n", ({ wins, n, ends }) => {
    const outcomes = Array.from({ length: n }, (_, i) => ({ outcome: Number(i < wins), length: 1, otherLength: 1 }));
    const { win_rate } = winRates(outcomes, bare);
    expect(win_rate.low).toBeCloseTo(ends[0], 8);
    expect(win_rate.high).toBeCloseTo(ends[1], 8);
  });

  it("are no more than the outcomes say where length or worth cannot be told", () => {
    const won = Array.from({ length: 5 }, (_, i) => ({ outcome: 1, length: i, otherLength: 2 }));
    expect(winRates(won)).toMatchObject({ length_controlled: null, length_effect: null, wins: 5 });
    const alike = [1, 1, 0, 1].map((outcome) => ({ outcome, length: 7, otherLength: 3 }));
    const { length_controlled, length_effect } = winRates(alike, bare);
    expect(length_controlled?.value).toBeCloseTo(0.75, 8);
    expect(length_effect).toBeNull();
    expect(() => winRates([])).toThrow("no comparisons");
  });

  /** A judge that takes the better answer with the chance of `fair`, and likes length by `phi` besides. */
  function simulated(n: number, fair: number, phi: number, longer: number, seed: number): PairedOutcome[] {
    const theta = Math.log(fair / (1 - fair));
    const differences = Array.from({ length: n }, (_, i) => Math.round(200 * normal(seed, i) + longer));
    const mean = differences.reduce((sum, d) => sum + d, 0) / n;
    const deviation = Math.sqrt(differences.reduce((sum, d) => sum + (d - mean) ** 2, 0) / n);
    return differences.map((d, i) => ({
      outcome: Number(uniform(seed, i, 1) < 1 / (1 + Math.exp(-theta - phi * Math.tanh(d / deviation)))),
      length: 1000 + d,
      otherLength: 1000,
    }));
  }

  it.each([
    ["long", 0.5, 2, 200],
    ["long", 0.35, 1.5, 300],
    ["short", 0.6, -2, 200],
  ])(
    "find beneath a judge's liking for %s answers the rate %f that a fair judge would give",
    (_, fair, phi, longer) => {
      const { win_rate, length_controlled, length_effect } = winRates(simulated(3000, fair, phi, longer, 3), {
        resamples: 60,
      });
      expect(Math.abs(win_rate.value - fair)).toBeGreaterThan(0.15);
      expect(win_rate.low! > fair || win_rate.high! < fair).toBe(true);
      expect(Math.abs(length_controlled!.value - fair)).toBeLessThan(0.05);
      expect(length_controlled!.low).toBeLessThan(fair);
      expect(length_controlled!.high).toBeGreaterThan(fair);
      expect(length_effect! / phi).toBeCloseTo(1, 0);
    },
  );

  it("have bootstrap intervals that hold the fair rate about as often as they say, and the same for the same seed", () => {
    let held = 0;
    for (let seed = 0; seed < 20; seed++) {
      const { low, high } = winRates(simulated(150, 0.6, 1.5, 200, seed), { resamples: 100, seed }).length_controlled!;
      if (low! <= 0.6 && 0.6 <= high!) held++;
    }
    expect(held).toBeGreaterThanOrEqual(17);
    const one = simulated(50, 0.5, 1, 100, 1);
    expect(winRates(one, { resamples: 50, seed: 4 })).toEqual(winRates(one, { resamples: 50, seed: 4 }));
  });
});

describe("a judge", () => {
  it("agrees with labels beyond chance: Cohen's kappa, whatever the order of the answers", () => {
    expect(judgeKappa([1, 1, 1, 1])).toBe(1);
    expect(judgeKappa([1, 0, 1, 0])).toBe(0);
    expect(judgeKappa([1, 1, 1, 0])).toBeCloseTo(0.5, 12); // (0.75 - 0.5) / (1 - 0.5)
    expect(judgeKappa([1, 1, 0.5, 0])).toBeCloseTo((0.5 - 0.375) / (1 - 0.375), 12); // ties are never by chance right
  });

  it("has its liking for places counted", () => {
    const verdicts = [
      { forth: "A", back: "B" }, // the first answer both times
      { forth: "A", back: "A" },
      { forth: "A", back: "A" },
      { forth: "B", back: "B" },
      { forth: "tie", back: "tie" },
      { forth: "tie", back: "A" },
    ] as const;
    expect(positionBias([...verdicts, null])).toEqual({
      pairs: 6,
      consistent: 2 / 6,
      first_preferred: 6 / 9,
      always_first: 2,
      always_second: 1,
    });
    expect(positionBias([null])).toMatchObject({ pairs: 0, consistent: null, first_preferred: null });
  });
});
