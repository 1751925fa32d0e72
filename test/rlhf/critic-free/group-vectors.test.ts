/** Group advantages and ratio losses with gradients against independent float64 computations (test/fixtures/README.md). */

import { beforeAll, describe, expect, it } from "vitest";
import { scope, tensor } from "webrlhf";
import {
  averagingWeights,
  groupAdvantages,
  type LossAveraging,
  leaveOneOut,
  normalizeThenSum,
  overlongPenalty,
  type RatioLossOptions,
  type Response,
  ratioLoss,
  shapeRewards,
  standardize,
  withoutSpread,
} from "webrlhf/rlhf";
import { reinforceAdvantages } from "../../../src/rlhf/reinforce.ts";
import { differentiate } from "../../differentiate.ts";
import { type FixtureArray, numbers } from "../../fixture.ts";
import fixtures from "../../fixtures/group.json" with { type: "json" };
import { expectClose, gpuReady } from "../../helpers.ts";

beforeAll(gpuReady);

describe.each(fixtures.advantages.map((c) => [c.name, c] as const))("advantages, %s", (_, c) => {
  const { samples: group, weights } = c;
  const rewards = c.rewards.map((r) => numbers(r));
  const total = rewards[0].map((_, i) => rewards.reduce((sum, own, k) => sum + weights[k] * own[i], 0));
  const close = (found: number[], want: FixtureArray) => expectClose(found, numbers(want), 1e-8, 1e-9);

  it.each(["group", "batch", "none"] as const)("scaled by %s", (scale) => {
    close(groupAdvantages(total, group, scale), c[scale]);
  });
  it("several rewards, normalised before they are added", () => {
    close(normalizeThenSum(rewards, weights, group), c.normalizeThenSum);
  });
  it("with the others as baseline", () => {
    close(leaveOneOut(total, group), c.leaveOneOut);
    close(standardize(leaveOneOut(total, group)), c.standardized);
  });
  it("finds groups without spread", () => {
    expect(withoutSpread(total, group)).toEqual(c.withoutSpread);
  });
});

describe("advantages", () => {
  it("refuse what is no whole group, and a group of one where the others are the baseline", () => {
    expect(() => groupAdvantages([1, 2, 3], 2, "group")).toThrow(/no whole groups of 2/);
    expect(() => leaveOneOut([1, 2], 1)).toThrow(/at least two/);
  });

  it.each(fixtures.reinforce.map((c) => [c.name, c] as const))("of REINFORCE++, %s", (_, c) => {
    const rewards = c.logProbs.map((own, i) => {
      const other = numbers(c.refLogProbs[i]);
      const kl = numbers(own).map((p, t) => p - other[t]);
      return shapeRewards(kl, c.scores[i], { klCoef: c.beta, clipRange: Number.POSITIVE_INFINITY, clipWhat: "score" });
    });
    const found = reinforceAdvantages(rewards, c.gamma);
    expectClose(
      found.flatMap((a) => [...a]),
      numbers(c.advantages),
      1e-8,
      1e-9,
    );
  });
});

it("penalises responses that come near the longest length", async () => {
  for (const { length, longest, buffer, factor, penalty } of fixtures.overlong) {
    const response = { ids: new Uint32Array(length + 5), promptLength: 5 } as Response;
    expectClose(Array.from(await overlongPenalty(longest, buffer, factor)([response])), [penalty], 1e-8, 1e-9);
  }
});

describe("losses of a step of two micro-batches, with an empty and a one-token response", () => {
  const { losses } = fixtures;
  const [rows, slots] = losses.mask.shape;
  const mask = numbers(losses.mask);
  const slotsOf = (row: number) =>
    Array.from({ length: slots }, (_, t) => row * slots + t).filter((i) => mask[i] === 1);
  const pick = (a: FixtureArray, part: readonly number[]): number[] => {
    const all = numbers(a);
    return part.flatMap((row) => slotsOf(row).map((i) => all[i]));
  };
  const lengths = losses.parts.map((part) => part.map((row) => slotsOf(row).length));
  expect(rows).toBe(losses.parts.flat().length);

  it.each(losses.cases.map((c) => [c.name, c] as const))("%s", async (_, c) => {
    const { rolloutTokens, windows, maxLength } = losses;
    const weights = averagingWeights(lengths, c.averaging as LossAveraging, { rolloutTokens, windows, maxLength });
    let loss = 0;
    for (const [p, part] of losses.parts.entries()) {
      const host = (a: FixtureArray) => Float32Array.from(pick(a, part));
      const inputs = {
        oldLogProbs: host(losses.oldLogProbs),
        refLogProbs: host(losses.refLogProbs),
        advantages: host(losses.advantages),
        weights: weights[p],
        lengths: lengths[p],
      };
      const [[found], gradient] = await differentiate([pick(losses.logProbs, part)], ([x]) =>
        ratioLoss(x, inputs, c.options as RatioLossOptions),
      );
      loss += found;
      expectClose(gradient, pick(c.gradient, part), 5e-6, 1e-7, `gradient of part ${p}`);
    }
    expectClose([loss], [c.loss], 5e-6, 1e-7, "loss");
  });

  it("need the reference where there is a KL term", () => {
    const inputs = { oldLogProbs: new Float32Array(1), advantages: new Float32Array(1), weights: new Float32Array(1) };
    const options = { ...losses.cases[0].options, beta: 0.1 } as RatioLossOptions;
    expect(() => scope(() => ratioLoss(tensor([0]), { ...inputs, lengths: [1] }, options))).toThrow(/reference/);
  });
});
