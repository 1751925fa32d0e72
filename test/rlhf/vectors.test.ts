/** Rewards, advantages, losses and their gradients against independent float64 computations (test/fixtures/README.md). */
import { beforeAll, describe, expect, it } from "vitest";
import { type Tensor, tensor } from "webrlhf";
import {
  adaptKlCoef,
  bestOfKl,
  freshNormalizer,
  gae,
  type KlEstimator,
  klTerm,
  moments,
  normalize,
  pairLoss,
  policyLoss,
  shapeRewards,
  tokenWeights,
  updateRunning,
  valueLoss,
  whiten,
} from "webrlhf/rlhf";
import { differentiate as lossAndGradients } from "../differentiate.ts";
import { type FixtureArray, numbers } from "../fixture.ts";
import fixtures from "../fixtures/vectors.json" with { type: "json" };
import { expectClose, gpuReady } from "../helpers.ts";

beforeAll(gpuReady);

type PpoCase = (typeof fixtures.ppo)[number];

/** A padded [rows, slots] array as one array per row, response tokens only. */
function unpad(a: FixtureArray, { inputs }: PpoCase, from = inputs.start): number[][] {
  const [rows, slots] = inputs.mask.shape;
  const mask = numbers(inputs.mask);
  const all = numbers(a);
  const width = a.shape[1]; // losses and gradients hold only the slots from `start`
  return Array.from({ length: rows }, (_, r) => {
    const live = Array.from({ length: slots }, (_, t) => t).filter(
      (t) => t >= inputs.start && mask[r * slots + t] === 1,
    );
    return live.map((t) => all[r * width + t - inputs.start + from]);
  });
}

const close = (found: ArrayLike<number>[], expected: number[][], label: string) =>
  expectClose(
    found.flatMap((a) => Array.from(a)),
    expected.flat(),
    1e-8,
    1e-9,
    label,
  );

describe.each(fixtures.ppo.map((c) => [c.name, c] as const))("PPO, %s", (_, reference) => {
  const { inputs } = reference;
  const [logProbs, refLogProbs, values] = [inputs.logProbs, inputs.refLogProbs, inputs.values].map((a) =>
    unpad(a, reference),
  );
  const scores = numbers(inputs.scores);

  describe.each(["paddle", "safe"] as const)("%s dialect", (dialect) => {
    const expected = reference.expected[dialect];
    const advantages = unpad(expected.advantages, reference);
    const returns = unpad(expected.returns, reference);

    it("shapes rewards", () => {
      const clipWhat = dialect === "paddle" ? "score" : "reward";
      const found = scores.map((score, r) => {
        const kl = logProbs[r].map((p, t) => klTerm(p - refLogProbs[r][t], "k1"));
        return shapeRewards(kl, score, { klCoef: inputs.klCoeff, clipRange: inputs.clipScore, clipWhat });
      });
      close(found, unpad(expected.rewards, reference), "rewards");
    });

    it("estimates advantages and returns", () => {
      const rewards = unpad(expected.rewards, reference);
      const found = rewards.map((r, i) => gae(r, values[i], { gamma: inputs.gamma, lambda: inputs.lambda }));
      close(
        found.map((f) => f.advantages),
        advantages,
        "advantages",
      );
      close(
        found.map((f) => f.returns),
        returns,
        "returns",
      );
    });

    it.each([
      ["population", {}],
      ["unbiased", { unbiased: true }],
      ["unbiasedKeepMean", { unbiased: true, keepMean: true }],
    ] as const)("whitens, %s variance", (kind, options) => {
      const want = expected.whitened[kind];
      const { mean, variance } = moments(advantages, kind !== "population");
      expectClose([mean], [want.mean], 1e-8, 0, "mean");
      expectClose([variance], [want.var], 1e-8, 0, "variance");
      close(whiten(advantages, options), unpad(want.values, reference), "whitened");
    });

    it.each(["token", "sequence"] as const)("losses and gradients, mean over %s", async (average) => {
      const want = expected.losses[average];
      const lengths = logProbs.map((r) => r.length);
      const [loss, gradient] = await differentiate(unpad(inputs.newLogProbs, reference), (x, weights) =>
        policyLoss(
          x,
          { oldLogProbs: flat(logProbs), advantages: flat(advantages), weights },
          { clipRange: inputs.clipRatio },
        ),
      );
      expectClose(loss, [want.actorLoss], 2e-6, 0, "actor loss");
      expectClose(gradient, unpad(want.actorGrad, reference, 0).flat(), 5e-6, 1e-7, "actor gradient");

      const [criticLoss, criticGradient] = await differentiate(unpad(inputs.newValues, reference), (x, weights) =>
        valueLoss(x, { oldValues: flat(values), returns: flat(returns), weights }, inputs.clipValue),
      );
      expectClose(criticLoss, [want.criticLoss], 2e-6, 0, "critic loss");
      expectClose(criticGradient, unpad(want.criticGrad, reference, 0).flat(), 5e-6, 1e-7, "critic gradient");

      function differentiate(at: number[][], loss: (x: Tensor, weights: Tensor) => Tensor) {
        return lossAndGradients([at.flat()], ([x]) => loss(x, tensor(tokenWeights(lengths, average)))) as Promise<
          [Float32Array, Float32Array]
        >;
      }
    });
  });
});

