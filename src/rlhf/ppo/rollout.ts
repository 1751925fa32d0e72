/**
 * A rollout of policy-gradient training: responses are sampled, scored, and measured under the policy and the reference;
 * then per-token rewards are shaped. It knows of no critic and of no advantages, so that every such method stands on it.
 */
import type { Tokenizer } from "../../data/tokenizer.ts";
import type { CausalLM } from "../../nn/models.ts";
import type { Sample } from "../events.ts";
import {
  type Prompt,
  type Response,
  type RewardFunction,
  responseLogProbs,
  rewardsOf,
  sampleResponses,
  withinLength,
} from "../rollout.ts";
import {
  average,
  type KlEstimator,
  klTerm,
  type Normalizer,
  normalize,
  shapeRewards,
  updateRunning,
  whiten,
} from "../stats.ts";
import { distinctN } from "../text-stats.ts";
import { allResident, type Within } from "./offload.ts";

/** Who takes part in a rollout. */
export interface RolloutInputs {
  actor: CausalLM;
  /** Samples instead of the actor, which still measures: a moving average of it. */
  sampler?: CausalLM;
  /** What the KL divergence is measured to; null measures none. It must not be trained with the actor. */
  reference: CausalLM | null;
  reward: RewardFunction;
  tokenizer: Tokenizer;
  prompts: readonly Prompt[];
  /** The true reward, where there is one: reported, never trained on. */
  gold?: (response: Response) => number;
  /** Brings models to the GPU for the time that they work. Default: they are there. */
  within?: Within;
}

export interface RolloutOptions {
  seed: number;
  /** Responses per prompt. */
  samplesPerPrompt: number;
  /** Response tokens at most. */
  responseLength: number;
  /** Tokens of prompt and response together at most; null leaves that to the model's context. */
  maxLength?: number | null;
  /** Until a response has this many tokens, it cannot end. Default 0. */
  minNewTokens?: number;
  temperature: number;
  topK: number;
  topP: number;
  /** See `SamplingParams`. Default 0. */
  minP?: number;
  /** See `SamplingParams`. Default 1. Log-probabilities are measured without it. */
  repetitionPenalty?: number;
  /** The log-probabilities of a rollout use the sampling temperature ("rollout": these, but not those of the update). */
  tempered: boolean | "rollout";
  /** Subtracted from the score of a response that does not end by itself. */
  missingEosPenalty: number;
  /** Scores are normalised by running statistics, or by the reward model's own, which then is the reward function's work. */
  normalizeReward: boolean;
  rewardNormalizer?: "model" | "running";
  /** The KL penalty is part of the rewards, or of the loss. Default "reward". */
  klPlacement?: "reward" | "loss";
  klEstimator: KlEstimator;
  /** Clamps the estimate of each token's KL to plus or minus this. Default: off. */
  klClamp?: number | null;
  /** The clip on scores applies to the score alone, or to every token's shaped reward. */
  clipWhat: "score" | "reward";
  clipRangeScore: number;
  /** "after": the score has a slot of its own after the last token, in responses shorter than `responseLength`. */
  scoreSlot?: "last" | "after";
  /** Shaped rewards are divided by their standard deviation over the rollout, the mean kept (TRL). Default false. */
  whitenRewards?: boolean;
  /** Responses whose texts are reported. */
  showSamples: number;
}

/** What a rollout changes and the next one needs. */
export interface RolloutState {
  klCoef: number;
  normalizer: Normalizer;
}

/** Responses with what was measured on them; arrays by response, then by response token. */
export interface Rollout {
  responses: Response[];
  /** As the reward function gave them. */
  scores: number[];
  /** Under the policy that is trained, before it is. */
  logProbs: Float32Array[];
  /** Under the reference; without one, the same. */
  refLogProbs: Float32Array[];
  /** Shaped: the score at the end, minus KL everywhere; one longer than the response where the score has its own slot. */
  rewards: Float64Array[];
  metrics: Record<string, number>;
  samples: Sample[];
}

/**
 * Samples responses to the chosen prompts and measures them.
 * @param chosen places in `inputs.prompts`
 * @param iteration keys the random numbers, together with the seed
 * @param state is brought up to date
 */
