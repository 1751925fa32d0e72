import { describe, expect, it } from "vitest";
import type { LessonEvent } from "../../../demo/src/lib/lesson/types.ts";
import { changes } from "../../../demo/src/lib/lesson/work.ts";
import { accuracyOf, bars, curve, pointsOf, seenMethods, verdictOf } from "../../../demo/src/playground/curves.ts";

const look = (stage: string, step: number, values: Record<string, number>): LessonEvent => ({
  type: "measured",
  stage,
  step,
  values: { tokens: 100 * step, kl: step, mean_length: 15, prompts: 128, ...values },
});
const unmoved = { gold_change: 0, gold_change_se: 0, reward_change: 0, reward_change_se: 0 };
const start = (values = {}) =>
  look("start", 0, { reward: 1, reward_std: 2, gold: 3, gold_std: 0.5, ...unmoved, ...values });
const later = look("ppo", 4, { gold_change: 0.5, gold_change_se: 0.1, reward_change: 4, reward_change_se: 0.5 });

describe("a run's curves", () => {
  it("count both rewards in standard deviations of the start", () => {
    const points = pointsOf([start(), later], "ppo");
    expect(points).toEqual([
      { step: 0, tokens: 0, kl: 0, length: 15, judge: 0, judge_se: 0, truth: 0, truth_se: 0 },
      { step: 4, tokens: 400, kl: 4, length: 15, judge: 2, judge_se: 0.25, truth: 1, truth_se: 0.2 },
    ]);
    expect(curve(points, "distance", "truth")).toEqual([
      [0, 0],
      [2, 1],
    ]);
    expect(curve(points, "tokens", "kl").at(-1)).toEqual([400, 4]);
    expect(bars(points, "step", "truth").at(-1)).toEqual([4, 0.6, 1.4]);
    expect(pointsOf([later], "ppo")).toEqual([]);
    expect(pointsOf([start(), later], "raft")).toHaveLength(1);
    expect(seenMethods([start(), later])).toEqual(["ppo"]);
  });

  it("tell of equal answers only that nothing moved", () => {
    const equal = start({ reward: 0.1, reward_std: 1e-9, gold: 0, gold_std: 0 });
    const at = (gold: number, reward: number) =>
      pointsOf([equal, look("ppo", 1, { ...unmoved, gold_change: gold, reward_change: reward })], "ppo")[1];
    expect(at(0, 1e-9)).toMatchObject({ truth: 0, judge: 0 });
    expect(at(0.5, 0).truth).toBeNaN();
    expect(verdictOf(at(0.5, 0).truth, 0)).toBe("unknown");
  });

  it("know the judge's accuracy when it was tested", () => {
    const evaluated = (stage: string): LessonEvent => ({
      type: "train",
      stage,
      event: { type: "eval", step: 8, metrics: { eval_accuracy: 0.75 } },
    });
    expect(accuracyOf([evaluated("judge")])).toBe(0.75);
    expect(accuracyOf([evaluated("dpo")])).toBeNull();
  });
});

describe("the change on the same prompts", () => {
  const samples = (gold: number[], reward: number[]) =>
    gold.map((own, i) => ({ prompt: "", response: "", gold: own, reward: reward[i] }));

  it("has the error of the differences, not of the values", () => {
    const before = samples([0, 10, 20, 30], [5, 5, 5, 5]);
    const found = changes(before, samples([1, 12, 21, 32], [5, 5, 5, 7]));
    expect(found.gold_change).toBe(1.5);
    expect(found.gold_change_se).toBeCloseTo(Math.sqrt(1 / 3) / 2, 12); // differences 1, 2, 1, 2
    expect(found.reward_change).toBe(0.5);
    expect(changes(before, before)).toMatchObject({ gold_change: 0, gold_change_se: 0 });
    // A single prompt tells nothing.
    const one = changes(samples([0], [0]), samples([5], [5]));
    expect(verdictOf(one.gold_change, one.gold_change_se)).toBe("unknown");
  });

  it("is told from nothing by more than two standard errors", () => {
    expect(verdictOf(1, 0.4)).toBe("up");
    expect(verdictOf(-1, 0.4)).toBe("down");
    expect(verdictOf(1, 0.5)).toBe("unknown");
    expect(verdictOf(-1, 0.5)).toBe("unknown");
    expect(verdictOf(0, 0)).toBe("unknown");
    expect(verdictOf(Number.NaN, 0)).toBe("unknown");
    expect(verdictOf(1, Number.POSITIVE_INFINITY)).toBe("unknown");
  });
});
