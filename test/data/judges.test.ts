/** The built-in judges whose preferences are known: one without an order, one with two standards. */
import { describe, expect, it } from "vitest";
import {
  bayesAccuracy,
  CYCLE,
  cycleCeilings,
  cycleChance,
  cyclePreferences,
  DOMAIN_ATTRIBUTES,
  DOMAIN_WEIGHTS,
  domainOf,
  domainPreferences,
  domainRatings,
  qualities,
} from "webrlhf/data";

describe("builtin:cycle", () => {
  const pairs = cyclePreferences(2000, 1);

  it("is a function of the seed, and of the split", () => {
    expect(cyclePreferences(5, 1)).toEqual(pairs.slice(0, 5));
    expect(cyclePreferences(5, 2)).not.toEqual(pairs.slice(0, 5));
    const test = new Set(cyclePreferences(200, 1, "test").map(({ prompt }) => prompt));
    expect(pairs.some(({ prompt }) => test.has(prompt))).toBe(false);
    expect(pairs.every(({ chosen, rejected }) => chosen !== rejected)).toBe(true);
  });

  it("has no order: every move beats one and loses to one", () => {
    const [a, b, c] = CYCLE.map((move) => ` Tim ${move} to the park.`);
    for (const [x, y] of [
      [a, b],
      [b, c],
      [c, a],
    ]) {
      expect(cycleChance(x, y)).toBeGreaterThan(0.9);
      expect(cycleChance(x, y) + cycleChance(y, x)).toBeCloseTo(1, 12);
    }
    expect(cycleChance(a, a)).toBe(0.5);
    expect(cycleChance(" Tim ran to the park.", " Tim ran to the shop.")).toBeCloseTo(1 / (1 + Math.exp(-1.5)), 12);
  });

  it("is judged as often against the odds as they say", () => {
    const right = pairs.filter(({ chosen, rejected }) => cycleChance(chosen, rejected) > 0.5).length;
    const ties = pairs.filter(({ chosen, rejected }) => cycleChance(chosen, rejected) === 0.5).length;
    expect(Math.abs((right + ties / 2) / pairs.length - bayesAccuracy(pairs))).toBeLessThan(0.03);
  });

  it("knows what an order and what a judge can reach", () => {
    const { order, judge } = cycleCeilings();
    expect(Math.abs(judge - bayesAccuracy(pairs))).toBeLessThan(0.02);
    expect(order).toBeGreaterThan(0.5);
    expect(order).toBeLessThan(judge - 0.1);
  });
});

describe("builtin:domains", () => {
  it("judges by the weights of the prompt's domain", () => {
    const pairs = domainPreferences(2000, 3);
    expect(domainPreferences(3, 3)).toEqual(pairs.slice(0, 3));
    for (const domain of ["fun", "care"] as const) {
      const own = pairs.filter((pair) => pair.domain === domain);
      expect(own.length).toBeGreaterThan(800);
      expect(own.every(({ prompt }) => domainOf(prompt) === domain)).toBe(true);
      const weights = DOMAIN_ATTRIBUTES.map((name) => DOMAIN_WEIGHTS[domain][name]);
      const worth = (story: string) => qualities(story).reduce((sum, x, k) => sum + weights[k] * x, 0);
      const decided = own.filter(({ chosen, rejected }) => Math.abs(worth(chosen) - worth(rejected)) > 0.5);
      const right = decided.filter(({ chosen, rejected }) => worth(chosen) > worth(rejected));
      expect(right.length / decided.length).toBeGreaterThan(0.95);
    }
  });

  it("rates with gaps, noise and a liking for length", () => {
    const rated = domainRatings(1000, 3);
    expect(domainRatings(2, 3)).toEqual(rated.slice(0, 2));
    const missing = rated.flatMap(({ ratings }) => ratings.filter(Number.isNaN)).length / (3 * rated.length);
    expect(Math.abs(missing - 0.3)).toBeLessThan(0.03);
    const errors = rated.flatMap(({ completion, ratings }) => {
      const [merry, , long] = qualities(completion);
      return Number.isNaN(ratings[0]) ? [] : [ratings[0] - merry - 0.3 * long];
    });
    const mean = errors.reduce((a, b) => a + b, 0) / errors.length;
    expect(Math.abs(mean)).toBeLessThan(0.02);
  });
});
