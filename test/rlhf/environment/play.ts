/** Tiny policies that act in the built-in environments: what they have seen before, and how they are trained on. */
import type { CausalLM } from "webrlhf/nn";
import {
  type Environment,
  environmentPrompts,
  environmentReward,
  environmentSampler,
  type Prompt,
  type Sequence,
  type TrainEvent,
  trainGrpo,
  trainPpo,
  trainReinforce,
  trainRloo,
  trainSft,
} from "webrlhf/rlhf";
import { beginEpisode, playEpisode } from "../../../src/rlhf/environment/episode.ts";
import { uniform } from "../../../src/runtime/rng.ts";
import { wordPolicy, wordTokenizer } from "./words.ts";

/** Says what to do, of what was seen last and of a draw of uniform numbers. */
export type Player = (seen: string, draw: (k: number) => number, row: Readonly<Record<string, unknown>>) => string;

/** A problem for tiny policies. */
export interface Problem {
  environment: Environment;
  words: readonly string[];
  /** A weak player, whom policies imitate before they learn by themselves. */
  player: Player;
  /** Longest response. */
  tokens: number;
  /** How it is learned. */
  learning: Omit<Learning, "seed">;
  /** The reward of the best policy, and what counts as having found it. */
  best: number;
  enough: number;
}

/** Episodes that a player plays. */
export async function demonstrations(
  { environment, player, words, tokens }: Problem,
  prompts: readonly Prompt[],
  seed: number,
): Promise<Sequence[]> {
  const tokenizer = wordTokenizer(words);
  const stopped = new Promise<never>(() => {});
  const limits = { maxTurns: 8, maxTokens: tokens, maxLength: 1000, timeout: 10_000, ends: [tokenizer.eosId], stopped };
  return Promise.all(
    prompts.map(async (prompt, i) => {
      const begun = await beginEpisode(environment, { prompt, seed, where: "" }, tokenizer, limits);
      return playEpisode(
        begun,
        async (ids, _, turn) => {
          const seen = tokenizer.decode(ids, { skipSpecialTokens: false });
          const last = seen.slice(seen.lastIndexOf("<assistant>", seen.length - 12) + 11).replaceAll(/<\w+>/g, "");
          const said = player(turn === 0 ? "" : last.trim(), (k) => uniform(seed, i, turn, k), prompt.row ?? {});
          const drawn = [...tokenizer.encode(said), tokenizer.eosId];
          return { ids: drawn, logProbs: drawn.map(() => 0), ended: true };
        },
        limits,
      );
    }),
  );
}

/** A policy that has imitated the problem's player. */
export async function imitating(problem: Problem, seed: number, steps = 40): Promise<CausalLM> {
  const policy = wordPolicy(wordTokenizer(problem.words), seed);
  const train = await demonstrations(problem, environmentPrompts(problem.environment, 64, seed + 1000), seed);
  const o = {
    seed,
    maxSteps: steps,
    learningRate: 0.01,
    perDeviceTrainBatchSize: 64,
    lrSchedulerType: "constant" as const,
  };
  for await (const _ of trainSft({ policy }, { train }, o));
  return policy;
}

/** How the methods are set for a problem. */
export interface Learning {
  seed: number;
  steps: number;
  prompts: number;
  samples: number;
  rate: number;
  /** PPO's, which learns from advantages of all sizes. */
  ppoRate: number;
}

export const methods = {
  GRPO: trainGrpo,
  RLOO: trainRloo,
  "REINFORCE++": trainReinforce,
  PPO: trainPpo,
} as const;

/** Trains a policy by a method, on as many of the environment's rows as one rollout takes. */
export function learning(
  method: keyof typeof methods,
  { environment, words, tokens }: Problem,
  policy: CausalLM,
  { seed, steps, prompts, samples, rate, ppoRate }: Learning,
): AsyncGenerator<TrainEvent> {
  const models = { policy, environment, rewards: environmentReward, tokenizer: wordTokenizer(words) };
  const data = environmentPrompts(environment, prompts, seed);
  const common = {
    seed,
    maxSteps: steps,
    numGenerations: samples,
    perDeviceTrainBatchSize: prompts * samples,
    responseLength: tokens,
    learningRate: rate,
    lrSchedulerType: "linear" as const,
    adamBeta1: 0.9,
    adamBeta2: 0.95,
    maxGradNorm: 1,
  };
  if (method === "PPO") {
    const o = { klCoef: 0, whitenAdvantages: true, clipRangeValue: 100, criticLearningRate: 0.01, lam: 1 };
    return trainPpo(models, data, {
      dialect: "paddle",
      ...common,
      ...o,
      learningRate: ppoRate,
      rolloutBatchSize: prompts,
    });
  }
  if (method === "REINFORCE++") {
    return trainReinforce(models, data, { ...common, beta: 0, generationBatchSize: prompts * samples });
  }
  return methods[method](models, data, { ...common, beta: 0 });
}

/** The mean reward of fresh episodes before and after a policy learns. */
export async function measure(
  method: keyof typeof methods,
  problem: Problem,
  seed: number,
): Promise<{ before: number; after: number }> {
  const policy = await imitating(problem, seed);
  const { environment, words, tokens } = problem;
  const limits = { maxTurns: 8, environmentTimeout: 10, environmentFailure: "stop" as const };
  const sampler = environmentSampler({ policy, tokenizer: wordTokenizer(words), environment, ...limits });
  const fresh = environmentPrompts(environment, 240, seed, "test");
  const worth = async () => {
    const o = { maxNewTokens: tokens, seed: seed + 500, iteration: 0 };
    const rewards = await environmentReward(await sampler(fresh, [...fresh.keys()], o));
    return Array.from(rewards).reduce((a, b) => a + b, 0) / rewards.length;
  };
  try {
    const before = await worth();
    for await (const _ of learning(method, problem, policy, { seed, ...problem.learning }));
    return { before, after: await worth() };
  } finally {
    policy.destroy();
  }
}
