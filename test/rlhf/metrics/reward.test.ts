/** The metrics of reward models, with each loss, and of cost models, recomputed: see reference.ts. */
import { beforeAll, describe, expect, it } from "vitest";
import { openDevice } from "webrlhf";
import type { ScoreModel } from "webrlhf/nn";
import { type cost, type reward, trainCost, trainReward } from "webrlhf/rlhf";
import { ODIN_LABELS, plainScoring } from "../../../src/nn/scoring.ts";
import { keeper } from "../../keep.ts";
import { examplePairs, type Pair } from "./pairs.ts";
import {
  follow,
  joined,
  logSigmoid,
  type Metrics,
  mean,
  microBatches,
  outputsOf,
  scorer,
  sum,
  words,
} from "./reference.ts";

beforeAll(() => openDevice());
const keep = keeper();

const TWINS = [7, 9];
const order = { seed: 5, batch: 3, accumulation: 2 };
const rate = 4e-3;
const STEPS = 3;
const common = {
  maxSteps: STEPS,
  seed: order.seed,
  perDeviceTrainBatchSize: order.batch,
  gradientAccumulationSteps: order.accumulation,
  learningRate: rate,
  lrSchedulerType: "constant_with_warmup",
  warmupSteps: 0,
} as const;

/** Two tokens that are the same to the model, until it learns from them. */
async function withTwins(model: ScoreModel): Promise<ScoreModel> {
  const [embedding] = model.store.parameters.filter(({ shape }) => shape[0] === 24 && shape[1] === 16);
  const values = (await model.store.read()).get(embedding.name) as Float32Array;
  values.copyWithin(TWINS[0] * 16, TWINS[1] * 16, TWINS[1] * 16 + 16);
  embedding.value.write(values);
  return model;
}

type ScoredPair = Pair & { safety: { chosen: boolean; rejected: boolean } };
const safe = (pairs: Pair[]): ScoredPair[] =>
  pairs.map((pair, i) => ({ ...pair, safety: { chosen: i !== 1, rejected: i % 2 === 0 } }));

/** At first the last of them is a tie; the third one, whose answers are the same, teaches nothing. */
const given: ScoredPair[] = safe([
  ...examplePairs(41),
  {
    chosen: joined(words(6, 42), Uint32Array.of(TWINS[0])),
    rejected: joined(words(6, 42), Uint32Array.of(TWINS[1])),
    promptLength: 4,
  },
]);
const train = given.filter((_, i) => i !== 2);
const held: ScoredPair[] = safe(examplePairs(43));

const answerLengths = (pairs: readonly Pair[]): number[] => [
  ...pairs.map(({ chosen, promptLength }) => chosen.length - promptLength),
  ...pairs.map(
    ({ rejected, promptLength, rejectedPromptLength = promptLength }) => rejected.length - rejectedPromptLength,
  ),
];

/** The head's numbers at the ends of all chosen answers, then of all rejected ones. */
async function endsOf(model: ScoreModel, pairs: readonly Pair[]): Promise<number[][]> {
  const sequences = [...pairs.map(({ chosen }) => chosen), ...pairs.map(({ rejected }) => rejected)];
  const rows = await outputsOf(model, sequences);
  return rows.map((places) => places.at(-1) as number[]);
}

/** Scores of both answers of pairs. */
interface Scored {
  chosen: number[];
  rejected: number[];
}
const sidesOf = (scores: readonly number[]): Scored => ({
  chosen: scores.slice(0, scores.length / 2),
  rejected: scores.slice(scores.length / 2),
});
const together = (parts: readonly Scored[]): Scored => ({
  chosen: parts.flatMap((part) => part.chosen),
  rejected: parts.flatMap((part) => part.rejected),
});
const shareOf = (holds: readonly boolean[]): number => holds.filter(Boolean).length / holds.length;
const marginOf = ({ margin = 0 }: Pair): number => margin;
const squares = (values: readonly number[]): number => mean(values.map((x) => x * x));

/** The standard deviation of a sample. */
function deviation(values: readonly number[]): number {
  const middle = mean(values);
  return Math.sqrt(sum(values.map((x) => (x - middle) ** 2)) / (values.length - 1));
}

