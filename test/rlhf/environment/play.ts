/** Tiny policies that act in built-in environments: what they have seen before, and how they are trained on. */
import type { CausalLM, DecoderConfig, TextTokenizer } from "webrlhf/nn";
import {
  type Environment,
  environmentPrompts,
  environmentReward,
  environmentSampler,
  type PpoSettings,
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
import { copyOf } from "../../../src/rlhf/partners.ts";
import { uniform } from "../../../src/runtime/rng.ts";
import { wordPolicy } from "./words.ts";

/** Says what to do, of all that was said since it spoke last (itself included; "" at first), of uniform numbers, and of the prompt. */
export type Player = (seen: string, draw: (k: number) => number, prompt: Prompt) => string;

/** A problem for tiny policies. */
export interface Problem {
  environment: Environment;
  tokenizer: TextTokenizer;
  /** How many of them are learned from. Default: as many as sixteen steps take. */
  rows?: number;
  /** What differs from a policy of one layer of width 32. */
  size?: Partial<DecoderConfig>;
  /** A weak player, whom policies imitate before they learn by themselves. */
  player: Player;
  /** How it is imitated: steps on so many each of the episodes that it plays. Of the steps the part `warmup` warms up. */
  imitation: { steps: number; batch: number; episodes: number; rate: number; warmup: number };
  /** Longest response. */
  tokens: number;
  maxTurns: number;
  /** How it is learned. */
  learning: Omit<Learning, "seed">;
  /** The reward of the best policy, and what counts as having found it. */
  best: number;
  enough: number;
}

/** Episodes that a player plays. */
export async function demonstrations(
  { environment, player, tokenizer, tokens, maxTurns }: Problem,
  prompts: readonly Prompt[],
  seed: number,
): Promise<Sequence[]> {
  const end = tokenizer.eosId as number;
  const stopped = new Promise<never>(() => {});
  const limits = { maxTurns, maxTokens: tokens, maxLength: 1000, timeout: 10_000, ends: [end], stopped };
  return Promise.all(
    prompts.map(async (prompt, i) => {
      const begun = await beginEpisode(environment, { prompt, seed, where: "" }, tokenizer, limits);
      let spoke = begun.transcript.promptLength;
      return playEpisode(
        begun,
        async (ids, _, turn) => {
          const seen = turn === 0 ? "" : tokenizer.decode(ids.slice(spoke), { continued: true }).trim();
          spoke = ids.length;
          const said = player(seen, (k) => uniform(seed, i, turn, k), prompt);
          const drawn = [...tokenizer.encode(said, { continued: true }), end];
          return { ids: drawn, logProbs: drawn.map(() => 0), ended: true };
        },
        limits,
      );
    }),
  );
}

/** A policy that has imitated the problem's player. */
export async function imitating(problem: Problem, seed: number): Promise<CausalLM> {
  const { steps, batch, episodes, rate, warmup } = problem.imitation;
  const policy = wordPolicy(problem.tokenizer, seed, problem.size);
  const train = await demonstrations(problem, environmentPrompts(problem.environment, episodes, seed + 1000), seed);
  const o = {
    seed,
    maxSteps: steps,
    learningRate: rate,
    perDeviceTrainBatchSize: batch,
    lrSchedulerType: "linear" as const,
    warmupSteps: warmup,
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
  /** Passes over each rollout. */
  passes: number;
  /** Weight of an entropy bonus, which keeps a policy from settling on what came well by chance. */
  entropy: number;
  /** What PPO is set to, where it differs. */
  ppo: Partial<PpoSettings>;
}

/** The methods by their names. */
export const methods = {
  GRPO: trainGrpo,
  RLOO: trainRloo,
  "REINFORCE++": trainReinforce,
  PPO: trainPpo,
} as const;

/** The name of a method. */
export type Method = keyof typeof methods;

/** Trains a policy by a method on the environment's prompts. */
export function learning(
  method: Method,
  problem: Problem,
  policy: CausalLM,
  { seed, steps, prompts, samples, rate, passes, entropy, ppo }: Learning,
): AsyncGenerator<TrainEvent> {
  const { environment, tokenizer, tokens, maxTurns } = problem;
  const models = { policy, environment, rewards: environmentReward, tokenizer };
  const data = environmentPrompts(environment, problem.rows ?? prompts * 16, seed);
  const common = {
    seed,
    maxSteps: steps,
    maxTurns,
    numGenerations: samples,
    perDeviceTrainBatchSize: prompts * samples,
    responseLength: tokens,
    learningRate: rate,
    lrSchedulerType: "linear" as const,
    warmupSteps: 0.15,
    adamBeta1: 0.9,
    adamBeta2: 0.999,
    entropyCoef: entropy,
    maxGradNorm: 1,
  };
  if (method === "PPO") {
    return trainPpo(models, data, { ...common, rolloutBatchSize: prompts, numPpoEpochs: passes, klCoef: 0, ...ppo });
  }
  const free = { numIterations: passes, beta: 0 };
  if (method === "REINFORCE++") {
    return trainReinforce(models, data, { ...common, ...free, generationBatchSize: prompts * samples });
  }
  return methods[method](models, data, { ...common, ...free });
}

/** What came of a policy that learned by a method. */
export interface Measured {
  method: Method;
  /** Mean rewards of fresh episodes. */
  before: number;
  after: number;
  /** Of learning. */
  seconds: number;
}

/** The mean reward of 240 fresh episodes, drawn at the temperature 1. */
async function worth(policy: CausalLM, problem: Problem, seed: number): Promise<number> {
  const { environment, tokenizer, tokens, maxTurns } = problem;
  const limits = { maxTurns, environmentTimeout: 10, environmentFailure: "stop" as const };
  const sampler = environmentSampler({ policy, tokenizer, environment, ...limits });
  const fresh = environmentPrompts(environment, 240, seed, "test");
  const o = { maxNewTokens: tokens, seed: seed + 500, iteration: 0 };
  const rewards = await environmentReward(await sampler(fresh, [...fresh.keys()], o));
  return Array.from(rewards).reduce((a, b) => a + b, 0) / rewards.length;
}

/** Lets a policy imitate the player, and copies of it learn by each of some methods. */
export async function* measured(problem: Problem, seed: number, some: readonly Method[]): AsyncGenerator<Measured> {
  const start = await imitating(problem, seed);
  try {
    const before = await worth(start, problem, seed);
    for (const method of some) {
      const policy = copyOf(start, "policy");
      try {
        const began = performance.now();
        for await (const _ of learning(method, problem, policy, { seed, ...problem.learning }));
        const seconds = (performance.now() - began) / 1000;
        yield { method, before, after: await worth(policy, problem, seed), seconds };
      } finally {
        policy.destroy();
      }
    }
  } finally {
    start.destroy();
  }
}
