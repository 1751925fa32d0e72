/** Losses of reward and cost models against independent float64 computations (test/fixtures/generators/reward.py). */
import { beforeAll, describe, expect, it } from "vitest";
import { range, type Tensor, tensor } from "webrlhf";
import { costLoss, freshNormalizer, type MergeRule, normalize, odinLoss, pairLoss, updateRunning } from "webrlhf/rlhf";
import { correlation } from "../../../src/rlhf/losses/pair.ts";
import { overSpans, spanOf } from "../../../src/rlhf/pairs.ts";
import { ScoreStatistics } from "../../../src/rlhf/reward/normalizer.ts";
import { pearson } from "../../../src/rlhf/scores.ts";
import { differentiate } from "../../differentiate.ts";
import { type FixtureArray, numbers } from "../../fixture.ts";
import fixtures from "../../fixtures/reward.json" with { type: "json" };
import vectors from "../../fixtures/vectors.json" with { type: "json" };
import { expectClose, gpuReady } from "../../helpers.ts";

beforeAll(gpuReady);

interface Expected {
  loss: number;
  chosenGrad: FixtureArray;
  rejectedGrad: FixtureArray;
}

async function check(c: { chosen: FixtureArray; rejected: FixtureArray }, f: (x: Tensor[]) => Tensor, want: Expected) {
  const [loss, chosen, rejected] = await differentiate([c.chosen, c.rejected], f);
  expectClose(loss, [want.loss], 2e-6, 0, "loss");
  expectClose(chosen, numbers(want.chosenGrad), 5e-6, 1e-7, "gradient of the chosen scores");
  expectClose(rejected, numbers(want.rejectedGrad), 5e-6, 1e-7, "gradient of the rejected scores");
}

describe("token-wise loss", () => {
  it.each(fixtures.tokenWise.map((c) => [c.spans.join(", "), c] as const))("of spans of %s tokens", async (_, c) => {
    let at = 0;
    const spans = c.spans.map((n) => {
      at += n;
      return { first: at - n, end: at };
    });
    const margins = numbers(c.margins);
    const { regularization } = c;
    const loss = (options: object, withMargins: boolean) => {
      return ([w, r]: Tensor[]) => {
        const weights = tensor(overSpans(spans, (_, n) => 1 / (n * spans.length)));
        return pairLoss(w, r, options, {
          weights,
          margins: withMargins ? tensor(overSpans(spans, (i) => margins[i])) : null,
        });
      };
    };
    await check(c, loss({}, false), c.plain);
    await check(c, loss({}, true), c.withMargins);
    await check(c, loss({ regularization, regularizationOver: "sum" }, false), c.sum);
    await check(c, loss({ regularization, regularizationOver: "mean" }, false), c.mean);
  });

  it("compares from the first token that differs to the end of the longer answer", async () => {
    for (const c of vectors.tokenWiseReward) {
      const width = c.chosenIds[0].length;
      const spans = c.chosenIds.map((ids, i) => {
        const cut = (all: number[], end: number) => Uint32Array.from(all.slice(0, end + 1));
        return spanOf({ chosen: cut(ids, c.chosenEnd[i]), rejected: cut(c.rejectedIds[i], c.rejectedEnd[i]) });
      });
      const places = spans.flatMap(({ first, end }, i) =>
        Array.from({ length: end - first }, (_, t) => i * width + first + t),
      );
      const at = (a: FixtureArray) => ({ shape: [places.length], data: places.map((p) => numbers(a)[p]) });
      const weights = (): Tensor => tensor(overSpans(spans, (_, n) => 1 / (n * spans.length)));
      const want = { loss: c.loss, chosenGrad: at(c.chosenGrad), rejectedGrad: at(c.rejectedGrad) };
      await check(
        { chosen: at(c.chosen), rejected: at(c.rejected) },
        ([w, r]) => pairLoss(w, r, {}, { weights: weights() }),
        want,
      );
    }
    expect(() => spanOf({ chosen: Uint32Array.of(1, 2), rejected: Uint32Array.of(1, 2) })).toThrow(/same tokens/);
    expect(spanOf({ chosen: Uint32Array.of(1, 2), rejected: Uint32Array.of(1, 2, 3) })).toEqual({ first: 2, end: 3 });
  });
});

