/** How good a policy is: proxy and gold reward, KL to where it started, lengths and diversity, on held-out prompts. */

import type { CausalLM } from "../nn/models.ts";
import type { TextTokenizer } from "../nn/text-tokenizer.ts";
import { UserError } from "../runtime/errors.ts";
import { streamId, uint32 } from "../runtime/rng.ts";
import type { Sequence } from "./batch.ts";
import type { RunFolder } from "./checkpoint.ts";
import { type ActingModels, actingIn } from "./environment/acting.ts";
import { episodeMetrics } from "./environment/evaluation.ts";
import { environmentReward } from "./environment/reward.ts";
import { type EnvironmentSettings, episodes } from "./environment/settings.ts";
import type { Sample } from "./events.ts";
import type { EvalResult } from "./loop.ts";
import { sampledKl } from "./measure.ts";
import { allResident } from "./offload.ts";
import { judged } from "./reward-failures.ts";
import { type RewardFunction, rewardsOf } from "./rewards.ts";
import { measuredAt, type RolloutInputs, type RolloutOptions, sampled } from "./rollout.ts";
import { lengthMetrics, type Prompt, policySampler, type Response, type Sampler, samplesOf } from "./sampler.ts";
import { evaluateSft } from "./sft.ts";
import { average, bestOfKl, standardDeviation } from "./stats.ts";
import { diversity } from "./text-stats.ts";

/** Options of `evaluatePolicy`; those of episodes where the policy acts in an environment. */
export interface EvaluateOptions extends Partial<EnvironmentSettings> {
  /** Of the responses that are drawn. */
  seed: number;
  /** Longest response in tokens. */
  responseLength: number;
  /** Default 1. */
  temperature?: number;
  /** Ids of the tokens that end a response. Default: the model's. */
  eosIds?: readonly number[];
  /** Responses per prompt; above 1 the best by reward is judged: best-of-n. Default 1. */
  bestOf?: number;
  /** Prompts that are drawn together. Default: what fits, or what the sampler says. */
  promptsPerJob?: number | null;
  /** Texts to report. Default 8. */
  showSamples?: number;
  /** An episode whose rewards come to so much is a success. Default: the best that the environment says there is. */
  successReward?: number | null;
  /** Bootstrap samples of the interval of episodes' mean reward; 0 gives none. Default 1000. */
  resamples?: number;
}

/** A policy to evaluate, and what it is measured with. */
export interface EvaluateInputs extends ActingModels {
  policy: CausalLM;
  tokenizer: TextTokenizer;
  prompts: readonly Prompt[];
  /** Draws the policy's responses. Default: the policy, here. */
  sampler?: Sampler;
  /**
   * Without one, there are no rewards among the metrics; best-of-n needs one. In an environment the default is what that gives:
   * `environmentReward`.
   */
  reward?: RewardFunction;
  /** KL is measured to this model. */
  reference?: CausalLM;
  /** The true reward, where there is one: reported beside the other. */
  gold?: (response: Response) => number;
}

/** The result of evaluating a policy: metrics by name, and some of the responses. */
export interface Evaluation {
  metrics: Record<string, number>;
  samples: Sample[];
  /** Why prompts were left out, whose environment failed. */
  warnings: string[];
}

/**
 * Samples one response to every prompt (or the best of n) and measures it. In an environment a response is an episode: metrics are then
 * also of its turns, with an interval of the mean reward and, where it is known what a success is, the rate of successes.
 * @throws UserError for best-of-n without a reward, and in an environment as `environmentSampler` does
 */
