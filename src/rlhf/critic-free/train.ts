/**
 * What the methods without a critic share (GRPO, RLOO, REINFORCE++): PPO's rollout, advantages from the rewards alone, and
 * clipped-ratio steps of one policy. A method is its way from rewards to advantages and the form of its loss.
 */

import { AdamW } from "../../nn/optimizer.ts";
import { UserError } from "../../runtime/errors.ts";
import { checkpoint } from "../../tensor/core.ts";
import { withoutSpread } from "../advantages.ts";
import { begin, type RunFolder, saveModels } from "../checkpoint.ts";
import type { Stage, TrainEvent } from "../events.ts";
import { PromptOrder } from "../prompts.ts";
import { type RewardFunction, rewardsOf } from "../rewards.ts";
import { collectRollout, type Rollout, type RolloutInputs, type RolloutState } from "../rollout.ts";
import type { Response } from "../sampler.ts";
import { average, freshNormalizer, standardDeviation } from "../stats.ts";
import { checkFinite, now, orSaved, saveDue, stopping, type TrainingOptions, trainingDefaults } from "../training.ts";
import { type Lesson, learn, type UpdateRule } from "./update.ts";

/** `epochs` are the passes over each rollout ("num_iterations"). */
export interface CriticFreeOptions extends TrainingOptions {
  /** Rollouts in all; each is one "step" of the run. */
  maxSteps: number;
  /** Prompts per rollout. */
  promptsPerRollout: number;
  /** Responses per prompt: the group. */
  samplesPerPrompt: number;
  /** Response tokens at most. */
  responseLength: number;
  /** Log-probabilities are measured at this temperature, too. */
  temperature: number;
  topK: number;
  topP: number;
  /** Weight of the KL penalty. 0 needs no reference. */
  beta: number;
  /** The probability ratio is clipped to [1 - epsilon, 1 + epsilonHigh]; null means epsilon on both sides. */
  epsilon: number;
  epsilonHigh: number | null;
  /** One weight per reward function; null gives each 1. */
  rewardWeights: readonly number[] | null;
  /** Leaves responses that did not end by themselves out of the update (DAPO's overlong filtering). */
  maskTruncated: boolean;
  /** Responses per rollout whose texts are reported. */
  showSamples: number;
}

export const criticFreeDefaults: CriticFreeOptions = {
  ...trainingDefaults,
  learningRate: 1e-6,
  schedule: "linear",
  epochs: 1,
  batchSize: 8,
  maxSteps: 50,
  promptsPerRollout: 8,
  samplesPerPrompt: 8,
  responseLength: 64,
  temperature: 1,
  topK: 0,
  topP: 1,
  beta: 0,
  epsilon: 0.2,
  epsilonHigh: null,
  rewardWeights: null,
  maskTruncated: false,
  showSamples: 4,
};

/** The models and data of a run. The reference is needed where `beta` is not 0. */
export interface CriticFreeInputs extends Omit<RolloutInputs, "reward"> {
  /** By name; the weighted sum is learned. */
  rewards: Readonly<Record<string, RewardFunction>>;
  run?: RunFolder;
  resume?: boolean;
}

/** A rollout with each reward function's own values, [functions][responses]. */
export interface ScoredRollout extends Rollout {
  parts: readonly number[][];
}

/** What makes a method. */
export interface Method extends UpdateRule {
  stage: Stage;
  /** Weight of the KL penalty per token in the rewards. */
  klInReward: number;
  /** Scores are clipped to [-clip, clip] before the KL penalty joins them. */
  clipRangeScore: number;
  /** One advantage per response, or one per token of it. */
  advantages(rollout: ScoredRollout): readonly (number | ArrayLike<number>)[];
  /** Leaves groups whose rewards are all the same out of the update. */
  dropGroupsWithoutSpread?: boolean;
}

/** The sum of each response's rewards: the score, less the KL penalty where that is in the reward. */
export const totals = ({ rewards }: Pick<Rollout, "rewards">): number[] =>
  rewards.map((r) => r.reduce((a, b) => a + b, 0));