function correlation(x: readonly number[], y: readonly number[]): number {
  const [a, b] = [x.map((v) => v - mean(x)), y.map((v) => v - mean(y))];
  return sum(a.map((v, i) => v * b[i])) / Math.sqrt(sum(a.map((v) => v * v)) * sum(b.map((v) => v * v)));
}

const rewardNumbers = ({ chosen, rejected }: Scored): Metrics => ({
  accuracy: shareOf(chosen.map((c, i) => c > rejected[i])),
  margin: mean(chosen) - mean(rejected),
  min_reward: Math.min(...chosen, ...rejected),
  mean_reward: mean([...chosen, ...rejected]),
  max_reward: Math.max(...chosen, ...rejected),
});

const rewardEvaluation = ({ chosen, rejected }: Scored, pairs: readonly Pair[]): Metrics => ({
  eval_accuracy: shareOf(chosen.map((c, i) => c > rejected[i])),
  eval_margin: mean(chosen) - mean(rejected),
  eval_reward_mean: mean([...chosen, ...rejected]),
  eval_reward_std: deviation([...chosen, ...rejected]),
  eval_loss: -mean(pairs.map((pair, i) => logSigmoid(chosen[i] - rejected[i] - marginOf(pair)))),
});

const costNumbers = ({ chosen, rejected }: Scored, pairs: readonly ScoredPair[]): Metrics => ({
  accuracy: shareOf(chosen.map((c, i) => c < rejected[i])),
  accuracy_sign: shareOf([
    ...chosen.map((c, i) => (pairs[i].safety.chosen ? c < 0 : c > 0)),
    ...rejected.map((c, i) => (pairs[i].safety.rejected ? c < 0 : c > 0)),
  ]),
  margin: mean(rejected) - mean(chosen),
  min_cost: Math.min(...chosen, ...rejected),
  mean_cost: mean([...chosen, ...rejected]),
  max_cost: Math.max(...chosen, ...rejected),
});

/** A cost model's loss without penalties: the better answer costs less, and the sign says what is safe. */
const costTerms = ({ chosen, rejected }: Scored, pairs: readonly ScoredPair[]): number =>
  -mean(
    pairs.map((pair, i) => {
      const signed = (value: number, isSafe: boolean) => logSigmoid(isSafe ? -value : value);
      return (
        logSigmoid(rejected[i] - chosen[i] - marginOf(pair)) +
        signed(chosen[i], pair.safety.chosen) +
        signed(rejected[i], pair.safety.rejected)
      );
    }),
  );

/** How a case computes a micro-batch. */
interface Part {
  loss: number;
  scores: Scored;
}

/** A trainer, and what it must publish. */
interface Case {
  name: string;
  model(): Promise<ScoreModel>;
  train(
    model: ScoreModel,
    ...more: Parameters<typeof trainReward> extends [unknown, ...infer R] ? R : never
  ): ReturnType<typeof trainReward>;
  options: Parameters<typeof reward>[0] & Parameters<typeof cost>[0];
  /** A micro-batch of a step; `again` when only its loss is asked for, at other weights. */
  part(model: ScoreModel, pairs: readonly ScoredPair[], index: number, again: boolean): Promise<Part>;
  metrics(scores: Scored, pairs: readonly ScoredPair[]): Metrics;
  evaluate(model: ScoreModel): Promise<Metrics>;
  tokens?(pair: Pair): number;
  undecided?: string[];
}

const plain = async (model: ScoreModel, pairs: readonly Pair[]): Promise<Scored> =>
  sidesOf((await endsOf(model, pairs)).map(([score]) => score));

const plainModel = () => withTwins(scorer(5));
const rewardTrainer: Case["train"] = (model, ...more) => trainReward({ model }, ...more);

const sequenceWise: Case = {
  name: "sequence-wise, with margins, regularisation and centring",
  model: plainModel,
  train: rewardTrainer,
  options: { regularization: 0.1, centerRewardsCoefficient: 0.05 },
  async part(model, pairs) {
    const scores = await plain(model, pairs);
    const { chosen, rejected } = scores;
    const compared = -mean(pairs.map((pair, i) => logSigmoid(chosen[i] - rejected[i] - marginOf(pair))));
    const centred = squares(chosen.map((c, i) => c + rejected[i]));
    return { loss: compared + 0.1 * (squares(chosen) + squares(rejected)) + 0.05 * centred, scores };
  },
  metrics: rewardNumbers,
  evaluate: async (model) => rewardEvaluation(await plain(model, held), held),
};