export async function collectRollout(
  inputs: RolloutInputs,
  chosen: readonly number[],
  iteration: number,
  state: RolloutState,
  options: RolloutOptions,
): Promise<Rollout> {
  const { actor, reference, gold, within = allResident } = inputs;
  const measured = options.tempered ? options.temperature : 1;
  const { responses, own, refLogProbs } = await within(["actor", "average", "reference"], async () => {
    const responses = await sampled(inputs, chosen, iteration, options);
    const own = await responseLogProbs(actor, responses, measured);
    const other = reference ? (await responseLogProbs(reference, responses, measured)).logProbs : own.logProbs;
    return { responses, own, refLogProbs: other };
  });
  const scores = await within(["reward"], () => rewardsOf(inputs.reward, responses));
  const { logProbs, entropy } = own;

  const limit = options.klClamp ?? Number.POSITIVE_INFINITY;
  const kl = logProbs.map((l, i) => l.map((lp, t) => klTerm(lp - refLogProbs[i][t], options.klEstimator, limit)));
  const final = finalScores(scores, responses, state, options);
  const klCoef = options.klPlacement === "loss" ? 0 : state.klCoef;
  const shaped = kl.map((terms, i) =>
    shapeRewards(terms, final[i], {
      klCoef,
      clipRange: options.clipRangeScore,
      clipWhat: options.clipWhat,
      slot: options.scoreSlot === "after" && terms.length < options.responseLength ? "after" : "last",
    }),
  );
  const rewards = options.whitenRewards ? whiten(shaped, { unbiased: true, keepMean: true }) : shaped;
  const lengths = logProbs.map((l) => l.length);
  const truth = gold ? responses.map((r) => gold(r)) : null;
  const texts = responses.map((r) => r.text);
  const klSums = kl.map(total);
  const metrics = {
    reward: average(scores),
    ...(truth && { gold: average(truth) }),
    ...(reference && {
      kl: average(klSums),
      kl_per_token:
        klSums.reduce((a, b) => a + b, 0) /
        Math.max(
          1,
          lengths.reduce((a, b) => a + b, 0),
        ),
      kl_reward: -klCoef * average(klSums),
    }),
    reward_with_kl_penalty: average(shaped.map(total)),
    ...(options.normalizeReward && { norm_reward: average(final) }),
    entropy: average(entropy.map(average)),
    // Of whole responses: minus their log-probability.
    sampled_entropy: -average(logProbs.map(total)),
    mean_length: average(lengths),
    max_length: Math.max(...lengths),
    min_length: Math.min(...lengths),
    num_eos_tokens: responses.filter((r) => r.ended).length,
    eos_rate: average(responses.map((r) => Number(r.ended))),
    distinct_1: distinctN(texts, 1),
    distinct_2: distinctN(texts, 2),
    kl_coef: state.klCoef,
  };
  const samples = responses.slice(0, options.showSamples).map((r, i) => ({
    prompt: r.promptText,
    response: r.text,
    reward: scores[i],
    ...(truth && { gold: truth[i] }),
  }));
  return { responses, scores, logProbs, refLogProbs, rewards, metrics, samples };
}

const total = (values: ArrayLike<number>): number => average(values) * values.length;

/** Responses to the chosen prompts, as the options say. `iteration` keys the random numbers, together with the seed. */
export async function sampled(
  { actor, sampler = actor, tokenizer, prompts }: Pick<RolloutInputs, "actor" | "sampler" | "tokenizer" | "prompts">,
  chosen: readonly number[],
  iteration: number,
  options: RolloutOptions,
): Promise<Response[]> {
  const { temperature, topK, topP, minP, repetitionPenalty, minNewTokens, seed } = options;
  const responses = await sampleResponses(
    sampler,
    tokenizer,
    chosen.map((i) => prompts[i]),
    chosen,
    {
      maxNewTokens: options.responseLength,
      ...(minNewTokens && { minNewTokens }),
      samples: options.samplesPerPrompt,
      temperature,
      topK,
      topP,
      ...(minP && { minP }),
      ...(repetitionPenalty && { repetitionPenalty }),
      seed,
      iteration,
    },
  );
  const { maxLength = null } = options;
  return maxLength === null ? responses : responses.map((r) => withinLength(r, maxLength, tokenizer));
}

/** Scores as they enter the rewards: without the penalty for responses that were cut off, normalised. */
function finalScores(
  raw: readonly number[],
  responses: readonly Response[],
  state: RolloutState,
  { missingEosPenalty, normalizeReward, rewardNormalizer = "running" }: RolloutOptions,
): number[] {
  const scores = raw.map((score, i) => (responses[i].ended ? score : score - missingEosPenalty));
  if (!normalizeReward || rewardNormalizer === "model") return scores;
  state.normalizer = updateRunning(state.normalizer, scores);
  return scores.map((s) => normalize(state.normalizer, s));
}