const flat = (rows: number[][]): Tensor => tensor(rows.flat());

describe.each(fixtures.reward.map((c) => [c.name, c] as const))("reward model loss, %s", (_, reference) => {
  const inputs = [numbers(reference.chosen), numbers(reference.rejected)];
  const { paddle, safe } = reference.regularized;
  const { regularization } = reference;
  it.each([
    ["plain", {}, reference],
    ["regularised, summed over both answers", { regularization, regularizationOver: "sum" }, paddle],
    ["regularised, averaged over both answers", { regularization, regularizationOver: "mean" }, safe],
    ["centred", { centering: regularization }, reference.centered],
    ["with margins", {}, reference.withMargin],
  ] as const)("%s", async (_, options, want) => {
    const margins = want === reference.withMargin ? tensor(numbers(reference.margin)) : null;
    const [loss, chosen, rejected] = await lossAndGradients(inputs, ([c, r]) => pairLoss(c, r, options, { margins }));
    expectClose(loss, [want.loss], 2e-6, 0, "loss");
    expectClose(chosen, numbers(want.chosenGrad), 5e-6, 1e-8, "gradient of the chosen scores");
    expectClose(rejected, numbers(want.rejectedGrad), 5e-6, 1e-8, "gradient of the rejected scores");
  });
});

describe("statistics", () => {
  it("KL estimators", () => {
    for (const reference of fixtures.kl) {
      for (const kind of ["k1", "k2", "k3"] as KlEstimator[]) {
        const found = numbers(reference.difference).map((d) => klTerm(d, kind));
        expectClose(found, numbers(reference[kind]), 1e-8, 1e-9, kind);
      }
    }
  });

  it("adaptive KL coefficient", () => {
    for (const c of fixtures.adaptiveKl) {
      expect(adaptKlCoef(c.coef, c.kl, c.target, c.steps, c.horizon)).toBeCloseTo(c.next, 9);
    }
  });

  it("KL bound of best-of-n", () => {
    expect(bestOfKl(1)).toBe(0);
    expect(bestOfKl(8)).toBeCloseTo(Math.log(8) - 0.875, 12);
  });

  it("running normaliser of scores", () => {
    const reference = fixtures.normalizers.find((n) => n.kind === "RunningMeanStd");
    let state = freshNormalizer();
    for (const step of reference?.steps ?? []) {
      const batch = numbers(step.batch);
      state = updateRunning(state, batch);
      expectClose([state.mean, state.variance, state.count], [step.mean, step.var, step.count], 1e-8, 0);
      expectClose(
        batch.map((x) => normalize(state, x)),
        numbers(step.affine),
        1e-8,
        0,
      );
    }
  });
});
