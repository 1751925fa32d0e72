/** PPO's dialects and losses with gradients against independent float64 computations (test/fixtures/README.md). */

import { beforeAll, describe, expect, it } from "vitest";
import { add, scale, tensor } from "webrlhf";
import {
  entropyLoss,
  freshNormalizer,
  gaeExperience,
  type KlEstimator,
  klLoss,
  klTerm,
  normalize,
  policyLoss,
  ppo,
  type Response,
  shapeRewards,
  tokenWeights,
  updateRunning,
  valueLoss,
  whiten,
} from "webrlhf/rlhf";
import { differentiate } from "../../differentiate.ts";
import { type FixtureArray, numbers } from "../../fixture.ts";
import fixtures from "../../fixtures/ppo.json" with { type: "json" };
import { expectClose, gpuReady } from "../../helpers.ts";

beforeAll(gpuReady);

const rows = (list: FixtureArray[]): number[][] => list.map((a) => numbers(a));
const flat = (list: FixtureArray[]): number[] => rows(list).flat();
const close = (found: ArrayLike<number>[], want: FixtureArray[], label: string) => {
  expect(found.map((a) => a.length)).toEqual(want.map((a) => a.shape[0]));
  expectClose(
    found.flatMap((a) => Array.from(a)),
    flat(want),
    1e-7,
    1e-8,
    label,
  );
};

describe.each(fixtures.rollouts.map((c) => [c.name, c] as const))("a rollout, %s", (_, c) => {
  const { klCoef, clip, gamma, lambda } = c.options;
  const [own, other] = [rows(c.logProbs), rows(c.refLogProbs)];
  const limit = c.limit ?? Number.POSITIVE_INFINITY;
  const kl = own.map((row, i) => row.map((p, t) => klTerm(p - other[i][t], c.estimator as KlEstimator, limit)));
  const responses = own.map(() => ({}) as Response);
  const logProbs = own.map((row) => Float32Array.from(row));
  const scores = numbers(c.scores);

  const normalized = () => {
    let state = updateRunning(freshNormalizer(), numbers(c.earlierScores));
    state = updateRunning(state, scores);
    return scores.map((s) => normalize(state, s));
  };

  it("normalises scores by running statistics", () => {
    expectClose(normalized(), numbers(c.normalized), 1e-7, 1e-9);
  });

  it.each([
    ["paddle", "paddle", false],
    ["safe", "safe", false],
    ["paddle-late", "paddle-late", false],
    ["trl", "trl", false],
    ["trl, rewards whitened", "trl", true],
  ] as const)("%s", (key, dialect, whitenRewards) => {
    const o = ppo({ dialect, gamma, lam: lambda });
    const expected = c.expected[key];
    const judged = o.normalizeReward ? normalized() : scores;
    const clipRange = o.clipRangeScore === null ? Number.POSITIVE_INFINITY : clip;
    const shaped = kl.map((terms, i) => {
      const slot = o.scoreSlot === "after" && terms.length < c.width ? "after" : "last";
      return shapeRewards(terms, judged[i], { klCoef, clipRange, clipWhat: o.clipTarget, slot });
    });
    const rewards = whitenRewards ? whiten(shaped, { unbiased: true, keepMean: true }) : shaped;
    close(rewards, expected.rewards, "rewards");
    const values = rows(c.values).map((v, i) => Float32Array.from(v.slice(0, rewards[i].length)));
    const { experience } = gaeExperience({ responses, logProbs, refLogProbs: logProbs, rewards }, values, o);
    close(
      experience.map((e) => e.advantages),
      expected.advantages,
      "advantages",
    );
    close(
      experience.map((e) => e.returns),
      expected.returns,
      "returns",
    );
  });
});

describe.each(fixtures.losses.map((c) => [c.name, c] as const))("losses, %s", (_, c) => {
  const constant = (list: FixtureArray[]) => tensor(flat(list));
  describe.each(["token", "sequence"] as const)("mean over each %s", (average) => {
    it.each(c.variants.map((v) => [v.name, v] as const))("policy, %s", async (_, v) => {
      const variant = v as typeof v & { [option: string]: number };
      const found = await differentiate([flat(c.newLogProbs), flat(c.entropy)], ([logProbs, entropy]) => {
        const weights = tensor(tokenWeights(c.lengths, average));
        const inputs = { oldLogProbs: constant(c.logProbs), advantages: constant(c.advantages), weights };
        let loss = policyLoss(logProbs, inputs, variant);
        if (variant.klCoef) {
          const inputs = { refLogProbs: constant(c.refLogProbs), weights };
          const estimator = variant.klEstimator as unknown as KlEstimator;
          loss = add(loss, scale(klLoss(logProbs, inputs, estimator, variant.klClamp), variant.klCoef));
        }
        // Zero times the entropy where there is no bonus, so that its gradient is looked at, too.
        return add(loss, scale(entropyLoss(entropy, weights), variant.entropyCoef ?? 0));
      });
      expectClose(found[0], [v[average].loss], 2e-6, 1e-7, "loss");
      expectClose(found[1], flat(v[average].grad), 5e-6, 1e-7, "gradient");
      expectClose(found[2], flat(v[average].entropyGrad), 5e-6, 1e-8, "gradient of the entropy");
    });

    it("value", async () => {
      const found = await differentiate([flat(c.newValues)], ([values]) => {
        const weights = tensor(tokenWeights(c.lengths, average));
        const inputs = { oldValues: constant(c.values), returns: constant(c.returns), weights };
        return valueLoss(values, inputs, c.clipValue);
      });
      expectClose(found[0], [c.critic[average].loss], 2e-6, 1e-7, "loss");
      expectClose(found[1], flat(c.critic[average].grad), 5e-6, 1e-7, "gradient");
    });
  });
});
