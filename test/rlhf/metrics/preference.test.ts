/** The metrics of trainers that learn from pairs and have no reference, CPO, SimPO and ORPO, recomputed: see reference.ts. */
import { beforeAll, describe, expect, it } from "vitest";
import { openDevice } from "webrlhf";
import type { CausalLM } from "webrlhf/nn";
import { type RunOptions, type TrainEvent, trainCpo, trainOrpo } from "webrlhf/rlhf";
import { keeper } from "../../keep.ts";
import {
  examplePairs,
  type Judged,
  logProbs,
  type Measured,
  measured,
  pairMetrics,
  stepLoss,
  stepMetrics,
  tokensOf,
} from "./pairs.ts";
import { evaluated, follow, languageModel, logSigmoid, mean, microBatches, slices, sum } from "./reference.ts";

beforeAll(() => openDevice());
const keep = keeper();

const order = { seed: 5, batch: 3, accumulation: 2 };
const rate = 1e-2;
const common = {
  maxSteps: 2,
  seed: order.seed,
  perDeviceTrainBatchSize: order.batch,
  gradientAccumulationSteps: order.accumulation,
  learningRate: rate,
};
const train = examplePairs(1);
const held = examplePairs(2).slice(0, 4);

/** Follows a trainer whose loss is that of `judge` on every micro-batch. */
const followPairs = (
  policy: CausalLM,
  start: (run: RunOptions, every: object) => AsyncGenerator<TrainEvent>,
  judge: (answers: readonly Measured[]) => Judged,
) =>
  follow({
    start,
    store: policy.store,
    steps: common.maxSteps,
    rate: (step) => rate * (1 - step / common.maxSteps),
    async step(step) {
      const batches = microBatches(train, step, order);
      expect(batches.map((batch) => batch.length)).toEqual([3, 2]);
      const answers = () => Promise.all(batches.map((batch) => measured(policy, batch)));
      const now = await answers();
      return {
        metrics: stepMetrics(now.map(judge), now),
        tokens: tokensOf(train),
        loss: async () => stepLoss((await answers()).map(judge)),
      };
    },
    async evaluate() {
      const answers = await Promise.all(slices(held, order.batch).map((batch) => measured(policy, batch)));
      return evaluated(pairMetrics(answers.map(judge), answers.flat()));
    },
    undecided: ["rewards/accuracies"],
  });

/** Mean negative log-likelihood of all tokens of all chosen answers together. */
const nllOf = (answers: readonly Measured[], side: "chosen" | "withPrompt"): number =>
  -mean(answers.flatMap((pair) => logProbs(pair[side])));

describe("cpo", () => {
  const beta = 0.4;
  const cases = [
    {
      name: "sigmoid, smoothed",
      options: { lossType: "sigmoid", labelSmoothing: 0.2, cpoAlpha: 0.3 },
      average: false,
      loss: (d: number) => -0.8 * logSigmoid(beta * d) - 0.2 * logSigmoid(-beta * d),
    },
    {
      name: "hinge",
      options: { lossType: "hinge", cpoAlpha: 1.5 },
      average: false,
      loss: (d: number) => Math.max(0, 1 - beta * d),
    },
    {
      name: "ipo",
      options: { lossType: "ipo", cpoAlpha: 0.3 },
      average: true,
      loss: (d: number) => (d - 1 / (2 * beta)) ** 2,
    },
    {
      name: "SimPO",
      options: { lossType: "simpo", simpoGamma: 0.6, cpoAlpha: 0 },
      average: true,
      loss: (d: number) => -logSigmoid(beta * d - 0.6),
    },
  ] as const;

  for (const { name, options, average, loss } of cases) {
    it(`publishes what the answers say: ${name}`, async () => {
      const policy = keep(languageModel(1));
      const judge = (answers: readonly Measured[]): Judged => {
        const count = average ? mean : sum;
        const logps = answers.map(({ chosen, rejected }) => ({
          chosen: count(logProbs(chosen)),
          rejected: count(logProbs(rejected)),
        }));
        const nll = nllOf(answers, "chosen");
        return {
          loss: mean(logps.map((l) => loss(l.chosen - l.rejected))) + options.cpoAlpha * nll,
          rewards: logps.map((l) => ({ chosen: beta * l.chosen, rejected: beta * l.rejected })),
          logps,
          more: { nll_loss: nll },
        };
      };
      const settings = { ...common, ...options, beta };
      await followPairs(
        policy,
        (run, every) => trainCpo({ policy }, { train, eval: held }, { ...settings, ...every }, run),
        judge,
      );
    });
  }
});

describe("orpo", () => {
  it("publishes what the answers say", async () => {
    const policy = keep(languageModel(1));
    const beta = 0.7;
    const judge = (answers: readonly Measured[]): Judged => {
      const logps = answers.map(({ chosen, rejected }) => ({
        chosen: mean(logProbs(chosen)),
        rejected: mean(logProbs(rejected)),
      }));
      const odds = (l: number) => l - Math.log(1 - Math.exp(l));
      const logOdds = logps.map((l) => odds(l.chosen) - odds(l.rejected));
      const nll = nllOf(answers, "withPrompt");
      return {
        loss: nll - beta * mean(logOdds.map(logSigmoid)),
        rewards: logps.map((l) => ({ chosen: beta * l.chosen, rejected: beta * l.rejected })),
        logps,
        more: { nll_loss: nll, log_odds_ratio: mean(logOdds.map(logSigmoid)), log_odds_chosen: mean(logOdds) },
      };
    };
    await followPairs(
      policy,
      (run, every) => trainOrpo({ policy }, { train, eval: held }, { ...common, beta, ...every }, run),
      judge,
    );
  });
});