describe("ODIN", () => {
  it.each(fixtures.odin.map((c) => [c.lengths.length / 2, c] as const))("%d pairs", async (_, c) => {
    for (const ranking of ["pair", "micro-batch"] as const) {
      const [loss, heads] = await differentiate([c.heads], ([x]) =>
        odinLoss(x, c.lengths, { lengthCoef: c.lengthCoef, ranking }),
      );
      expectClose(loss, [c[ranking].loss], 2e-6, 0, `${ranking}: loss`);
      expectClose(heads, numbers(c[ranking].headsGrad), 1e-5, 1e-6, `${ranking}: gradient`);
    }
    const all = numbers(c.heads);
    const head = (k: number) => all.filter((_, i) => i % 2 === k);
    expectClose([pearson(c.lengths, head(0)), pearson(c.lengths, head(1))], c.correlations, 1e-7, 0, "correlations");
  });

  it("gives no correlation, and no gradient, where the lengths do not differ", async () => {
    const x = { shape: [3], data: [1, 2, 4] };
    const [value, gradient] = await differentiate([x], ([t]) => correlation([5, 5, 5], t));
    expect([...value, ...gradient]).toEqual([0, 0, 0, 0]);
    expect(pearson([5, 5, 5], [1, 2, 4])).toBe(0);
  });
});

describe("cost loss", () => {
  it.each(fixtures.cost.map((c) => [c.safety.length, c] as const))("%d pairs", async (_, c) => {
    const safety = c.safety.map(([chosen, rejected]) => ({ chosen, rejected }));
    const { regularization } = c;
    await check(c, ([a, b]) => costLoss(a, b, safety), c.plain);
    await check(c, ([a, b]) => costLoss(a, b, safety, { regularization, regularizationOver: "mean" }), c.mean);
  });
});

describe.each(fixtures.normalised.map((c) => [c.kind, c] as const))("normalised scores, %s", (_, c) => {
  const rule = { kind: c.kind, momentum: c.momentum } as MergeRule;

  it.each(["reward", "cost"] as const)("of a %s model", async (type) => {
    const statistics = new ScoreStatistics(rule, type, freshNormalizer());
    let onHost = freshNormalizer();
    for (const step of c.steps) {
      const n = step.chosen.shape[0];
      const both = { shape: [2 * n], data: [...numbers(step.chosen), ...numbers(step.rejected)] };
      const [loss, gradient] = await differentiate([both], ([x]) => {
        statistics.update(x);
        const scores = statistics.apply(x);
        const options = { regularization: c.regularization, regularizationOver: "mean" } as const;
        return pairLoss(range(scores, 0, n), range(scores, n, n), options);
      });
      const want = step[type];
      expectClose(loss, [want.loss], 5e-6, 0, "loss");
      expectClose(gradient, [...numbers(want.chosenGrad), ...numbers(want.rejectedGrad)], 1e-5, 1e-7, "gradient");
      const state = [...(await statistics.mean.read()), ...(await statistics.variance.read()), statistics.count];
      expectClose(state, [step.mean, step.var, step.count], 1e-6, 0, "statistics");
      onHost = updateRunning(onHost, both.data, rule);
      expectClose([onHost.mean, onHost.variance, onHost.count], [step.mean, step.var, step.count], 1e-8, 0, "host");
    }
    statistics.destroy();
  });
});

describe("normalizers", () => {
  it.each(vectors.normalizers.map((c) => [c.kind, c] as const))("%s: the published sequence", (_, c) => {
    let state = freshNormalizer();
    for (const step of c.steps) {
      const batch = numbers(step.batch);
      state = updateRunning(state, batch, { kind: c.kind, momentum: c.momentum ?? undefined } as MergeRule);
      expectClose([state.mean, state.variance, state.count], [step.mean, step.var, step.count], 1e-8, 0);
      for (const [type, want] of [
        ["reward", step.affine],
        ["cost", step.scale],
        ["critic", step.identity],
      ] as const) {
        expectClose(
          batch.map((x) => normalize(state, x, type)),
          numbers(want),
          1e-8,
          0,
        );
      }
    }
  });

  it("refuses a batch of one, which has no variance", () => {
    expect(() => updateRunning(freshNormalizer(), [1])).toThrow(/batches of at least 2 scores, not 1/);
  });
});
