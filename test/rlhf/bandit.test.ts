/**
 * Every method on a problem whose solution is known (test/rlhf/bandit.ts), from ten seeds: each has its own reference,
 * its own random numbers, and must reach the optimum.
 *
 * The tolerance is the noise of one rollout: the total variation that is expected between the optimum and the frequencies
 * of as many answers drawn from it. A policy that near cannot be told from the optimum by what it answers. Stochastic
 * gradients stay below it because the rate falls to 0, and because at the optimum r - beta log(pi / pi_ref) is the same for
 * every answer, so that the noise of the gradient vanishes with the distance. What was measured is far below: see
 * docs/group-methods.md.
 */

import { beforeAll, describe, expect, it } from "vitest";
import type { CausalLM } from "webrlhf/nn";
import { type TrainEvent, trainDpo, trainGrpo, trainPpo, trainRaft, trainReinforce, trainRloo } from "webrlhf/rlhf";
import { gpuReady } from "../helpers.ts";
import { keeper } from "../keep.ts";
import {
  ARMS,
  countingNoise,
  distribution,
  forwardKlOptimum,
  newCritic,
  newPolicy,
  optimum,
  prompts,
  reward,
  totalVariation,
  weights,
} from "./bandit.ts";
import { collect, tokenizer } from "./tiny.ts";

beforeAll(gpuReady);

const keep = keeper();

const BETA = 0.5;
const GROUP = 16;
const ROLLOUT = 128; // answers
const RATE = 0.07;
// Deno and browsers wait long for every number they read back, and compute the same: two seeds are enough there.
const node = "Deno" in globalThis ? undefined : (globalThis as { process?: typeof process }).process;
const SEEDS = Array.from({ length: node?.versions?.node ? 10 : 2 }, (_, i) => i + 1);

const settings = (seed: number) => ({
  seed,
  maxSteps: 16,
  perDeviceTrainBatchSize: ROLLOUT,
  learningRate: RATE,
  lrSchedulerType: "linear" as const,
  adamBeta1: 0.5,
  adamBeta2: 0.9, // so short a run has no time for a long memory
  maxGradNorm: 0,
});
const grouped = (seed: number) => ({
  ...settings(seed),
  numGenerations: GROUP,
  responseLength: 1,
});

interface Problem {
  policy: CausalLM;
  reference: CausalLM;
}

const problemOf = (seed: number): Problem => ({
  policy: keep(newPolicy(seed)),
  reference: keep(newPolicy(seed, "reference")),
});
const rolloutOf = (problem: Problem) => ({
  ...problem,
  tokenizer,
  rewards: reward,
});
const data = { train: prompts(ROLLOUT / GROUP) };

type Solve = (seed: number, problem: Problem) => AsyncGenerator<TrainEvent>;
type Best = (reference: readonly number[]) => number[];

/** Distances before and after training. */
async function distances(seed: number, solve: Solve, best: Best) {
  const problem = problemOf(seed);
  const reference = await distribution(problem.policy);
  const target = best(reference);
  await collect(solve(seed, problem));
  const found = await distribution(problem.policy);
  if (node?.env.WEBRLHF_MEASURE) console.log(seed, totalVariation(reference, target), totalVariation(found, target));
  return { reference, found, before: totalVariation(reference, target), after: totalVariation(found, target), target };
}

const withKl =
  (factor = 1): Best =>
  (reference) =>
    optimum(reference, factor / BETA);

describe("reach pi_ref exp(r / beta), normalised", () => {
  const methods: [string, Solve, Best][] = [
    [
      "PPO",
      (seed, problem) =>
        trainPpo({ ...rolloutOf(problem), critic: keep(newCritic(seed)) }, data, {
          dialect: "paddle",
          ...grouped(seed),
          rolloutBatchSize: ROLLOUT / GROUP,
          klCoef: BETA,
          criticLearningRate: RATE,
        }),
      withKl(),
    ],
    ["RLOO", (seed, problem) => trainRloo(rolloutOf(problem), data, { ...grouped(seed), beta: BETA }), withKl()],
    [
      "REINFORCE++",
      (seed, problem) => trainReinforce(rolloutOf(problem), data, { ...grouped(seed), beta: BETA }),
      withKl(),
    ],
    [
      // The group's mean holds the response itself, which shrinks advantages by (G - 1) / G.
      "GRPO",
      (seed, problem) => trainGrpo(rolloutOf(problem), data, { ...grouped(seed), beta: BETA, scaleRewards: "none" }),
      withKl((GROUP - 1) / GROUP),
    ],
    [
      // Each pair as often as Bradley and Terry expect: of w_a + w_b comparisons, a wins w_a.
      "DPO",
      (seed, { policy, reference }) => {
        const wins = (a: number, b: number) =>
          Array.from({ length: weights[a] }, () => ({
            chosen: Uint32Array.of(0, a),
            rejected: Uint32Array.of(0, b),
            promptLength: 1,
          }));
        const arms = weights.map((_, a) => a);
        const train = arms.flatMap((a) => arms.flatMap((b) => (a === b ? [] : wins(a, b))));
        const options = { ...settings(seed), beta: BETA, perDeviceTrainBatchSize: train.length };
        return trainDpo({ policy, reference }, { train }, options);
      },
      withKl(),
    ],
  ];

  describe.each(methods)("%s", (_, solve, best) => {
    it.each(SEEDS)("from seed %i", async (seed) => {
      const { before, after, target } = await distances(seed, solve, best);
      const tolerance = countingNoise(target, ROLLOUT);
      expect(before).toBeGreaterThan(2 * tolerance);
      expect(after).toBeLessThan(tolerance);
    });
  });
});

describe("GRPO with the plain k3 penalty", () => {
  const factor = (GROUP - 1) / GROUP;
  const solve: Solve = (seed, problem) =>
    trainGrpo(rolloutOf(problem), data, {
      ...grouped(seed),
      beta: BETA,
      scaleRewards: "none",
      useBiasCorrectionKl: false,
    });

  it.each(SEEDS.slice(0, 3))("reaches beta pi_ref / (lambda - r) instead, from seed %i", async (seed) => {
    const { reference, found, before, after, target } = await distances(seed, solve, (p) =>
      forwardKlOptimum(p, BETA, factor),
    );
    const tolerance = countingNoise(target, ROLLOUT);
    expect(before).toBeGreaterThan(2 * tolerance);
    expect(after).toBeLessThan(tolerance);
    // The two optima are about as far apart as the tolerance: it must be this one.
    expect(after).toBeLessThan(totalVariation(found, optimum(reference, factor / BETA)) / 2);
  });
});

describe("RAFT", () => {
  it.each(SEEDS)("reaches the best answer, from seed %i", async (seed) => {
    const solve: Solve = (_, { policy }) =>
      trainRaft(
        { policy, rewards: reward, tokenizer },
        { train: prompts(ROLLOUT / 4) },
        {
          ...settings(seed),
          responseLength: 1,
          maxSteps: 12,
          lrSchedulerType: "constant",
          topRewardPercentage: 1 / 4,
          raftBatchSize: ROLLOUT / 4,
          outputMinLength: null,
          temperature: 1,
          numTrainEpochs: 1,
          maskPrompt: true,
          cleanText: "none",
          discardSample: "none", // one token is too short for it
          monitor: false,
        },
      );
    const best = weights.map((_, a) => Number(a === ARMS - 1));
    expect((await distances(seed, solve, () => best)).after).toBeLessThan(0.05);
  });
});