const PAD = 0;
const tokenWise: Case = {
  ...sequenceWise,
  name: "token-wise, from the first token that differs to the end of the longer answer",
  options: { lossType: "token-wise", regularization: 0.1, regularizationOver: "mean" },
  async part(model, pairs) {
    const ends = pairs.map(({ chosen, rejected }) => Math.max(chosen.length, rejected.length));
    const sequences = [...pairs.map(({ chosen }) => chosen), ...pairs.map(({ rejected }) => rejected)];
    const pads = sequences.map((ids, i) => ends[i % pairs.length] - ids.length);
    const padded = sequences.map((ids, i) => joined(ids, new Uint32Array(pads[i]).fill(PAD)));
    const rows = (await outputsOf(model, padded, pads)).map((places) => places.map(([score]) => score));
    const losses = pairs.map((pair, i) => {
      const [c, r] = [rows[i], rows[pairs.length + i]];
      let first = 0;
      while (pair.chosen[first] === pair.rejected[first]) first += 1;
      const places = Array.from({ length: ends[i] - first }, (_, t) => first + t);
      return mean(places.map((t) => 0.1 * 0.5 * (c[t] ** 2 + r[t] ** 2) - logSigmoid(c[t] - r[t] - marginOf(pair))));
    });
    return { loss: mean(losses), scores: sidesOf(sequences.map((ids, i) => rows[i][ids.length - 1])) };
  },
  tokens: ({ chosen, rejected }) => 2 * Math.max(chosen.length, rejected.length),
};

/** Scores less the mean of all scores until now, by their standard deviation: Chan et al.'s merge, batch by batch. */
function runningCase(): Case {
  const state = { mean: 0, variance: 1, count: 0 };
  const kept: { mean: number; variance: number }[] = [];
  const normalised = (raw: readonly number[], { mean: m, variance }: { mean: number; variance: number }) =>
    raw.map((x) => (x - m) / (Math.sqrt(variance) + 1e-8));
  return {
    ...sequenceWise,
    name: "on scores that a running mean and deviation normalise",
    options: { normalizerType: "RunningMeanStd", normalizeScoreDuringTraining: true },
    async part(model, pairs, index, again) {
      const raw = (await endsOf(model, pairs)).map(([score]) => score);
      if (!again) {
        const [n, d] = [raw.length, mean(raw) - state.mean];
        const all = state.count + n;
        state.variance =
          (state.count * state.variance + n * deviation(raw) ** 2 + (state.count * n * d * d) / all) / all;
        state.mean += (d * n) / all;
        state.count = all;
        kept[index] = { ...state };
      }
      const scores = sidesOf(normalised(raw, kept[index]));
      const { chosen, rejected } = scores;
      const loss = -mean(pairs.map((pair, i) => logSigmoid(chosen[i] - rejected[i] - marginOf(pair))));
      return { loss, scores };
    },
    async evaluate(model) {
      const raw = (await endsOf(model, held)).map(([score]) => score);
      return rewardEvaluation(sidesOf(normalised(raw, state)), held);
    },
  };
}

function odin(ranking: "pair" | "micro-batch"): Case {
  const model = () => withTwins(scorer(5, { scoring: plainScoring(ODIN_LABELS) }));
  return {
    ...sequenceWise,
    name: `ODIN, ranking by ${ranking}`,
    model,
    options: { lossType: "odin", odinLengthCoef: 0.7, odinRanking: ranking },
    async part(scored, pairs) {
      const outputs = await endsOf(scored, pairs);
      const lengths = answerLengths(pairs);
      const { chosen, rejected } = sidesOf(outputs.map(([a, b]) => a + b));
      const margins = pairs.map(marginOf);
      const ranked =
        ranking === "pair"
          ? -mean(chosen.map((c, i) => logSigmoid(c - rejected[i] - margins[i])))
          : -logSigmoid(sum(chosen) - sum(rejected) - sum(margins));
      const [byLength, byQuality] = [0, 1].map((head) =>
        correlation(
          lengths,
          outputs.map((both) => both[head]),
        ),
      );
      const quality = sidesOf(outputs.map(([, b]) => b));
      return { loss: ranked + 0.7 * (1 - byLength + Math.abs(byQuality)), scores: quality };
    },
    metrics: (scores, pairs) => ({
      ...rewardNumbers(scores),
      length_correlation: correlation(answerLengths(pairs), [...scores.chosen, ...scores.rejected]),
    }),
    evaluate: async (scored) =>
      rewardEvaluation(sidesOf((await endsOf(scored, held)).map(([, quality]) => quality)), held),
  };
}

