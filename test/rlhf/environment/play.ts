/** Tiny policies that act in the built-in environments: what they have seen before, and how they are trained on. */
import type { CausalLM } from "webrlhf/nn";
import {
  type Environment,
  environmentPrompts,
  environmentReward,
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
  { seed, steps, prompts, samples, rate }: Learning,
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
      learningRate: rate / 3,
      rolloutBatchSize: prompts,
    });
  }
  if (method === "REINFORCE++") {
    return trainReinforce(models, data, { ...common, beta: 0, generationBatchSize: prompts * samples });
  }
  return methods[method](models, data, { ...common, beta: 0 });
}