/** Trains the policy in place. Emits one step event per rollout. */
export async function* trainCriticFree(
  inputs: CriticFreeInputs,
  options: CriticFreeOptions,
  method: Method,
): AsyncGenerator<TrainEvent> {
  const { actor, prompts, run } = inputs;
  const { maxSteps, promptsPerRollout, samplesPerPrompt } = options;
  const { stage } = method;
  if (prompts.length === 0) throw new UserError(`${stage} needs at least one prompt`);
  if (options.beta !== 0 && !inputs.reference)
    throw new UserError(`${stage} with a KL penalty needs a reference model`);
  const mixture = mixRewards(inputs.rewards, options.rewardWeights);
  const optimizer = new AdamW(actor.store, options);
  const trainees = { "": { model: actor, optimizer } };
  const restored = await begin(run, inputs.resume, trainees);
  const first = restored?.step ?? 0;
  const state: RolloutState = { klCoef: method.klInReward, normalizer: freshNormalizer() };
  const order = new PromptOrder(prompts.length, options.seed);
  const save = run && ((done: number) => checkpoint(run, done, trainees, {}));
  yield { type: "start", stage, step: first, maxSteps, parameters: actor.store.count };

  let last: Record<string, number> = {};
  for (let step = first; step < maxSteps; step++) {
    const started = now();
    const chosen = order.take(step * promptsPerRollout, promptsPerRollout);
    const collecting = collectRollout({ ...inputs, reward: mixture.reward }, chosen, step, state, {
      ...options,
      clipRangeScore: method.clipRangeScore,
      tempered: true,
      missingEosPenalty: 0,
      normalizeReward: false,
      klEstimator: "k1",
      clipWhat: "score",
    });
    const rollout = await orSaved(collecting, save, { first, done: step, saveSteps: options.saveSteps });
    const scored = { ...rollout, parts: mixture.parts() };
    const { lessons, dropped } = lessonsOf(scored, options, method);
    const updated = await learn(trainees[""], lessons, step, options, method);
    const done = step + 1;
    const metrics: Record<string, number> = {
      ...rollout.metrics,
      ...rewardMetrics(scored, Object.keys(inputs.rewards), samplesPerPrompt),
      ...updated,
      n_dropped: dropped,
    };
    if (lessons.length > 0) checkFinite(done, metrics, ["loss"]);
    last = metrics;
    const tokens = rollout.responses.reduce((n, r) => n + r.ids.length, 0);
    const epoch = (done * promptsPerRollout) / prompts.length;
    yield { type: "step", step: done, maxSteps, epoch, metrics, tokens, seconds: now() - started };
    if (options.showSamples > 0) yield { type: "samples", step: done, samples: rollout.samples };
    const stop = stopping(options);
    if (save && (stop || saveDue(options, done))) yield await save(done);
    if (stop) return optimizer.destroy();
  }
  if (run) await saveModels(run, { "": actor });
  optimizer.destroy();
  yield { type: "end", step: maxSteps, metrics: last };
}

/** One reward function that adds up several and remembers what each said last. */
function mixRewards(rewards: Readonly<Record<string, RewardFunction>>, weights: readonly number[] | null) {
  const functions = Object.values(rewards);
  if (functions.length === 0) throw new UserError("there is no reward to learn from");
  if (weights && weights.length !== functions.length) {
    throw new UserError(
      `reward_weights has ${weights.length} weights for ${functions.length} rewards: give one for each`,
    );
  }
  let parts: number[][] = [];
  const reward: RewardFunction = async (responses) => {
    parts = [];
    for (const one of functions) parts.push(await rewardsOf(one, responses));
    return responses.map((_, i) => parts.reduce((sum, own, k) => sum + (weights?.[k] ?? 1) * own[i], 0));
  };
  return { reward, parts: () => parts };
}

/** What is learned of a rollout. */
function lessonsOf(
  rollout: ScoredRollout,
  { samplesPerPrompt, maskTruncated }: CriticFreeOptions,
  method: Method,
): { lessons: Lesson[]; dropped: number } {
  const { responses, logProbs, refLogProbs } = rollout;
  const flat = withoutSpread(rollout.scores, samplesPerPrompt);
  const advantages = method.advantages(rollout);
  const lessons = responses.flatMap((response, i): Lesson[] => {
    if (maskTruncated && !response.ended) return [];
    if (method.dropGroupsWithoutSpread && flat[Math.floor(i / samplesPerPrompt)]) return [];
    const own = advantages[i];
    const perToken = typeof own === "number" ? new Float64Array(logProbs[i].length).fill(own) : own;
    return [{ response, logProbs: logProbs[i], refLogProbs: refLogProbs[i], advantages: perToken }];
  });
  return { lessons, dropped: responses.length - lessons.length };
}

function rewardMetrics(
  { responses, scores, parts }: ScoredRollout,
  names: readonly string[],
  group: number,
): Record<string, number> {
  const ended = responses.filter((r: Response) => r.ended);
  const each = names.length > 1 ? names.map((name, k) => [`rewards/${name}`, average(parts[k])]) : [];
  return {
    ...Object.fromEntries(each),
    reward_std: standardDeviation(scores),
    ...(group > 1 && { frac_reward_zero_std: average(withoutSpread(scores, group).map(Number)) }),
    mean_terminated_length: average(ended.map((r) => r.ids.length - r.promptLength)),
  };
}