export async function evaluatePolicy(inputs: EvaluateInputs, options: EvaluateOptions): Promise<Evaluation> {
  const { policy, tokenizer, prompts, reference, gold } = inputs;
  const { bestOf = 1, temperature = 1, showSamples = 8, eosIds } = options;
  const acting = actingIn(inputs, null, inputs, null, episodes.pick(options));
  const { environment, reward = acting ? environmentReward : undefined } = inputs;
  if (bestOf > 1 && !reward) throw new UserError("the best of several responses is found by a reward: give one");
  const drawn = acting?.sampler ?? policySampler(policy, tokenizer);
  const { sampler = drawn, promptsPerJob = null } = { ...inputs, ...options };
  const all = await sampler(
    prompts,
    prompts.map((_, i) => i),
    {
      maxNewTokens: options.responseLength,
      samples: bestOf,
      temperature,
      seed: options.seed,
      iteration: 0,
      ...(eosIds && { eosIds }),
      promptsPerJob,
    },
  );
  const scores = reward ? await rewardsOf(reward, all) : null;
  // An environment that fails may leave prompts out.
  const best = new Map<number, number>();
  all.forEach(({ prompt }, i) => {
    const before = best.get(prompt);
    if (before === undefined || (scores && scores[i] > scores[before])) best.set(prompt, i);
  });
  const kept = [...best.values()];
  const responses = kept.map((i) => all[i]);
  const rewards = scores && kept.map((i) => scores[i]);
  const truth = gold ? responses.map((r) => gold(r)) : null;
  const metrics: Record<string, number> = {
    ...(rewards && { reward: average(rewards), reward_std: standardDeviation(rewards) }),
    ...(truth && { gold: average(truth), gold_std: standardDeviation(truth) }),
    ...(environment &&
      rewards &&
      episodeMetrics(responses, rewards, {
        successReward: options.successReward ?? environment.best ?? null,
        resamples: options.resamples ?? 1000,
        seed: options.seed,
      })),
    ...(reference && { kl: bestOf > 1 ? bestOfKl(bestOf) : await sampledKl(policy, reference, responses) }),
    ...lengthMetrics(responses),
    ...diversity(responses.map((r) => r.text)),
    prompts: responses.length,
    ...(responses.length < prompts.length && { dropped: prompts.length - responses.length }),
  };
  const warnings: string[] = [];
  await acting?.tell(async (event) => void (event.type === "warning" && warnings.push(event.text)), 0);
  return { metrics, samples: samplesOf(responses, rewards, truth, showSamples), warnings };
}

const ROWS = 5; // in the table; the file has all

/**
 * One response of a policy in training to each prompt, sampled as in training, judged and written down: all of them go into
 * the run's folder as `eval_out-step{n}.jsonl`, a line `{prompt, generated, reward}` for each. Every evaluation draws the
 * same random numbers.
 * @param inputs `reference`: what the KL of these responses is measured to (`eval_kl`); without one there is none.
 * `remembered`: held-out sequences whose loss shows what is forgotten (`eval_ptx_loss`)
 * @param done steps done before
 */
export async function evaluateResponses(
  inputs: Omit<RolloutInputs, "reference"> & { reference?: CausalLM | null; remembered?: readonly Sequence[] },
  done: number,
  options: RolloutOptions,
  folder?: RunFolder,
): Promise<EvalResult> {
  const { prompts, gold, within = allResident } = inputs;
  const one = { ...options, numGenerations: 1, seed: uint32(options.seed, streamId("evaluation")) };
  const everyPrompt = prompts.map((_, i) => i);
  const drawn = await within(["policy"], () => sampled(inputs, everyPrompt, 0, one));
  const { kept, scores } = await within(["reward"], () => judged(inputs.rewards, drawn, options));
  const responses = kept.map((i) => drawn[i]);
  const lines = responses.map((r, i) => ({ prompt: r.promptText, generated: r.text, reward: scores[i] }));
  if (folder) {
    const text = lines.map((line) => `${JSON.stringify(line)}\n`).join("");
    await folder.files.writeFile(`${folder.path}/eval_out-step${done}.jsonl`, text);
  }
  const { policy, reference, remembered = [] } = inputs;
  const lengths = lengthMetrics(responses);
  const forgetting = remembered.length > 0 ? await within(["policy"], () => evaluateSft(policy, remembered)) : null;
  const kl = reference
    ? await within(["policy", "reference"], () => sampledKl(policy, reference, drawn, measuredAt(options)))
    : null;
  const metrics = {
    eval_reward: average(scores),
    eval_reward_std: standardDeviation(scores),
    ...(gold && { eval_gold: average(responses.map((r) => gold(r))) }),
    ...(kl !== null && { eval_kl: kl }),
    eval_mean_length: lengths.mean_length,
    eval_eos_rate: lengths.eos_rate,
    ...(options.onRewardError === "drop" && { eval_n_unjudged: drawn.length - responses.length }),
    // An environment that fails may leave some out.
    ...(drawn.length < prompts.length && { eval_dropped: prompts.length - drawn.length }),
    ...(forgetting && { eval_ptx_loss: forgetting.eval_loss }),
  };
  return { metrics, rows: lines.slice(0, ROWS) };
}