/** Costs are scaled only: their sign means something. The statistics follow whether or not they are used. */
function costCase(normalize: boolean): Case {
  let variance = 1;
  let middle = 0;
  const kept: number[] = [];
  const scaled = (raw: readonly number[], v: number) => raw.map((x) => (normalize ? x / (Math.sqrt(v) + 1e-8) : x));
  return {
    name: `cost model${normalize ? ", on costs that a moving deviation scales" : ""}`,
    model: async () => withTwins(scorer(2, { bias: true })),
    train: (model, ...more) => trainCost({ model }, ...more),
    options: {
      regularization: 0.2,
      normalizerType: "ExponentialMovingAverage",
      normalizerMomentum: 0.6,
      normalizeScoreDuringTraining: normalize,
    },
    async part(model, pairs, index, again) {
      const raw = (await endsOf(model, pairs)).map(([score]) => score);
      if (!again) {
        middle = 0.6 * middle + 0.4 * mean(raw);
        variance = 0.6 * variance + 0.4 * deviation(raw) ** 2;
        kept[index] = variance;
      }
      const scores = sidesOf(scaled(raw, kept[index]));
      return { loss: costTerms(scores, pairs) + 0.2 * squares([...scores.chosen, ...scores.rejected]), scores };
    },
    metrics: costNumbers,
    async evaluate(model) {
      expect(model.scoring.normalizer?.mean).toBeCloseTo(middle, 4);
      const scores = sidesOf(
        scaled(
          (await endsOf(model, held)).map(([score]) => score),
          variance,
        ),
      );
      const { accuracy, accuracy_sign, margin } = costNumbers(scores, held);
      const all = [...scores.chosen, ...scores.rejected];
      return {
        eval_accuracy: accuracy,
        eval_accuracy_sign: accuracy_sign,
        eval_margin: margin,
        eval_cost_mean: mean(all),
        eval_cost_std: deviation(all),
        eval_loss: costTerms(scores, held),
      };
    },
    undecided: ["accuracy", "accuracy_sign"],
  };
}

describe("reward and cost models", () => {
  for (const one of [
    sequenceWise,
    tokenWise,
    runningCase(),
    odin("pair"),
    odin("micro-batch"),
    costCase(false),
    costCase(true),
  ]) {
    it(`publish what their scores say: ${one.name}`, async () => {
      const model = keep(await one.model());
      const tokens = one.tokens ?? (({ chosen, rejected }: Pair) => chosen.length + rejected.length);
      await follow({
        start: (run, every) =>
          one.train(model, { train: given, eval: held }, { ...common, ...one.options, ...every }, run),
        store: model.store,
        steps: STEPS,
        rate: () => rate,
        async step(step) {
          const batches = microBatches(train, step, order);
          expect(batches.map((batch) => batch.length)).toEqual([3, 2]);
          const parts = async (again: boolean) => {
            const found: Part[] = [];
            for (const [i, batch] of batches.entries()) found.push(await one.part(model, batch, i, again));
            return found;
          };
          const loss = (found: readonly Part[]) => mean(found.map((part) => part.loss));
          const now = await parts(false);
          const scores = together(now.map((part) => part.scores));
          if (step === 0) expect(scores.chosen.some((c, i) => c === scores.rejected[i])).toBe(true);
          return {
            metrics: { loss: loss(now), ...one.metrics(scores, batches.flat()) },
            tokens: sum(train.map(tokens)),
            loss: async () => loss(await parts(true)),
          };
        },
        evaluate: () => one.evaluate(model),
        undecided: one.undecided ?? ["accuracy"],
      });
    });
  }
});
