/** The library's trainers, with the playground's knobs. */
import { type Tokenizer, worldPrompts } from "webrlhf/data";
import type { CausalLM, ScoreModel } from "webrlhf/nn";
import {
  differing,
  dpo,
  grpo,
  modelReward,
  type PairExample,
  type Prompt,
  ppo,
  type Response,
  type RunOptions,
  raft,
  sampleResponses,
  type TrainEvent,
  trainDpo,
  trainGrpo,
  trainPpo,
  trainRaft,
} from "webrlhf/rlhf";
import { promptsOf, RESPONSE_LENGTH, truth } from "../lib/lesson/work.ts";
import type { Knobs, Method } from "./knobs.ts";

/** Steps between two states that a run can go on from. */
const SAVE_EVERY = 4;
/** Prompts whose answers are drawn at once: between two of them there is something to see. */
export const AT_ONCE = 16;

/** What every method works with. */
export interface Means {
  tokenizer: Tokenizer;
  policy: CausalLM;
  reference: CausalLM;
  judge: ScoreModel;
  /** PPO's. */
  critic: ScoreModel | null;
}

export const trainPrompts = ({ prompts, seed }: Knobs, tokenizer: Tokenizer): Prompt[] =>
  promptsOf(worldPrompts(prompts, seed, "train"), tokenizer);

/** Answers in a step of a method, in whole groups where it compares those of a group. */
export const perStep = (method: Method, { responses, group }: Knobs): number =>
  method === "ppo" ? responses : Math.max(1, Math.round(responses / group)) * group;

const generated = (responses: readonly Response[]): number =>
  responses.reduce((sum, { ids, promptLength }) => sum + ids.length - promptLength, 0);

/** Pairs of the model's own answers, and the tokens that writing them took. */
export interface Written {
  pairs: PairExample[];
  tokens: number;
}

/** The best and the worst by the judge of each prompt's answers, a few prompts at a time, as long as there are tokens to spend. */
export async function* writtenPairs(
  { policy, tokenizer, judge }: Means,
  knobs: Knobs,
  budget: number,
): AsyncGenerator<Written> {
  const { group, seed, temperature } = knobs;
  const prompts = trainPrompts(knobs, tokenizer);
  let spent = 0;
  for (let at = 0; at < prompts.length && spent < budget; at += AT_ONCE) {
    const part = prompts.slice(at, at + AT_ONCE);
    const places = part.map((_, i) => at + i);
    const sampling = { maxNewTokens: RESPONSE_LENGTH, samples: group, temperature, seed, iteration: 1 };
    const answers = await sampleResponses(policy, tokenizer, part, places, sampling);
    const scores = await modelReward(judge)(answers);
    const pairs = part.map((_, p): PairExample => {
      const order = Array.from({ length: group }, (_, k) => p * group + k).sort((a, b) => scores[b] - scores[a]);
      const [chosen, rejected] = [answers[order[0]], answers[order[group - 1]]];
      return { chosen: chosen.ids, rejected: rejected.ids, promptLength: chosen.promptLength };
    });
    const tokens = generated(answers);
    spent += tokens;
    yield { pairs: differing(pairs), tokens };
  }
}

/** DPO on such pairs. */
export const dpoOn = (
  { policy, reference }: Means,
  pairs: readonly PairExample[],
  { seed, beta, learningRate, responses }: Knobs,
  steps: number,
  run: RunOptions,
): AsyncGenerator<TrainEvent> =>
  trainDpo(
    { policy, reference },
    pairs,
    dpo({
      seed,
      beta,
      learningRate,
      lrSchedulerType: "constant",
      maxSteps: steps,
      perDeviceTrainBatchSize: pairsPerStep(responses),
      saveSteps: SAVE_EVERY,
    }),
    run,
  );

/** So many answers are learned from in a step of DPO. */
export const pairsPerStep = (responses: number): number => Math.max(1, Math.floor(responses / 2));

/** A method that samples as it learns. `steps`: at most. */
export function sampling(
  method: "ppo" | "grpo" | "raft",
  means: Means,
  knobs: Knobs,
  steps: number,
  run: RunOptions,
): AsyncGenerator<TrainEvent> {
  const { policy, reference, judge, tokenizer, critic } = means;
  const { seed, klCoef, learningRate, temperature, group } = knobs;
  const responses = perStep(method, knobs);
  const shared = { policy, reference, rewards: modelReward(judge), tokenizer, gold: truth };
  const common = {
    seed,
    learningRate,
    temperature,
    maxSteps: steps,
    responseLength: RESPONSE_LENGTH,
    showSamples: 0,
    saveSteps: SAVE_EVERY,
  };
  const prompts = trainPrompts(knobs, tokenizer);
  if (method === "ppo") {
    const settings = ppo({
      ...common,
      klCoef,
      criticLearningRate: learningRate,
      rolloutBatchSize: responses,
      perDeviceTrainBatchSize: Math.ceil(responses / 4), // four optimizer steps on each rollout
    });
    if (!critic) throw new Error("PPO has no critic");
    return trainPpo({ ...shared, critic }, prompts, settings, run);
  }
  if (method === "grpo") {
    const settings = grpo({
      ...common,
      lrSchedulerType: "constant",
      beta: klCoef,
      numGenerations: group,
      generationBatchSize: responses,
      perDeviceTrainBatchSize: Math.ceil(responses / 4),
    });
    return trainGrpo(shared, prompts, settings, run);
  }
  const kept = responses / group;
  const settings = raft({
    ...common,
    dialect: "corrected", // LMFlow's own takes the space away that every story begins with
    raftBatchSize: kept,
    topRewardPercentage: 1 / group,
    perDeviceTrainBatchSize: Math.ceil(kept / 2),
    numTrainEpochs: 3,
    monitor: false,
  });
  return trainRaft(shared, prompts, settings, run);
}
